"""Bars are drawn on standard error, and not where somebody does without them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxroute.progress import progress_bar, without_bars


def work() -> None:
    for _ in progress_bar(range(3), desc="long work"):
        pass


def test_bars_are_drawn_outside_of_the_block_only(capsys: pytest.CaptureFixture[str]) -> None:
    with without_bars():
        work()
        # Another thread's work is its own.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
    assert capsys.readouterr().err.count("3/3") == 1
    work()
    assert capsys.readouterr().err.count("3/3") == 1
    with pytest.raises(ValueError), without_bars():
        raise ValueError
    work()
    assert "long work" in capsys.readouterr().err
