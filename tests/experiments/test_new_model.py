"""A new model in a corner of the real data: every promised number is there, and the figure is drawn."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

import experiments.new_model as experiment
from experiments.real_data import GPT4, MIXTRAL, VARIABLE, load_mmlu_pool
from jaxroute import TableError, TrainConfig

PROMISED = (
    *("share_gpt4_20", "share_gpt4_60", "share_error_gpt4_60", "share_gpt4_60_level_only", "share_gpt4_60_one_fit"),
    *("share_mixtral_20", "cost_slope", "cost_slope_error_mbpp"),
)


def test_a_small_run_writes_everything_it_promises(
    data: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(200)), test=pool.test.select(range(250)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    monkeypatch.setenv(VARIABLE, str(data))
    seventh = next(model for model in pool.train.models if model not in (GPT4, MIXTRAL))
    config = experiment.Config(
        output=tmp_path,
        counts=(20, 60),
        small_counts=(30,),
        models=(GPT4, MIXTRAL, seventh),
        draws=2,
        one_fit=True,
        train=TrainConfig(encoder=str(tiny_encoder), folds=2, penalties=(3.0, 0.3), corrections=(0.3,)),
    )
    result = experiment.main(config)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    for name in (*PROMISED, "full_gain", "share_7b_30", "least_share_7b_30"):
        assert math.isfinite(float(result[name]))
    assert result["share_7b_30"] == result["least_share_7b_30"]
    assert (tmp_path / "shares.png").stat().st_size > 10_000


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"counts": (0,)}])
def test_nothing_can_be_learnt_from_nothing(wrong: dict) -> None:
    with pytest.raises(TableError, match="must be at least 1"):
        experiment.Config(**wrong)
