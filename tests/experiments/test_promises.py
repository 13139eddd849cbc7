"""Many promises on small pools: the table and the result are all there, and promises are broken no more often than they may."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import experiments.promises as experiment
from jaxroute import RoutingTable, TableError, TrainConfig


def small_pool(rows: int = 1200) -> experiment.Pool:
    """A large model that is right in 80 percent, and a small one that the estimates say where it is as good."""
    generator = np.random.default_rng(5)
    easy = generator.random(rows)
    chance = np.stack([0.8 - 0.5 * (easy < 0.5), np.full(rows, 0.8)], axis=1)
    table = RoutingTable(
        prompts=[f"question {row}" for row in range(rows)],
        models=["small", "large"],
        quality=(generator.random(chance.shape) < chance).astype(float),
        cost_usd=np.array([0.001, 0.01]),
    )
    return experiment.Pool("mbpp", table, chance, np.broadcast_to(table.cost_usd, chance.shape), 1)


def test_promises_are_kept_and_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_pools", lambda config: iter([small_pool()]))
    config = experiment.Config(output=tmp_path, splits=60, within=(0.05, 0.1), error=(0.1,), rows=(150, 500), pools=("mbpp",))
    result = experiment.main(config)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    # Two bounds, two promises, two numbers of rows.
    assert len(lines) == 8 and {line["bound"] for line in lines} == {"exact", "betting"}
    for line in lines:
        # The binomial error of 60 draws is 3.9 percent.
        assert float(line["broken"]) <= 0.1 + 3 * 0.039
        assert 1.0 <= float(line["cost"]) <= 10.0 + 1e-9
    by_rows = {line["rows"]: float(line["cost"]) for line in lines if line["bound"] == "exact" and line["within"] == "0.1"}
    assert by_rows["500"] < by_rows["150"] and by_rows["500"] < 7
    assert result["mbpp_violations_eps10_delta10"] == result["mbpp_violations_eps10_delta10_500"]


def test_a_real_pool_runs_whole(data: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXROUTE_DATA", str(data))
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    config = experiment.Config(
        output=tmp_path / "run", splits=5, within=(0.1,), error=(0.1,), rows=(64,), pools=("mbpp",),
        train_others=TrainConfig(encoder=str(tiny_encoder)),
    )  # fmt: skip
    result = experiment.main(config)
    assert 0 <= result["mbpp_violations_eps10_delta10"] <= 1 and result["mbpp_cost_eps10_delta10_64"] > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"pools": ("gsm8k",)}, "pools=gsm8k"), ({"splits": 0}, "splits=0"), ({"error": (1.5,)}, "within and error")],
)
def test_wrong_configs_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(TableError, match=message):
        experiment.Config(**wrong)
