"""The recipes' experiment, run small: every recipe is there, its intervals hold their values, its checkpoint routes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import train_encoder as experiment
from experiments.real_data import GPT4, MIXTRAL, load_mmlu_pool, with_other_questions
from jaxroute import Router, TrainConfig
from jaxroute.data.table import text_key
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.networks.lora import LoraConfig
from jaxroute.predictor.tuning import TuneConfig

RECIPES = ("paper", "frozen", "frozen_graded", "frozen_more_questions", "frozen_graded_more_questions", "lora")


def test_other_questions_are_others(data: Path) -> None:
    pool = load_mmlu_pool(data)
    more = with_other_questions(pool.train, pool.test, data)
    others = more.select(range(len(pool.train), len(more)))
    assert more.prompts[: len(pool.train)] == pool.train.prompts and len(others) > 7_000
    known = {text_key(prompt) for prompt in pool.train.prompts + pool.test.prompts}
    assert not known & {text_key(prompt) for prompt in others.prompts}
    answered = [model for model, column in zip(others.models, others.quality.T) if not np.isnan(column).all()]
    assert answered == [MIXTRAL, GPT4]


def test_a_small_run_writes_every_recipe(
    data: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    more = with_other_questions(pool.train, pool.test, data)
    rows = np.r_[np.arange(200), np.arange(len(pool.train), len(pool.train) + 100)]
    small = dataclasses.replace(pool, train=pool.train.select(range(200)), test=pool.test.select(range(150)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    monkeypatch.setattr(experiment, "with_other_questions", lambda train, test: more.select(rows))
    monkeypatch.setenv("JAXROUTE_DATA", str(data))
    frozen = TrainConfig(
        encoder=str(tiny_encoder), features=FeatureConfig(layers=(2,), max_tokens=64), folds=2, penalties=(3.0, 0.3)
    )
    config = experiment.Config(
        output=tmp_path / "run",
        frozen=frozen,
        paper=dataclasses.replace(
            frozen, features=FeatureConfig(layers=(2,), pooling="last", max_tokens=64), head="difference"
        ),
        tune=TuneConfig(mode="lora", epochs=1, batch_size=64, lora=LoraConfig(rank=2)),
        resamples=40,
        shuffles=2,
    )
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    for name in RECIPES:
        assert result[f"{name}_aiq_gain_low"] <= result[f"{name}_aiq_gain"] <= result[f"{name}_aiq_gain_high"]
        assert 0.3 < result[f"{name}_held_out_log_loss"] < 1.5
    assert (tmp_path / "run" / "recipes.png").stat().st_size > 10_000
    assert (Router.load(tmp_path / "run" / "checkpoint").route(pool.test.prompts[:5], budget_usd=1.0).choice >= 0).all()
