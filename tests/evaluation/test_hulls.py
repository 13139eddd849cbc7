"""Interpolation, hulls and areas: worked out by hand, against SciPy, all resamples at once against one after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from jaxroute.evaluation import aiq, aiqs, hull, hull_quality, hulls, least_cost

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
EIGHTHS = st.integers(0, 40).map(lambda count: count / 8)
POINTS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=15).map(lambda points: np.array(points).T)
RESAMPLES = st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(
    lambda shape: st.lists(
        st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    ).map(lambda points: np.moveaxis(np.array(points), 2, 0))
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
    assert aiq(np.array([1.0]), np.array([0.5]), 1.0, 1.0) == 0.5
    for low, high in ((2.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="range of costs"):
            aiq(np.ones(2), np.ones(2), low, high)
    with pytest.raises(ValueError, match="convention='other'"):
        aiq(np.ones(2), np.ones(2), 0.0, 1.0, convention="other")


@CAREFUL
@given(RESAMPLES)
def test_all_hulls_at_once_are_the_hulls_one_after_the_other(points: np.ndarray):
    cost, quality = points
    x, y = hulls(cost, quality)
    for row in range(len(cost)):
        corners = hull(cost[row], quality[row])
        assert np.interp(corners[0], x[row], y[row]) == pytest.approx(corners[1], abs=1e-12)
        assert (x[row, 0], y[row, -1]) == (corners[0][0], corners[1][-1])
        assert np.interp(x[row], *corners) == pytest.approx(y[row], abs=1e-12)


@CAREFUL
@given(RESAMPLES, st.sampled_from(["paper", "code"]))
def test_all_areas_at_once_are_the_areas_one_after_the_other(points: np.ndarray, convention: str):
    found = aiqs(*points, 0.5, 4.0, convention=convention)
    slow = [aiq(cost, quality, 0.5, 4.0, convention=convention) for cost, quality in zip(*points, strict=True)]
    assert found == pytest.approx(slow, abs=1e-12)


@CAREFUL
@given(POINTS)
def test_the_area_is_that_of_ten_thousand_thin_strips(points: np.ndarray):
    edges = np.linspace(0.3, 4.7, 10_001)
    strips = hull_quality(*points, (edges[1:] + edges[:-1]) / 2).mean()
    assert aiq(*points, 0.3, 4.7) == pytest.approx(strips, abs=1e-4)


@CAREFUL
@given(POINTS, st.randoms(use_true_random=False))
def test_order_repeats_and_points_below_do_not_change_the_area(points: np.ndarray, random):
    order = list(range(points.shape[1]))
    random.shuffle(order)
    more = np.concatenate([points[:, order], points[:, :1], [[points[0, 0] + 1], [points[1, 0] / 2]]], axis=1)
    assert aiq(*more, 0.5, 4.0) == pytest.approx(aiq(*points, 0.5, 4.0), abs=1e-12)


@CAREFUL
@given(POINTS)
def test_the_area_lies_between_the_least_and_the_best_quality_of_what_can_be_had(points: np.ndarray):
    low, high = points[0].min(), 6.0
    cheapest = points[1][points[0] == low].max()
    assert cheapest - 1e-12 <= aiq(*points, low, high) <= points[1].max() + 1e-12
