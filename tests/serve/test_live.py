"""Estimates of live requests: those of the batch path, read off the event loop, and by length alone when too many wait."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.live import LiveConfig
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.predictor.pricing import Pricing
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate
from jaxroute.serve.live import LiveChooser, SizeTable, is_conversation
from tests.batch.scored import MODELS, random_predictor
from tests.encoders.test_live import compilations

CONFIG = LiveConfig(
    longest=64, lengths=(16,), rows=(1, 2), tokens_at_once=32, chunks=(16, 48), slots=(256,), memory_mb=1.0, dtype="float32"
)
QUESTION = "What is 12 plus 30?"
TALK = ["You are terse.", "Name a colour.", "Red.", "And another?"]
ROLES = ["system", "user", "assistant", "user"]


def asked(*turns: str) -> Asked:
    """One user's question, or a conversation that begins with instructions."""
    roles = ROLES if len(turns) > 1 else ["user"]
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return Asked.read("chat", json.dumps({"model": "auto", "messages": messages}).encode())


@pytest.fixture(scope="module")
def chooser(tiny_encoder: Path) -> Iterator[LiveChooser]:
    from dataclasses import replace

    predictor = random_predictor(tiny_encoder, FeatureConfig(layers=(2,)))
    predictor = replace(predictor, pricing=Pricing(models=MODELS, mean_cost_usd=[1e-5, 1e-4, 1e-3]))
    made = LiveChooser(predictor, endpoints(), CONFIG, patience_seconds=60.0)
    made.warm()
    yield made
    made.close()


def endpoints() -> dict[str, Endpoint]:
    return {name: Endpoint(name, "http://127.0.0.1", name, TokenPrice(1.0, 2.0)) for name in MODELS}


CANDIDATES = [Candidate(one, 1.0) for one in endpoints().values()]


async def qualities(chooser: LiveChooser, *requests: Asked) -> np.ndarray:
    """`(requests, models)`, all asked at once."""
    orders = await asyncio.gather(*(chooser.rank(one, CANDIDATES, 0.0, None) for one in requests))
    return np.array([[{one.candidate.model: one.quality for one in order}[model] for model in MODELS] for order in orders])


def test_estimates_are_those_of_the_batch_path(chooser: LiveChooser, fresh_cache: Path):
    requests = [asked(QUESTION), asked(*TALK[:2]), asked(*TALK), asked("Why?"), asked(QUESTION)]
    found = asyncio.run(qualities(chooser, *requests))
    expected = chooser.predictor.estimate([one.prompt for one in requests])
    np.testing.assert_allclose(found, expected.quality, rtol=1e-4)
    (order,) = [asyncio.run(chooser.rank(asked(QUESTION), CANDIDATES, 0.0, None))]
    assert {one.candidate.model: one.cost_usd for one in order} == pytest.approx(
        dict(zip(MODELS, expected.cost_usd[0], strict=True))
    )


def test_a_longer_conversation_pays_for_its_new_tokens(chooser: LiveChooser):
    assert chooser.reader.conversations is not None
    before = chooser.reader.conversations.hits
    asyncio.run(qualities(chooser, asked(*TALK[:2])))
    asyncio.run(qualities(chooser, asked(*TALK)))
    assert chooser.reader.conversations.hits > before


def test_no_request_compiles_anything(chooser: LiveChooser):
    with compilations() as found:
        asyncio.run(qualities(chooser, *(asked(QUESTION * times) for times in range(1, 9)), asked(*TALK), asked("x" * 900)))
    assert not found


def test_what_lives_at_the_start_is_never_looked_through_again(chooser: LiveChooser):
    assert chooser.models
    assert gc.get_freeze_count() > 10 * len(gc.get_objects(2))


def test_too_many_are_ranked_by_their_length(chooser: LiveChooser, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chooser, "patience_seconds", -1.0)
    before, read = chooser.without_estimates, chooser.reader.prompts
    found = asyncio.run(qualities(chooser, *[asked(QUESTION)] * 20))
    assert chooser.without_estimates == before + 20 and chooser.reader.prompts == read
    assert np.isfinite(found).all() and chooser.figures()["routed_without_estimates_total"] == before + 20


def test_what_cannot_be_read_is_ranked_by_its_length(chooser: LiveChooser):
    before = chooser.without_estimates
    # The tokenizer knows no tokens for it, or JSON has brought half of a pair.
    broken = Asked.read("chat", b'{"model": "auto", "messages": [{"role": "user", "content": "a\\ud83d"}]}')
    assert len(asyncio.run(chooser.rank(broken, CANDIDATES, 0.0, None))) == len(MODELS)
    assert len(asyncio.run(chooser.rank(asked(" "), CANDIDATES, 0.0, None))) == len(MODELS)
    assert chooser.without_estimates > before


def test_the_waiting_are_counted_down_to_nothing(chooser: LiveChooser):
    async def some_give_up() -> None:
        tasks = [asyncio.create_task(chooser.rank(asked(f"{QUESTION} {n}"), CANDIDATES, 0.0, None)) for n in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await chooser.rank(asked(QUESTION), CANDIDATES, 0.0, None)

    asyncio.run(some_give_up())
    assert chooser.reader.wait_seconds == 0


def test_of_a_text_of_megabytes_the_ends_are_read_alone(chooser: LiveChooser, monkeypatch: pytest.MonkeyPatch):
    reader, found = chooser.reader, []
    long = " ".join(f"{QUESTION} {number}" for number in range(reader._most_characters // 10))
    token_ids = reader.live.token_ids
    monkeypatch.setattr(reader.live, "token_ids", lambda texts: found.append(len(texts[0])) or token_ids(texts))
    counts: list[int] = []
    finish = reader.finish
    monkeypatch.setattr(reader, "finish", lambda features, tokens: counts.extend(tokens) or finish(features, tokens))
    ends = asyncio.run(qualities(chooser, asked(long)))
    monkeypatch.setattr(type(reader), "_most_characters", len(long))
    whole = asyncio.run(qualities(chooser, asked(long)))
    assert len(found) == 2 and found[0] < len(long) / 2 and found[1] == len(long)
    np.testing.assert_allclose(ends, whole, rtol=1e-6)
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


def test_a_table_by_length_learns_what_was_read():
    table = SizeTable(lambda size: (np.array([0.5]), np.array([float(size)])))
    assert table.of(100)[0] == [0.5]
    for _ in range(100):
        table.add(100, (np.array([0.9]), np.array([1.0])))
    assert table.of(120)[0] == pytest.approx([0.9], abs=0.03) and table.of(10)[0] == [0.5]


def test_conversations_have_several_messages():
    assert is_conversation(asked(*TALK[:2])) and not is_conversation(asked(QUESTION))
