"""Outcomes, hulls, areas and intervals: worked out by hand, against other libraries, and on published data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from jaxroute import RoutingTable, TableError, load_source
from jaxroute.evaluation import (
    Curve,
    Interval,
    aiq,
    apgr,
    bootstrap_weights,
    cost_quality_curve,
    curve_measure,
    hull,
    hull_quality,
    least_cost,
    log_loss,
    oracle_estimates,
    outcome,
    paired_interval,
    prompt_length_estimates,
    random_estimates,
    single_models,
)
from solvers import Assignment, Problem, greedy_ratio, lagrangian

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
EIGHTHS = st.integers(0, 40).map(lambda count: count / 8)
POINTS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=15).map(lambda points: np.array(points).T)


def small_table() -> RoutingTable:
    return RoutingTable(
        prompts=["a", "bb", "ccc"],
        models=["cheap", "good"],
        quality=np.array([[1.0, 1.0], [0.0, 1.0], [0.5, np.nan]]),
        cost_usd=np.array([[1.0, 10.0], [2.0, 20.0], [3.0, np.nan]]),
    )


def seeded_table(queries: int = 150, seed: int = 0) -> RoutingTable:
    """Right or wrong answers of three models, dearer ones better, hard queries hard for all; one cost per model."""
    generator = np.random.default_rng(seed)
    ease = generator.normal(size=(queries, 1))
    chance = 1 / (1 + np.exp(-(ease + np.array([-0.5, 0.5, 1.5]))))
    return RoutingTable(
        prompts=["x" * int(length) for length in generator.integers(1, 500, queries)],
        models=["small", "middle", "large"],
        quality=(generator.uniform(size=(queries, 3)) < chance).astype(float),
        cost_usd=np.array([0.1, 0.3, 1.0]),
    )


@pytest.mark.parametrize(("points", "corners"), [
    ([(3, 6), (1, 2), (2, 3), (4, 5), (1, 1)], [(1, 2), (3, 6)]),
    ([(0, 0), (1, 4), (2, 6), (3, 7)], [(0, 0), (1, 4), (2, 6), (3, 7)]),
    ([(0, 0), (1, 1), (2, 2), (3, 3)], [(0, 0), (3, 3)]),
    ([(2, 5), (2, 5)], [(2, 5)]),
    ([(1, 5), (2, 4), (3, 5)], [(1, 5)]),
], ids=["beaten points", "gains that shrink", "a straight line", "one point", "nothing better"])  # fmt: skip
def test_only_corners_are_kept(points: list[tuple[int, int]], corners: list[tuple[int, int]]):
    """Of the first five, (2, 3) lies under a chord, (4, 5) is dearer and worse, (1, 1) is beaten at its own cost."""
    assert [*zip(*hull(*np.array(points, float).T), strict=True)] == corners


@CAREFUL
@given(POINTS)
def test_no_point_lies_above_the_hull(points: np.ndarray):
    corners = hull(*points)
    assert (np.interp(points[0], *corners) >= points[1] - 1e-12).all()
    assert {*zip(*corners, strict=True)} <= {*zip(*points, strict=True)}


@CAREFUL
@given(POINTS)
def test_the_hull_rises_ever_more_slowly_from_the_cheapest_point_to_the_best(points: np.ndarray):
    cost, quality = hull(*points)
    assert (np.diff(cost) > 0).all() and (np.diff(quality) > 0).all()
    assert (np.diff(np.diff(quality) / np.diff(cost)) < 0).all()
    assert (cost[0], quality[-1]) == (points[0].min(), points[1].max())


@CAREFUL
@given(POINTS)
def test_the_hull_of_a_hull_is_itself(points: np.ndarray):
    once = hull(*points)
    twice = hull(*once)
    assert [part.tolist() for part in twice] == [part.tolist() for part in once]


@pytest.mark.parametrize("seed", range(5))
def test_scipy_finds_the_same_corners(seed: int):
    """Its hull of the points and of three more: far below both ends, and level with the best on the far right."""
    cost, quality = np.random.default_rng(seed).uniform(size=(2, 100))
    added = [(cost.min(), -1.0), (2.0, -1.0), (2.0, quality.max())]
    points = np.concatenate([np.column_stack([cost, quality]), added])
    vertices = sorted(tuple(points[vertex]) for vertex in ConvexHull(points).vertices if vertex < 100)
    assert [*zip(*hull(cost, quality), strict=True)] == vertices


def test_the_hull_goes_left_to_the_null_router_and_flat_to_the_right():
    cost, quality = np.array([2.0, 4.0]), np.array([0.6, 0.8])
    at = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 100.0])
    assert hull_quality(cost, quality, at) == pytest.approx([0.0, 0.3, 0.6, 0.7, 0.8, 0.8])


def test_the_least_cost_of_a_quality_is_read_off_the_hull():
    cost, quality = np.array([2.0, 4.0]), np.array([0.6, 0.8])
    assert [least_cost(cost, quality, wanted) for wanted in (0.0, 0.3, 0.6, 0.7, 0.8)] == pytest.approx([0, 1, 2, 3, 4])
    assert least_cost(cost, quality, 0.8000001) == math.inf


@CAREFUL
@given(POINTS, st.floats(0.0, 1.0))
def test_the_least_cost_is_the_inverse_of_the_hull(points: np.ndarray, share: float):
    best = points[1].max()
    found = least_cost(*points, share * best)
    assert hull_quality(*points, found) >= share * best - 1e-9
    if found > 1e-6:
        assert hull_quality(*points, found) == pytest.approx(share * best, abs=1e-9)
        assert hull_quality(*points, found * 0.999) < share * best
    assert least_cost(*points, best + 0.1) == math.inf


def test_the_area_by_the_paper_is_the_mean_height_of_the_hull():
    """From (0, 0) past (1, 0.5) and (3, 0.8), flat to 4: over 1 to 4 two trapezoids, (1.3 + 0.8) / 3."""
    cost, quality = np.array([3.0, 1.0, 2.0]), np.array([0.8, 0.5, 0.3])
    assert aiq(cost, quality, 1.0, 4.0) == pytest.approx(2.1 / 3)
    assert aiq(cost, quality, 0.0, 4.0) == pytest.approx((0.25 + 2.1) / 4)


def test_the_area_by_the_paper_mixes_with_the_null_router_where_that_is_better():
    """(1, 0.2) lies under the line from (0, 0) to (3, 0.9): 0.3 at 1, 0.9 at 3, flat to 4."""
    assert aiq(np.array([1.0, 3.0]), np.array([0.2, 0.9]), 1.0, 4.0) == pytest.approx((1.2 + 0.9) / 3)


def test_the_area_by_the_code_starts_at_the_routers_own_least_cost_and_is_divided_by_the_largest():
    cost, quality = np.array([1.0, 3.0]), np.array([0.5, 0.8])
    assert aiq(cost, quality, 0.25, 4.0, convention="code") == pytest.approx((1.3 + 0.8) / 4)


def test_the_area_by_the_code_knows_no_null_router():
    """RouterBench's evaluation/AIQ.py takes the hull of the router's own points: from (1, 0.1) straight to (2, 0.9)."""
    cost, quality = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.9, 0.95])
    assert aiq(cost, quality, 1.0, 4.0, convention="code") == pytest.approx((0.5 + 1.85) / 4)


@pytest.mark.parametrize("height", [0.0, 0.3, 1.0])
def test_the_area_of_a_flat_curve_is_its_height(height: float):
    assert aiq(np.array([0.5, 2.0, 7.0]), np.full(3, height), 0.5, 9.0) == pytest.approx(height)


def test_an_empty_range_or_an_unknown_convention_is_refused():
    for low, high in ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="range of costs"):
            aiq(np.ones(2), np.ones(2), low, high)
    with pytest.raises(ValueError, match="convention='other'"):
        aiq(np.ones(2), np.ones(2), 0.0, 1.0, convention="other")


def test_an_unanswered_query_counts_nothing_and_costs_nothing():
    found = outcome(small_table(), np.array([1, 1, -1]))
    assert (found.quality.tolist(), found.cost_usd.tolist()) == ([1.0, 1.0, 0.0], [10.0, 20.0, 0.0])
    assert (found.mean_quality, found.mean_cost_usd) == (2 / 3, 10.0)


def test_an_assignment_has_the_outcome_of_its_choices():
    assignment: Assignment = lagrangian(Problem([[0.9, 0.1], [0.1, 0.9], [0.5, 0.4]], [1.0, 2.0], 100.0))
    assert outcome(small_table(), assignment).quality.tolist() == [1.0, 1.0, 0.5]


def test_a_model_that_was_never_run_has_no_outcome():
    with pytest.raises(TableError, match="1 chosen models were never run"):
        outcome(small_table(), np.array([0, 0, 1]))
    with pytest.raises(TableError, match="the table 3 queries"):
        outcome(small_table(), np.array([0, 0]))


def test_single_models_are_one_point_each_and_their_hull_is_the_zero_router():
    """Half of the queries to each model costs and achieves the mean of both."""
    table = seeded_table()
    cost, quality = single_models(table).means()
    assert cost == pytest.approx([0.1, 0.3, 1.0])
    assert quality.tolist() == table.quality.mean(axis=0).tolist()
    corners = hull(cost, quality)
    assert len(corners[0]) == 3
    assert hull_quality(cost, quality, (cost[1] + cost[2]) / 2) == pytest.approx((quality[1] + quality[2]) / 2)


def test_the_known_cost_of_a_model_is_its_mean_over_what_it_was_run_on():
    assert small_table().mean_cost_usd().tolist() == [2.0, 15.0]


def test_budgets_rise_evenly_from_the_cheapest_to_the_dearest_and_are_kept():
    table = seeded_table()
    curve = cost_quality_curve(table, oracle_estimates(table), points=11)
    cost, quality = curve.means()
    assert curve.budgets_usd == pytest.approx(np.linspace(0.1, 1.0, 11))
    assert (cost <= curve.budgets_usd * (1 + 1e-12)).all()
    assert curve.quality.shape == curve.cost_usd.shape == (11, len(table))
    assert cost[0] == pytest.approx(0.1)
    assert quality[-1] == table.quality.max(axis=1).mean()
    assert (np.diff(quality) >= 0).all()


def test_a_curve_can_be_made_with_other_costs_and_another_solver():
    table = seeded_table()
    expected = np.array([0.2, 0.3, 0.4])

    def by_quality(problem: Problem) -> Assignment:
        return greedy_ratio(problem, alpha=0.0)

    curve = cost_quality_curve(table, table.quality, points=5, expected_cost_usd=expected, solver=by_quality)
    assert curve.budgets_usd == pytest.approx(np.linspace(0.2, 0.4, 5))
    by_hand = by_quality(Problem(table.quality, expected, 0.3 * len(table)))
    assert curve.quality[2].tolist() == outcome(table, by_hand).quality.tolist()


def test_no_router_is_above_the_oracle_at_any_cost():
    table, train = seeded_table(), seeded_table(seed=1)
    generator = np.random.default_rng(2)
    oracle = cost_quality_curve(table, oracle_estimates(table)).means()
    routers = {
        "length": prompt_length_estimates(table, train),
        "random": random_estimates(table, train, seed=0),
        "noisy oracle": table.quality + generator.normal(0, 0.5, table.quality.shape),
    }
    at = np.linspace(0.0, 1.2, 200)
    for name, estimates in routers.items():
        router = cost_quality_curve(table, estimates).means()
        assert (hull_quality(*oracle, at) >= hull_quality(*router, at) - 1e-12).all(), name
        assert aiq(*oracle, 0.1, 1.0) > aiq(*router, 0.1, 1.0), name


def test_estimates_shuffled_over_the_queries_gain_little_of_what_the_oracle_gains():
    table = seeded_table()
    zero = aiq(*single_models(table).means(), 0.1, 1.0)
    shuffled = np.random.default_rng(3).permutation(table.quality)
    gains = [
        aiq(*cost_quality_curve(table, estimates, points=21).means(), 0.1, 1.0) - zero
        for estimates in (oracle_estimates(table), shuffled)
    ]
    assert gains[0] > 0.05
    assert gains[1] < 0.25 * gains[0]


def test_the_length_of_a_prompt_orders_the_queries_and_keeps_the_models_means():
    table, train = seeded_table(), seeded_table(seed=1)
    estimates = prompt_length_estimates(table, train)
    mean = train.quality.mean(axis=0)
    spread = estimates[:, mean.argmax()]
    assert estimates.shape == table.quality.shape
    assert (np.diff(spread[np.argsort([len(prompt) for prompt in table.prompts], kind="stable")]) > 0).all()
    assert estimates.mean(axis=0) == pytest.approx(mean, abs=1 / len(table))
    assert estimates[:, mean.argmin()] == pytest.approx(mean.min())


def test_random_estimates_are_the_same_numbers_in_another_order_and_follow_their_seed():
    table, train = seeded_table(), seeded_table(seed=1)
    first, again, other = (random_estimates(table, train, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.sort(first, axis=0) == pytest.approx(np.sort(prompt_length_estimates(table, train), axis=0))


def test_log_loss_is_what_scikit_learn_computes_on_the_observed_cells():
    generator = np.random.default_rng(4)
    quality = (generator.uniform(size=(40, 3)) < 0.6).astype(float)
    estimates = generator.uniform(0.01, 0.99, size=(40, 3))
    quality[generator.uniform(size=quality.shape) < 0.3] = np.nan
    seen = ~np.isnan(quality)
    theirs = sklearn.metrics.log_loss(quality[seen], estimates[seen])
    assert log_loss(quality, estimates) == pytest.approx(theirs, rel=1e-12)


def test_log_loss_of_a_graded_quality_and_of_certainty():
    assert log_loss(np.array([[0.5]]), np.array([[0.5]])) == pytest.approx(math.log(2))
    assert log_loss(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])) == pytest.approx(1e-7, rel=1e-3)
    assert log_loss(np.array([[0.0]]), np.array([[1.0]])) == pytest.approx(-math.log(1e-7))


def by_deciles(weak: np.ndarray, strong: np.ndarray, score: np.ndarray) -> float:
    """RouteLLM's rule with pandas' deciles: at or above each one, and strictly above the last."""
    thresholds = pd.qcut(score, 10, retbins=True)[1]
    called = [score >= threshold for threshold in thresholds[:-1]] + [score > thresholds[-1]]
    share = np.array([calls.mean() for calls in called])[::-1]
    quality = np.array([np.where(calls, strong, weak).mean() for calls in called])[::-1]
    low, high = weak.mean() * (share[-1] - share[0]), strong.mean() * (share[-1] - share[0])
    return float((np.trapezoid(quality, share) - low) / (high - low))


def test_a_score_that_says_nothing_recovers_half_of_the_gap():
    """A strong model that is better by the same amount everywhere gains in proportion to its share of calls."""
    weak, strong = np.full(50, 0.25), np.full(50, 0.75)
    assert apgr(weak, strong, np.random.default_rng(5).uniform(size=50)) == pytest.approx(0.5)
    assert apgr(weak, strong, np.zeros(50)) == pytest.approx(0.5)


def test_a_perfect_score_recovers_more_than_half_and_a_perverse_one_less():
    """The strong model is right on the upper five of ten: all of the gap at half of the calls, so 1/4 + 1/2."""
    score = np.arange(10.0)
    strong = (score >= 5).astype(float)
    assert apgr(np.zeros(10), strong, score) == pytest.approx(0.75)
    assert apgr(np.zeros(10), strong, -score) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_recovered_follows_the_rule_of_routellm(seed: int):
    """With distinct scores, a hundred or so to a decile, and with ties at the top."""
    generator = np.random.default_rng(seed)
    weak, strong = (generator.uniform(size=(2, 1000)) < [[0.5], [0.8]]).astype(float)
    for score in (generator.uniform(size=1000), np.minimum(generator.integers(0, 400, 1000), 390).astype(float)):
        assert apgr(weak, strong, score) == pytest.approx(by_deciles(weak, strong, score), abs=1e-12)


@pytest.mark.parametrize(("source", "folder", "queries", "figure"), [
    ("routellm-mmlu", "mmlu", 14_037, 0.583),
    ("routellm-gsm8k", "gsm8k", 1_307, 0.598),
])  # fmt: skip
def test_the_length_of_a_prompt_recovers_this_much(data: Path, source: str, folder: str, queries: int, figure: float):
    """To within one in the third decimal, which is what the order of prompts of equal length makes of it."""
    table = load_source(source, data / "routellm" / folder, decontaminate=True)
    weak, strong = table.quality.T
    length = np.array([len(prompt) for prompt in table.prompts], float)
    assert len(table) == queries
    assert weak.mean() < strong.mean()
    assert apgr(weak, strong, length) == pytest.approx(figure, abs=1e-3)


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


def test_an_interval_is_told_in_points():
    assert str(Interval(value=0.022, low=-0.0191, high=0.027)) == "+2.2 (-1.9 to +2.7)"


def test_the_measure_of_curves_is_taken_on_the_same_resamples():
    table = seeded_table()
    curves = [cost_quality_curve(table, oracle_estimates(table), points=5), single_models(table)]
    measure = curve_measure(lambda c, q, c0, q0: aiq(c, q, 0.1, 1.0) - aiq(c0, q0, 0.1, 1.0), curves)
    weights = bootstrap_weights(len(table), resamples=50)
    drawn = np.repeat(np.arange(len(table)), np.rint(weights[7] * len(table)).astype(int))
    picked = [Curve(quality=curve.quality[:, drawn], cost_usd=curve.cost_usd[:, drawn]).means() for curve in curves]
    assert measure(weights)[7] == pytest.approx(aiq(*picked[0], 0.1, 1.0) - aiq(*picked[1], 0.1, 1.0))
    found = paired_interval(measure, weights)
    assert found.value == pytest.approx(measure(np.full((1, len(table)), 1 / len(table)))[0])
    assert 0 < found.low < found.value < found.high
