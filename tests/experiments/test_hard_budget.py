"""The experiment runs whole: the budget holds at every batch, and its numbers are those that the issue names."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.hard_budget import Config, main


def test_the_budget_holds_and_the_numbers_are_written(data: Path, tmp_path: Path) -> None:
    result = main(Config(output=tmp_path, seeds=1, queries=150, training_queries=300, router="domain_mean", resamples=50))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert -0.2 < result["worst_overspend"] <= 1e-9
    assert 0.8 < result["least_used"] <= result["mean_used"] <= 1
    for name in ("", "simulated_", "paretobandit_"):
        gain = [result[f"{name}quality_over_open_loop{end}"] for end in ("_low", "", "_high")]
        assert gain == sorted(gain) and gain[0] > -0.1
    assert result["paretobandit_open_loop_worst_overspend"] > 0.02
    assert (tmp_path / "hard_budget.png").stat().st_size > 10_000 and (tmp_path / "table.csv").is_file()
