"""A gain is called one where the choices know something of the queries, and hardly ever where they do not."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from jaxroute import RoutingTable, TableError
from jaxroute.evaluation import (
    Curve,
    Gain,
    area_gain,
    areas,
    bootstrap_weights,
    cost_quality_curve,
    curve_of,
    outcome,
    p_value,
    shuffled_means,
    single_models,
    zero_router,
)
from tests.evaluation.tables import seeded_table


def noise_gain(seed: int, *, queries: int = 100, models: int = 3) -> Gain:
    """Models that are all right half of the time, and a router that draws its estimates."""
    generator = np.random.default_rng(seed)
    cost = 0.01 * 3.0 ** np.arange(models)
    train, test = (
        RoutingTable([f"{row}" for row in range(queries)], [f"{m}" for m in range(models)], quality, cost)
        for quality in (generator.uniform(size=(2, queries, models)) < 0.5).astype(float)
    )
    estimates = generator.normal(0.5, 0.1, (queries, models))
    curve = cost_quality_curve(test, estimates, points=31, expected_cost_usd=train.mean_cost_usd())
    weights = bootstrap_weights(queries, resamples=200, seed=seed)
    return area_gain(test, curve, zero_router(train, test), weights, low=cost[0], high=cost[-1], shuffles=99, seed=seed)


def test_a_router_that_knows_nothing_hardly_ever_gains_or_loses():
    found = [noise_gain(seed) for seed in range(80)]
    assert np.mean([one.verdict == "gain" for one in found]) <= 0.08
    assert np.mean([one.verdict == "loss" for one in found]) <= 0.08
    assert np.mean([one.p_value is not None and one.p_value <= 0.2 for one in found]) == pytest.approx(0.2, abs=0.12)
    mean, error = np.mean([one.value for one in found]), np.std([one.value for one in found]) / 80**0.5
    assert abs(mean) < 3 * error, "no gain in expectation"


def test_a_router_that_knows_something_gains():
    train, test = seeded_table(300, seed=1), seeded_table(300, seed=2)
    estimates = 0.3 * test.quality + np.random.default_rng(3).normal(0.4, 0.1, test.quality.shape)
    weights, zero = bootstrap_weights(300, resamples=200), zero_router(train, test)
    curve = cost_quality_curve(test, estimates, points=51)
    found = area_gain(test, curve, zero, weights, low=0.1, high=1.0)
    assert found.verdict == "gain" and found.p_value == 0.001 and str(found).endswith(", gain")
    against = cost_quality_curve(test, 1 - estimates, points=51)
    assert area_gain(test, against, zero, weights, low=0.1, high=1.0).verdict == "loss"


@pytest.mark.parametrize(("low", "high", "p", "verdict"), [
    (0.01, 0.03, 0.01, "gain"), (0.01, 0.03, 0.05, "tie"), (-0.01, 0.03, 0.01, "tie"), (-0.03, -0.01, 0.9, "loss"),
    (0.01, 0.03, None, ""), (float("nan"), float("nan"), 0.01, "tie"),
])  # fmt: skip
def test_a_verdict_needs_the_interval_and_the_shuffles(low: float, high: float, p: float | None, verdict: str):
    assert Gain(0.02, low, high, p_value=p).verdict == verdict


def test_shuffled_means_are_those_of_shuffled_choices():
    """Added up from the changes between points, and from scratch; also where costs differ by query and some go unanswered."""
    table = seeded_table(40)
    table.cost_usd[:] *= np.random.default_rng(1).uniform(0.5, 2, (40, 1))
    choice = np.random.default_rng(2).integers(-1, 3, (6, 40)).astype(np.int32)
    cost, quality = shuffled_means(table, curve_of(table, choice), shuffles=3, seed=5)
    generator = np.random.default_rng(5)
    for row, judged_on in enumerate(generator.permuted(np.tile(np.arange(40), (3, 1)), axis=1)):
        found = [outcome(table.select(judged_on), one) for one in choice]
        assert cost[row] == pytest.approx([one.mean_cost_usd for one in found])
        assert quality[row] == pytest.approx([one.mean_quality for one in found])


def test_a_router_that_always_says_the_same_is_as_good_as_its_shuffles():
    table = seeded_table()
    curve = single_models(table)
    assert p_value(partial(areas, low=0.1, high=1.0), curve, shuffled_means(table, curve, shuffles=99)) == 1.0


def test_rows_of_one_question_are_shuffled_together():
    """Each question is asked four times, and a router answers by the question: a hundred rows, but 25 independent ones."""
    questions = np.repeat(np.arange(25), 4)
    significant = {False: 0, True: 0}
    for seed in range(60):
        generator = np.random.default_rng(seed)
        quality = np.repeat((generator.uniform(size=(25, 2)) < 0.5).astype(float), 4, axis=0)
        table = RoutingTable([f"{row}" for row in range(100)], ["one", "other"], quality, np.array([0.1, 1.0]))
        curve = curve_of(table, np.repeat(generator.integers(0, 2, 25), 4)[None].astype(np.int32))
        for together in (False, True):
            shuffled = shuffled_means(table, curve, shuffles=99, questions=questions if together else None)
            significant[together] += p_value(lambda cost, quality: quality[..., 0], curve, shuffled) < 0.05
    assert significant[True] <= 7 < significant[False]


def test_choices_that_follow_outcomes_have_no_p_value():
    table = seeded_table()
    cascade = Curve(table.quality.max(axis=1)[None], table.cost_usd.sum(axis=1)[None])
    weights = bootstrap_weights(len(table), resamples=50)
    found = area_gain(table, cascade, zero_router(table, table), weights, low=0.1, high=1.0)
    assert found.p_value is None and found.verdict == ""
    with pytest.raises(TableError, match="which model answers"):
        shuffled_means(table, cascade)


def test_a_thousand_shuffles_take_seconds():
    table = seeded_table(4000)
    curve = cost_quality_curve(table, table.quality + np.random.default_rng(0).normal(0, 0.3, table.quality.shape))
    started = time.process_time()
    shuffled_means(table, curve)
    assert time.process_time() - started < 5
