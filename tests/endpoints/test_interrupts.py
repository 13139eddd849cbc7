"""Ctrl-C: the first one lets what is under way end, the second one gives it up."""

from __future__ import annotations

import asyncio
import signal

import pytest

from jaxroute.endpoints.interrupts import given_up, interrupted_by
from jaxroute.errors import LedgerError


@pytest.mark.parametrize("presses", [0, 1, 2])
def test_the_first_ctrl_c_stops_and_the_second_gives_up(presses: int) -> None:
    seen: list[str] = []

    async def work() -> None:
        with interrupted_by(lambda: seen.append("stopped")):
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0.01)
            seen.append("ended")

    assert given_up(work()) == (presses == 2)
    assert seen == {0: ["ended"], 1: ["stopped", "ended"], 2: ["stopped"]}[presses]


def test_a_ledger_that_cannot_be_written_says_that_the_same_command_resumes() -> None:
    async def work() -> None:
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError, match=r"the disk is full\. What is stored is kept: the same command resumes from it"):
        given_up(work())
