"""All routers on one table: what the experiment hands over is what `jaxroute evaluate` judges."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

import experiments.all_routers as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute.contest.evaluate import EvaluateConfig, chosen_routers


def test_some_routers_on_one_table(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(150)), test=pool.test.select(range(0, 4000, 40)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    chosen = EvaluateConfig(router=("tensoropera_mlp:epochs=1", "cascade"), output=tmp_path / "run", shuffles=20)
    evaluation = experiment.main(experiment.Config(evaluate=chosen, resamples=40))
    names = {one.name for one in evaluation.judged}
    assert names == {*chosen.router, "best_single", "random", "prompt_length", "domain_mean", "zero_router", "oracle"}
    assert (tmp_path / "run" / "report.html").stat().st_size < 3_000_000
    with (tmp_path / "run" / "table.csv").open(newline="") as file:
        assert {row["router"] for row in csv.DictReader(file)} == names


def test_every_router_of_the_table_exists() -> None:
    kinds = chosen_routers(experiment.Config().evaluate)
    assert [kind.spec for kind in kinds] == list(experiment.ROUTERS)
