"""RouteLLM's pairs on a corner of the real data: its rules on whole files, and routers that learnt elsewhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import experiments.routellm_pairs as experiment
from experiments.real_data import load_mmlu_pool
from jaxroute import RouterError, load_source


def test_every_setting_has_every_router(
    data: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_mmlu_pool(data)
    small = dataclasses.replace(pool, train=pool.train.select(range(300)), test=pool.test.select(range(0, 4000, 20)))
    monkeypatch.setattr(experiment, "load_mmlu_pool", lambda: small)
    monkeypatch.setattr(experiment, "with_other_questions", lambda train, test: train)
    routers = ("tensoropera_mlp:epochs=1", "domain_mean", "prompt_length", "random")
    result = experiment.main(experiment.Config(output=tmp_path / "run", router=routers, resamples=40))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "calls.png").stat().st_size > 5000
    # Published with RouteLLM's rules, after decontamination.
    for key, published in (("mmlu", (68.09, 80.59, 0.583)), ("gsm8k", (63.73, 85.77, 0.598))):
        assert 100 * result[f"{key}_mixtral"] == pytest.approx(published[0], abs=0.005)
        assert 100 * result[f"{key}_gpt4"] == pytest.approx(published[1], abs=0.005)
        assert result[f"{key}_apgr_prompt_length"] == pytest.approx(published[2], abs=1e-3)
        assert result[f"{key}_apgr_random"] == pytest.approx(0.5, abs=0.03)
    for setting in ("mmlu", "transfer", "gsm8k_from_mmlu", "gsm8k"):
        for router in routers:
            low, value, high = (result[f"{setting} {router} apgr{end}"] for end in ("_low", "", "_high"))
            assert low <= value <= high
            assert 0 <= result[f"{setting} {router} cpt_50"] <= result[f"{setting} {router} cpt_80"] <= 1
            if router != routers[0]:
                below = result[f"{setting} {routers[0]} apgr"] - value
                assert result[f"{setting} {router} apgr_below_first"] == pytest.approx(below)
    # One pair's length of prompts is another's: nothing was learnt but which model is the strong one.
    assert result["transfer prompt_length apgr"] == pytest.approx(result["mmlu prompt_length apgr"], abs=0.02)


def test_no_question_is_scored_by_a_router_that_learnt_from_it(data: Path) -> None:
    gsm8k = load_source("routellm-gsm8k", data / "routellm" / "gsm8k").select(range(80), models=experiment.PAIR)
    seen: list[set[str]] = []

    class Spy:
        spec = "spy"

        def fit(self, train):
            seen.append(set(train.prompts))
            return self

        models = experiment.PAIR

        def estimate(self, queries):
            assert not seen[-1] & set(queries.prompts)
            return SimpleNamespace(quality=np.zeros((len(queries.prompts), 2)) + len(seen))

    score = experiment.by_halves(Spy(), gsm8k, seed=0)  # pyright: ignore[reportArgumentType]
    assert seen[0] | seen[1] == set(gsm8k.prompts) and not seen[0] & seen[1]
    assert (score == 0).all()


def test_routers_are_named_before_anything_is_read() -> None:
    with pytest.raises(RouterError, match="none twice"):
        experiment.Config(router=("knn", "knn"))
    with pytest.raises(RouterError, match="'kn' is unknown"):
        experiment.main(experiment.Config(router=("kn",)))
