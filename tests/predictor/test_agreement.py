"""Agreement: final answers are read, what agrees is trusted more, and a cascade pays for a second opinion where it helps."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute.predictor.agreement import WEIGHTS, compared, evidence, final_answer, fit_agreement
from jaxroute.predictor.answers import logit, sigmoid
from jaxroute.predictor.cascade_price import Beforehand, _shift, _tilted, cascade_at, together

CHANCE = np.array([0.7, 0.72, 0.9])
COST = np.array([1.0, 1.0, 10.0])


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        ("B", "b"),
        ("(c) rift zones", "c"),
        ("**D**.", "d"),
        ("So \\boxed{{42}} it is, not \\boxed{ 43 }", "43"),
        ("We look at it. The answer is 1,234.50.", "1234.5"),
        ("The correct choice is: (B) because of ice", "b"),
        ("7 apples", "7"),
        ("A list of all elements that are in both, with its 3 tests below, is what this function returns", ""),
        ("", ""),
    ],
)
def test_the_final_answer_is_read(answer: str, final: str) -> None:
    assert final_answer(answer) == final


def asked_twice(queries: int = 300, seed: int = 0):
    """Two cheap models and an expensive one, right independently of each other; wrong answers are all different."""
    generator = np.random.default_rng(seed)
    quality = (generator.random((queries, 3)) < CHANCE).astype(float)
    wrong = np.arange(1000, 1000 + quality.size).reshape(quality.shape)
    answers = np.where(quality == 1, "the answer is 7", np.char.add("the answer is ", wrong.astype(str))).astype(object)
    return np.tile(CHANCE, (queries, 1)), answers, quality, np.arange(queries) % 5


def fitted(estimates: np.ndarray, answers: np.ndarray, quality: np.ndarray, fold: np.ndarray):
    return fit_agreement(
        compared(answers), logit(estimates), np.zeros_like(quality), quality, fold, nodes=9, clear=1.0
    )  # fmt: skip


def test_two_that_agree_are_trusted_and_one_of_two_that_differ_is_not() -> None:
    estimates, answers, quality, fold = asked_twice()
    found = fitted(estimates, answers, quality, fold)
    assert found.losses[1] < 0.6 * found.losses[0]
    estimates, answers, quality, _ = asked_twice(seed=1)
    added = evidence(found.weight, compared(answers), logit(estimates))
    first_two = np.tile([True, True, False], (len(quality), 1))
    judged = together(estimates, estimates, added, first_two)[:, 0]
    agree = answers[:, 0] == answers[:, 1]
    assert judged[agree].min() > 0.95 and judged[~agree].max() < 0.6
    assert judged.mean() == pytest.approx(quality[:, 0].mean(), abs=0.05)


def test_a_cascade_that_looks_ahead_buys_a_second_opinion_and_gains_by_it() -> None:
    found = fitted(*asked_twice())
    estimates, answers, quality, _ = asked_twice(seed=1)
    cost = np.broadcast_to(COST, estimates.shape)
    known = Beforehand(estimates, cost, np.zeros((3, 9)), found.carry, found.scenarios)
    added = evidence(found.weight, compared(answers), logit(estimates))
    rows, price = np.arange(len(quality)), 0.019

    def worth(look_ahead: bool) -> tuple[float, np.ndarray]:
        ended = cascade_at(known, estimates, price, evidence=added, look_ahead=look_ahead)
        return float((quality[rows, ended.given] - price * (cost * ended.asked).sum(axis=1)).mean()), ended.asked

    alone, asked_alone = worth(look_ahead=False)
    ahead, asked = worth(look_ahead=True)
    assert (asked_alone.sum(axis=1) == 1).all()
    assert asked[:, :2].all() and 0.2 < asked[:, 2].mean() < 0.8
    assert ahead > alone + 0.05


def test_what_models_that_were_not_asked_would_say_is_not_read() -> None:
    found = fitted(*asked_twice())
    estimates, answers, _, _ = asked_twice(seed=2)
    known = Beforehand(estimates, np.broadcast_to(COST, estimates.shape), np.zeros((3, 9)), found.carry, found.scenarios)
    added = evidence(found.weight, compared(answers), logit(estimates))
    once = cascade_at(known, estimates, 0.019, evidence=added, look_ahead=True)
    assert 0 < once.asked.mean() < 1
    paid = once.asked[:, :, None] & once.asked[:, None, :]
    again = cascade_at(known, estimates, 0.019, evidence=np.where(paid, added, np.nan), look_ahead=True)
    assert (again.asked == once.asked).all() and (again.given == once.given).all()


def test_answers_that_show_nothing_of_each_other_change_nothing() -> None:
    estimates, _, quality, fold = asked_twice()
    generator = np.random.default_rng(3)
    answers = generator.choice(["A", "B", "C", "D"], quality.shape).astype(object)
    found = fitted(estimates, answers, quality, fold)
    assert (found.weight == np.zeros(WEIGHTS)).all() and not found.scenarios.any() and found.carry == 0
    missing = np.where(generator.random(quality.shape) < 0.3, np.nan, quality)
    partly = fitted(estimates, asked_twice()[1], missing, fold)
    assert np.isfinite(partly.weight).all() and partly.weight.any()
    assert sigmoid(evidence(partly.weight, compared(asked_twice()[1]), logit(estimates))).max() <= 1


def test_what_an_answer_may_show_changes_no_expectation() -> None:
    """Scenarios are weighted and shifted so that judgements stay what they are on average."""
    generator = np.random.default_rng(4)
    logits, added, own = generator.normal(1, 1, 50), generator.normal(0.5, 2, (50, 9)), generator.normal(0.3, 1, (50, 9))
    weight = _tilted(logits, added, sigmoid(logits))
    assert weight.sum(axis=1) == pytest.approx(np.ones(50)) and (weight >= 0).all()
    reachable = (added.min(axis=1) < 0) & (added.max(axis=1) > 0)
    assert reachable.sum() > 40
    assert (weight * sigmoid(logits[:, None] + added)).sum(axis=1)[reachable] == pytest.approx(sigmoid(logits[reachable]))
    shift = _shift(logits, own, weight)
    assert (weight * sigmoid(logits[:, None] + own + shift[:, None])).sum(axis=1) == pytest.approx(sigmoid(logits))
