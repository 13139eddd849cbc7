"""A collection that is killed twenty times ends as an unbroken one, and every picodollar is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.collect_kills import Config, run


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_repeated_or_paid_twice(tmp_path: Path) -> None:
    account = run(Config(), tmp_path)
    assert account.problems == []
    assert (account.cells, account.kills, account.asked_again, account.twice) == (10_000, 20, 0, 0)
    assert account.killed_calls > 20
    assert account.settled_pico == account.stored_pico + account.lost_pico + account.killed_pico
