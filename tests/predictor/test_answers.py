"""The judge and the cascade: what answers show is found, and where they show nothing the cascade is routing alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxroute.errors import TableError
from jaxroute.predictor.answers import Judge, JudgeConfig, fit_judge, logit, sigmoid
from jaxroute.predictor.cascade_price import Beforehand, cascade_at, prices_between

MODELS = ["small", "large"]
CONFIG = JudgeConfig(penalties=(1.0, 0.1, 0.01))


def answered(strength: float, queries: int = 400, seed: int = 0):
    """Features of answers, estimates of the prompts, outcomes; the third feature tells right answers from wrong ones."""
    generator = np.random.default_rng(seed)
    estimates = np.clip(generator.normal([0.5, 0.75], 0.1, (queries, 2)), 0.05, 0.95)
    quality = (generator.random((queries, 2)) < estimates).astype(float)
    features = generator.standard_normal((queries, 2, 8))
    features[..., 2] += strength * (2 * quality - 1)
    return features, estimates, quality, np.arange(queries) % 4


def beforehand(judge: Judge, estimates: np.ndarray) -> Beforehand:
    return Beforehand.of(judge, estimates, np.broadcast_to([1.0, 5.0], estimates.shape))


def test_a_planted_signal_is_found_and_pays() -> None:
    judge, report = fit_judge(*answered(1.0), MODELS, CONFIG)
    assert np.isfinite(report.penalty) and report.losses[report.penalty] < report.losses[np.inf] - 0.1
    assert np.abs(judge.weight / judge.scale).argmax() == 2
    features, estimates, quality, _ = answered(1.0, seed=1)
    judged = judge.estimate(features, estimates)
    assert (
        (logit(judged) - logit(estimates))[quality == 1].mean()
        > 1
        > -1
        > (logit(judged) - logit(estimates))[quality == 0].mean()
    )
    known, rows = beforehand(judge, estimates), np.arange(len(quality))
    found = cascade_at(known, judged, 0.06, look_ahead=True)
    alone = estimates - 0.06 * known.cost_usd
    gained = quality[rows, found.given] - 0.06 * (known.cost_usd * found.asked).sum(axis=1)
    routed = (quality - 0.06 * known.cost_usd)[rows, alone.argmax(axis=1)]
    assert 0 < (found.asked.sum(axis=1) > 1).mean() < 1
    assert gained.mean() > routed.mean() + 0.03


@pytest.mark.parametrize("look_ahead", [False, True])
def test_a_judge_that_knows_nothing_changes_nothing(look_ahead: bool) -> None:
    judge, report = fit_judge(*answered(0.0), MODELS, CONFIG)
    features, estimates, _, _ = answered(0.0, seed=1)
    assert report.penalty == np.inf and judge.agreement.carry == 0 and not judge.surprise.any()
    judged = judge.estimate(features, estimates)
    assert (judged == estimates).all()
    known = beforehand(judge, estimates)
    for price in prices_between(known, 21):
        found = cascade_at(known, judged, price, look_ahead=look_ahead)
        assert (found.given == (estimates - price * known.cost_usd).argmax(axis=1)).all()
        assert (found.asked.sum(axis=1) == 1).all()


def test_judgements_of_models_that_were_not_asked_are_not_read() -> None:
    generator = np.random.default_rng(3)
    estimates, judged = generator.uniform(0.2, 0.8, (2, 300, 4))
    known = Beforehand(estimates, np.broadcast_to([1.0, 2.0, 3.0, 4.0], estimates.shape), np.array([[-1.0, 0.0, 1.0]] * 4), 0.3)
    found = cascade_at(known, judged, 0.03)
    assert 0 < found.asked.mean() < 1
    again = cascade_at(known, np.where(found.asked, judged, np.nan), 0.03)
    assert (again.asked == found.asked).all() and (again.given == found.given).all()


def test_other_answers_to_a_hard_question_are_trusted_less() -> None:
    features, estimates, quality, fold = answered(1.0)
    hard = np.random.default_rng(5).random(len(fold)) < sigmoid(np.zeros(len(fold)))
    quality = np.where(hard[:, None], 0.0, quality)
    features[..., 2] = np.random.default_rng(6).standard_normal(quality.shape) + 2 * quality - 1
    judge, _ = fit_judge(features, estimates * 0.5, quality, fold, MODELS, CONFIG)
    free, _ = fit_judge(*answered(1.0), MODELS, CONFIG)
    assert judge.agreement.carry > free.agreement.carry + 0.1


def test_missing_answers_are_left_out_and_a_judge_is_kept(tmp_path: Path) -> None:
    features, estimates, quality, fold = answered(1.0)
    gone = np.random.default_rng(4).random(quality.shape) < 0.3
    features_read, known = np.where(gone[..., None], 1e3, features), np.where(gone, np.nan, quality)
    judge, _ = fit_judge(features_read, estimates, known, fold, MODELS, CONFIG)
    assert np.abs(judge.weight).max() < 10 and judge.high.max() < 10
    judge.save(tmp_path / "judge")
    again = Judge.load(tmp_path / "judge")
    assert (again.estimate(features, estimates) == judge.estimate(features, estimates)).all()
    assert (again.surprise == judge.surprise).all() and again.agreement.carry == judge.agreement.carry


def test_wrong_shapes_and_prices_are_refused() -> None:
    features, estimates, quality, fold = answered(1.0, queries=40)
    judge, _ = fit_judge(features, estimates, quality, fold, MODELS, CONFIG)
    with pytest.raises(TableError, match="8 features"):
        judge.estimate(features[..., :5], estimates)
    # Where shapes are checked at run time, that comes first.
    with pytest.raises((TableError, TypeCheckError), match=r"same queries and models|fit_judge"):
        fit_judge(features, estimates[:10], quality, fold, MODELS)
    with pytest.raises(TableError, match="two folds"):
        fit_judge(features, estimates, quality, np.zeros(40, int), MODELS)
    with pytest.raises(TableError, match="price=-1"):
        cascade_at(beforehand(judge, estimates), estimates, -1.0)
    with pytest.raises(TableError, match="same queries and models"):
        dataclasses.replace(beforehand(judge, estimates), surprise=np.zeros((3, 9)))
