"""A conversation stays with its model as long as the prompt cache saves more than another model would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.endpoints.usage import Usage
from jaxroute.serve.asking import Asked
from jaxroute.serve.conversations import KEPT_SECONDS, Conversations
from jaxroute.serve.shared import Shared, Worker
from tests.serve.proxies import MESSAGES, FixedChooser, proxy

CACHING = Endpoint("a", "http://x/v1", "a", TokenPrice(2.0, 8.0, cached_input=0.5))


def asked(*texts: str, kind: str = "chat") -> Asked:
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    field = {"messages": turns} if kind == "chat" else {"prompt": "a"}
    return Asked.read(kind, json.dumps({"model": "auto", **field}).encode())  # pyright: ignore[reportArgumentType]


def test_what_goes_on_is_found_for_some_minutes() -> None:
    now = [0.0]
    conversations = Conversations(clock=lambda: now[0])
    conversations.answered(asked("hello"), "alice", "a", Usage(1_000, None, 5, None))
    further = asked("hello", "hi", "and now?")
    warm = conversations.find(further, "alice")
    assert warm is not None and warm.saved_usd(CACHING) == pytest.approx(1_000 * 1.5 / 1e6)
    assert warm.saved_usd(Endpoint("b", "http://x/v1", "b", CACHING.price)) == 0
    assert warm.saved_usd(Endpoint("a", "http://x/v1", "a", TokenPrice(2.0, 8.0))) == 0
    for other in (asked("hello"), asked("hallo", "hi", "and now?"), asked("a", kind="completion")):
        assert conversations.find(other, "alice") is None
    assert conversations.find(further, "bob") is None and conversations.find(further, None) is None
    # The longest beginning counts.
    conversations.answered(further, "alice", "b", Usage(1_200, None, 5, None))
    longer = conversations.find(asked("hello", "hi", "and now?", "well", "go on"), "alice")
    assert longer is not None and longer.model == "b" and longer.tokens == 1_200
    now[0] = KEPT_SECONDS + 1
    assert conversations.find(further, "alice") is None


def test_a_turn_that_comes_to_another_worker_finds_its_conversation(tmp_path: Path) -> None:
    workers = [Shared(Worker(number, 2, tmp_path)) for number in range(2)]
    one, other = (Conversations(shared) for shared in workers)
    further = asked("hello", "hi", "and now?")
    assert other.find(further, "alice") is None
    one.answered(asked("hello"), "alice", "a", Usage(1_000, None, 5, None))
    found = other.find(further, "alice")
    assert found is not None and (found.model, found.tokens) == ("a", 1_000)
    # The longest beginning, whoever has answered it; one's own client's alone.
    other.answered(further, "alice", "b", Usage(1_200, None, 5, None))
    longer = one.find(asked("hello", "hi", "and now?", "well", "go on"), "alice")
    assert longer is not None and longer.model == "b" and other.find(further, "bob") is None
    # Where the file cannot be used, requests are answered without it.
    workers[0].close()
    assert one.find(further, "alice") is None
    one.answered(further, "alice", "b", Usage(1_200, None, 5, None))
    workers[1].close()


def test_it_stays_until_another_model_is_worth_more(tmp_path: Path) -> None:
    quality = {"sim-nano": 0.50, "sim-medium": 0.55}
    chooser = FixedChooser(quality, {"sim-nano": 0.0, "sim-medium": 1e-5})
    with proxy(tmp_path, chooser=chooser, multiplier=10_000.0) as one:
        text = (tmp_path / "models.yaml").read_text()
        before, after = text.split("  sim-medium:")
        input_price = after.split("input: ")[1].split(",")[0]
        after = after.replace(f"input: {input_price},", "input: 5, cached_input: 0.1,", 1)
        (tmp_path / "models.yaml").write_text(f"{before}  sim-medium:{after}")
        one.read_again()

        def model(messages: list) -> str:
            return one.post({"model": "auto", "messages": messages}).headers["x-jaxroute-model"]

        # 0.55 - 10,000 x 0.00001 is less than 0.5; a beginning of 9 tokens that is cached saves more than half of that.
        first = MESSAGES
        assert model(first) == "sim-nano"
        quality["sim-medium"] = 0.65
        assert model(first) == "sim-medium"
        quality["sim-medium"] = 0.58
        further = [*first, {"role": "assistant", "content": "42"}, {"role": "user", "content": "And 7 more?"}]
        assert model([{"role": "user", "content": "Something else?"}]) == "sim-nano"
        assert model(further) == "sim-medium"
        quality["sim-nano"] = 0.9
        assert model(further) == "sim-nano"
