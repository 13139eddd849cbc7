"""The benchmark of scoring measures what it says: a process of its own loads a checkpoint and estimates one prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scoring import Config, second_start


@pytest.mark.slow
def test_a_second_start_is_the_sum_of_its_parts(tiny_encoder: Path) -> None:
    seconds = second_start(Config(encoder=str(tiny_encoder)))
    parts = [float(seconds[f"second_start_{part}_seconds"]) for part in ("imports", "checkpoint", "weights", "estimate")]
    assert min(parts) > 0
    assert seconds["second_start_seconds"] == pytest.approx(sum(parts))
