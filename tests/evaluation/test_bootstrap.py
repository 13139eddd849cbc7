"""Paired bootstrap: against analytic intervals, and all resamples at once against one after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxroute.evaluation import (
    Curve,
    Interval,
    aiq,
    aiq_gain,
    bootstrap_weights,
    cost_quality_curve,
    curve_measure,
    least_cost,
    mean_difference,
    overrun,
    paired_interval,
    single_models,
)
from tests.evaluation.tables import seeded_table


def test_bootstrap_weights_sum_to_one_and_follow_their_seed():
    first, again, other = (bootstrap_weights(30, resamples=200, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (200, 30)
    assert first.sum(axis=1) == pytest.approx(np.ones(200))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    counts = first * 30
    assert np.allclose(counts, np.rint(counts)) and counts.min() == 0
    assert first.mean(axis=0) == pytest.approx(np.full(30, 1 / 30), rel=0.3)


def test_the_interval_of_a_mean_is_the_analytic_one():
    numbers = np.random.default_rng(6).normal(0.4, 2.0, 500)
    weights = bootstrap_weights(500, resamples=4000)
    for level, deviations in ((0.5, 0.6745), (0.95, 1.96)):
        found = paired_interval(lambda w: numbers.mean() if w is None else w @ numbers, weights, level=level)
        half = deviations * numbers.std() / math.sqrt(500)
        assert found.value == numbers.mean()
        assert found.low < found.value < found.high
        assert found.low == pytest.approx(numbers.mean() - half, abs=0.1 * half)
        assert found.high == pytest.approx(numbers.mean() + half, abs=0.1 * half)


def test_an_interval_is_reported_in_points():
    assert str(Interval(value=0.022, low=-0.0191, high=0.027)) == "+2.2 (-1.9 to +2.7)"


def test_the_measure_of_curves_is_taken_on_the_same_resamples():
    table = seeded_table()
    curves = [cost_quality_curve(table, table.quality, points=5), single_models(table)]
    measure = curve_measure(lambda c, q, c0, q0: aiq(c, q, 0.1, 1.0) - aiq(c0, q0, 0.1, 1.0), curves)
    weights = bootstrap_weights(len(table), resamples=50)
    drawn = np.repeat(np.arange(len(table)), np.rint(weights[7] * len(table)).astype(int))
    picked = [Curve(quality=curve.quality[:, drawn], cost_usd=curve.cost_usd[:, drawn]).means() for curve in curves]
    assert measure(weights)[7] == pytest.approx(aiq(*picked[0], 0.1, 1.0) - aiq(*picked[1], 0.1, 1.0))
    found = paired_interval(measure, weights)
    assert found.value == pytest.approx(measure(np.full((1, len(table)), 1 / len(table)))[0])
    assert 0 < found.low < found.value < found.high


@pytest.mark.parametrize("convention", ["paper", "code"])
def test_the_gain_in_area_is_that_of_one_resample_after_the_other(convention: str):
    table = seeded_table()
    curve, base = cost_quality_curve(table, table.quality, points=21), single_models(table)
    weights = bootstrap_weights(len(table), resamples=200)

    def slow(cost, quality, cost0, quality0):
        return aiq(cost, quality, 0.1, 1.0, convention=convention) - aiq(cost0, quality0, 0.1, 1.0, convention=convention)

    found = aiq_gain(curve, base, weights, low=0.1, high=1.0, convention=convention)
    wanted = paired_interval(curve_measure(slow, [curve, base]), weights)
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high), abs=1e-12)


def test_pairing_removes_what_both_share():
    """Two answers to the same hard and easy queries differ by 0.1 everywhere: the difference is certain, the means are not."""
    ease = np.random.default_rng(13).uniform(size=300)
    weights = bootstrap_weights(300, resamples=200)
    certain = paired_interval(mean_difference(ease + 0.1, ease), weights)
    alone = paired_interval(mean_difference(ease), weights)
    assert (certain.low, certain.high) == pytest.approx((0.1, 0.1))
    assert alone.high - alone.low > 0.05


def test_an_interval_that_holds_zero_is_a_tie():
    assert Interval(0.01, -0.01, 0.02).tie and Interval(0.0, 0.0, 0.0).tie and Interval(math.nan, math.nan, math.nan).tie
    assert not Interval(0.02, 0.01, 0.03).tie and not Interval(-0.02, -0.03, -0.01).tie


def test_an_overrun_is_reported_as_a_share_of_what_was_expected():
    realised = np.array([1.0, 2.0, 3.0, 6.0])
    weights = bootstrap_weights(4, resamples=50)
    found = paired_interval(overrun(realised, np.array([1.0, 2.0, 2.0, 5.0])), weights)
    assert found.value == pytest.approx(0.2) and 0 <= found.low <= 0.2 <= found.high
    assert overrun(realised, 2.5)(None) == pytest.approx(0.2)


def test_a_quality_that_some_resamples_never_reach_has_an_interval_up_to_infinity():
    """A curve that is as good as its base only just: the cost of the base's quality is finite on most resamples."""
    table = seeded_table(60)
    base, weights = single_models(table), bootstrap_weights(60, resamples=100)
    measure = curve_measure(lambda c, q, c0, q0: least_cost(c[:2], q[:2], q0[1] + 0.05), [base, base])
    assert np.isinf(measure(weights)).any() and np.isfinite(measure(weights)).any()
    found = paired_interval(measure, weights)
    assert found.low < math.inf and found.high == math.inf


def test_resamples_that_say_nothing_are_left_out_and_counted():
    """Two models that are equally good in some resamples have no gap there, of which a share could be recovered."""
    resampled = np.array([0.1, np.nan, 0.2, 0.3, np.nan])
    found = paired_interval(lambda weights: 0.2 if weights is None else resampled, np.empty((5, 1)))
    assert (found.low, found.high, found.undefined) == pytest.approx((0.105, 0.295, 2))
    assert str(found).endswith("2 undefined resamples left out")


def test_rows_of_one_question_are_drawn_together():
    weights = bootstrap_weights(5, resamples=300, questions=np.array([0, 0, 0, 1, 2]))
    assert weights.sum(axis=1) == pytest.approx(np.ones(300))
    assert np.array_equal(weights[:, 0], weights[:, 1]) and np.array_equal(weights[:, 0], weights[:, 2])
    numbers = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    assert (weights @ numbers).std() > 1.5 * (bootstrap_weights(5, resamples=300) @ numbers).std() * 0.9
