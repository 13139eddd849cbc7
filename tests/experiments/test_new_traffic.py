"""New traffic in a corner of the real data: every number is there, and outcomes of the new prompts are of use."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

import experiments.new_traffic as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute import RoutingTable, TableError, TrainConfig


def table(first: int, levels: list[float]) -> RoutingTable:
    """Models of which one costs more, on prompts that say nothing."""
    quality = np.random.default_rng(first).binomial(1, levels, (120, 3)).astype(float)
    prompts = [f"prompt {row}" for row in range(first, first + 120)]
    return RoutingTable(prompts, ["a", "b", "c"], quality, np.array([1.0, 1.0, 3.0]))


def test_a_small_run_writes_everything_and_levels_are_learnt(
    data: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    law = np.isin(pool.train.domains, experiment.GROUPS["law"])
    few = np.concatenate([np.flatnonzero(law)[:40], np.flatnonzero(~law)[:120]])
    small = dataclasses.replace(pool, train=pool.train.select(few), test=pool.test.select(range(60)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    # One task in which b is best, and one in which it is worst.
    tasks = {"arc_challenge": table(0, [0.3, 0.8, 0.5]), "mbpp": table(1000, [0.6, 0.1, 0.5])}
    monkeypatch.setattr(
        experiment, "routerbench_parts", lambda name: (tasks[name].select(range(80)), tasks[name].select(range(80, 120)))
    )
    training = TrainConfig(encoder=str(tiny_encoder), folds=2, penalties=(3.0, 0.3), corrections=(0.3,))
    config = experiment.Config(
        output=tmp_path, counts=(10, 50, 90), draws=2, groups=("law",), train=training, task_encoder=str(tiny_encoder)
    )
    result = experiment.main(config)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert all(math.isfinite(float(value)) for value in result.values())
    for name in ("gain_mmlu_law_10_shifted", "loss_mbpp_to_arc_50_means", "error_arc_to_mbpp_10_before"):
        assert name in result
    # Too many to leave enough to judge on.
    assert "gain_arc_to_mbpp_90_shifted" not in result
    for name in ("arc_to_mbpp", "mbpp_to_arc"):
        assert float(result[f"loss_{name}_50_shifted"]) < float(result[f"loss_{name}_50_before"]) - 0.05
        assert float(result[f"gain_{name}_50_shifted"]) > float(result[f"gain_{name}_50_before"]) + 5


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"counts": (0,)}, {"groups": ("cookery",)}])
def test_what_cannot_be_run_is_named(wrong: dict) -> None:
    with pytest.raises(TableError, match="must be"):
        experiment.Config(**wrong)
