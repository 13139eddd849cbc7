"""Models that ask not to be asked for a while: the next best answers, and every worker knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxroute.serve.pauses import Pauses
from jaxroute.serve.shared import Shared, Worker
from tests.serve.proxies import MESSAGES, proxy

CHAT = {"model": "auto", "messages": MESSAGES}


def test_a_model_that_asks_to_wait_is_tried_once_and_not_again(tmp_path: Path) -> None:
    with proxy(tmp_path) as one:
        one.simulation.next_faults.append("rate_limit:30")
        replies = [one.post(CHAT) for _ in range(3)]
        assert {reply.headers["x-jaxroute-model"] for reply in replies} == {"sim-medium"}
        assert [reply.headers["x-jaxroute-tries"] for reply in replies] == ["2", "1", "1"]
        # Whoever asks for it by its name still asks it.
        assert one.post({**CHAT, "model": "sim-large"}).status == 200


@pytest.mark.parametrize("several", [False, True])
def test_what_one_worker_is_told_all_know_until_it_is_over(tmp_path: Path, several: bool) -> None:
    clock = SimpleNamespace(now=1_000.0)
    shared = [Shared(Worker(number, 2, tmp_path)) for number in range(2)] if several else [None]
    one, other = (Pauses(each, clock=lambda: clock.now) for each in (shared[0], shared[-1]))
    other = other if several else one
    one.asked("sim-large", 30.0)
    one.asked("sim-nano", 10.0)
    assert other.among(["sim-large", "sim-medium", "sim-nano"]) == {"sim-large", "sim-nano"}
    clock.now += 20
    assert other.among(["sim-large", "sim-nano"]) == {"sim-large"}
    # A later word replaces an earlier one.
    other.asked("sim-large", 0.0)
    assert one.among(["sim-large"]) == set()
    for each in shared:
        if each is not None:
            each.close()
