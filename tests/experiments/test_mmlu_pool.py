"""The experiment on a corner of the real data: every promised number is there and none contradicts another."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

import experiments.mmlu_pool as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute import Router, SourceError, TrainConfig
from jaxroute.data.table import text_key
from jaxroute.encoders.features import FeatureConfig

PROMISED = (
    "log_loss",
    "mixed_aiq",
    "mixed_aiq_gain",
    "mixed_aiq_gain_low",
    "mixed_aiq_gain_high",
    "mixed_aiq_gain_shuffled",
    "mixed_gain_at_half_cost",
    "mixed_gain",
    "mixed_gain_low",
    "mixed_p_value",
    "open_aiq_gain",
    "pair_apgr",
)


def test_the_pool_is_what_the_papers_share(data: Path) -> None:
    pool = load_mmlu_pool(data)
    assert (len(pool.train), len(pool.test)) == (1996, 4182)
    assert len(pool.test.models) == 9
    assert not {text_key(prompt) for prompt in pool.train.prompts} & {text_key(prompt) for prompt in pool.test.prompts}
    assert len(set(map(text_key, pool.test.prompts))) == len(pool.test)
    accuracy = dict(zip(pool.test.models, 100 * pool.test.quality.mean(axis=0)))
    assert accuracy["gpt-4-1106-preview"] == pytest.approx(80.7, abs=0.1)
    assert accuracy["mistralai/Mixtral-8x7B-Instruct-v0.1"] == pytest.approx(68.2, abs=0.1)
    assert accuracy["meta-llama/Meta-Llama-3-8B"] == pytest.approx(64.5, abs=0.1)


def test_without_data_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAXROUTE_DATA", raising=False)
    with pytest.raises(SourceError, match="JAXROUTE_DATA is not set"):
        load_mmlu_pool()


def test_a_small_run_writes_everything_it_promises(
    data: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(200)), test=pool.test.select(range(250)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    recipe = TrainConfig(
        encoder=str(tiny_encoder), features=FeatureConfig(layers=(2,)), head="interaction", folds=2, penalties=(3.0, 0.3)
    )
    last = dataclasses.replace(recipe, features=FeatureConfig(layers=(2,), pooling="last"), head="difference")
    config = experiment.Config(output=tmp_path / "run", train=recipe, paper=last, resamples=40, shuffles=20)
    result = experiment.main(config)
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored == result
    for name in PROMISED:
        assert math.isfinite(stored[name])
    assert stored["mixed_aiq_gain_low"] <= stored["mixed_aiq_gain"] <= stored["mixed_aiq_gain_high"]
    assert stored["mixed_aiq"] - stored["mixed_aiq_zero_router"] == pytest.approx(stored["mixed_aiq_gain"])
    assert stored["mixed_aiq"] <= stored["mixed_aiq_oracle"]
    assert stored["open_aiq_gain_oracle"] > 0.1
    for figure in ("mixed.png", "open.png"):
        assert (tmp_path / "run" / figure).stat().st_size > 10_000
    routed = Router.load(tmp_path / "run" / "checkpoint").route(pool.test.prompts[:5], budget_usd=1.0)
    assert (routed.choice >= 0).all()
