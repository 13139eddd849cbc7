"""Curves as they are: heights and areas worked out, and all resamples at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute.evaluation import aiq, areas, heights, hull_quality

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
EIGHTHS = st.integers(0, 40).map(lambda count: count / 8)
POINTS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=15).map(lambda points: np.array(points).T)


def test_points_are_joined_as_they_are():
    """RouterBench's two extensions of the points (2, 0.6), (4, 0.4), (8, 0.8), of which the middle one lies under the hull."""
    cost, quality = np.array([8.0, 2.0, 4.0]), np.array([0.8, 0.6, 0.4])
    at = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 100.0]
    assert [float(heights(cost, quality, one)) for one in at] == pytest.approx([0.0, 0.3, 0.6, 0.5, 0.4, 0.6, 0.8, 0.8])
    assert areas(cost, quality, 2.0, 10.0) == pytest.approx((2 * 0.5 + 4 * 0.6 + 2 * 0.8) / 8)


def test_at_one_cost_the_area_is_the_height():
    cost, quality = np.array([[2.0], [2.0]]), np.array([[0.6], [0.4]])
    assert areas(cost, quality, 2.0, 2.0).tolist() == [0.6, 0.4]
    assert areas(np.zeros(2), np.array([0.1, 0.7]), 0.0, 0.0) == 0.7, "free models: the last point counts"
    with pytest.raises(ValueError, match="is empty"):
        areas(cost, quality, 2.0, 1.0)


@CAREFUL
@given(POINTS, EIGHTHS)
def test_the_hull_lies_on_or_above_the_curve(points: np.ndarray, at: float):
    assert hull_quality(*points, at) >= heights(*points, at) - 1e-12
    assert aiq(*points, 0.5, 4.0) >= areas(*points, 0.5, 4.0) - 1e-12


@settings(CAREFUL, max_examples=15)
@given(POINTS)
def test_the_area_is_that_of_thin_strips(points: np.ndarray):
    edges = np.linspace(0.3, 4.7, 1_001)
    strips = np.mean([heights(*points, at) for at in (edges[1:] + edges[:-1]) / 2])
    assert areas(*points, 0.3, 4.7) == pytest.approx(strips, abs=0.02)


def test_all_resamples_at_once_are_one_after_the_other():
    cost, quality = np.random.default_rng(3).integers(0, 8, (2, 50, 9)) / 8
    for measure in (lambda c, q: areas(c, q, 0.1, 0.9), lambda c, q: heights(c, q, 0.5)):
        one_by_one = [float(measure(c, q)) for c, q in zip(cost, quality, strict=True)]
        assert measure(cost, quality) == pytest.approx(one_by_one)
