"""TensorOpera's table on a small simulated pool: every measure, random's spread, nobody better than the optimum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import experiments.tensoropera_tables as experiment


def test_every_measure_of_every_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    routers = ("tensoropera_mlp:epochs=1", "domain_mean")
    config = experiment.Config(output=tmp_path / "run", router=routers, queries=240, budgets=(0.3,), resamples=40)
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "figure_6.png").stat().st_size > 5000
    within = "domain_mean, 30% of that money"
    for router in (*routers, within):
        assert result[f"{router} quality"] <= result["optimal quality"]
        assert result[f"{router} total_cost_usd"] >= result["optimal total_cost_usd"]
        assert result[f"{router} throughput"] <= result["optimal throughput"]
        assert f"{router} negative_log_likelihood" not in result
    assert result[f"{within} total_cost_usd"] < 0.6 * result["domain_mean total_cost_usd"]
    assert 0 < result["random quality spread"] < 0.2
    assert "NLL" not in capsys.readouterr().out
