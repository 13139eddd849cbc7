"""Routoo's tables on a corner of the real data: steps in order, numbers that agree with each other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import experiments.routoo_tables as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute import TrainConfig
from jaxroute.encoders.features import FeatureConfig


def test_every_step_from_the_paper_to_ours(
    data: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(200)), test=pool.test.select(range(0, 4000, 16)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    ours = TrainConfig(encoder=str(tiny_encoder), features=FeatureConfig(layers=(2,)), folds=2, penalties=(3.0, 0.3))
    paper = dataclasses.replace(ours, features=FeatureConfig(layers=(2,), pooling="last"), head="difference")
    result = experiment.main(experiment.Config(output=tmp_path / "run", ours=ours, paper=paper, resamples=40))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    for name in ("figure_2.png", "figures_3_4.png", "table_2.png"):
        assert (tmp_path / "run" / name).stat().st_size > 5000
    # Of right or wrong nothing is left for alpha to weigh.
    letter = {result[f"argmax, greedy, alpha {alpha} aiq_gain"] for alpha in ("1", "0.1", "0.01")}
    assert len(letter) == 1
    assert result["exact prices aiq_gain"] > result["every question answered, alpha 0.01 aiq_gain"]
    gained = result["exact prices aiq_gain"] - result["every question answered, alpha 0.01 aiq_gain"]
    assert result["exact prices aiq_over_row_before"] == pytest.approx(gained)
    # What the parts of a domain gain adds up to what all questions gain.
    groups = np.array(experiment.mmlu_subcategories(small.test.domains))
    names, counts = np.unique(groups, return_counts=True)
    total = sum(result[f"sub-category {name}"] * count for name, count in zip(names, counts)) / len(groups)
    subjects, each = np.unique(small.test.domains, return_counts=True)
    assert sum(result[f"subject {name}"] * count for name, count in zip(subjects, each)) / len(groups) == pytest.approx(total)
    assert 0 < result["mixed_share_of_cost_that_matches_gpt4"] <= 1.0 + 1e-9
