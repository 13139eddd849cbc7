"""Values on a grid: found where they are, and bounds rounded down to what a sum can be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Problem, exact, lagrangian
from solvers.grid import common_steps, find_steps, largest_sum, round_down, steps_of

CAREFUL = settings(deadline=None, derandomize=True, max_examples=100)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 10, 63])
def test_the_grid_of_k_levels_is_found(levels: int):
    counts = np.random.default_rng(0).integers(0, levels + 1, (100, 5))
    counts[0, 0] = 1
    assert find_steps(counts / levels, 1) == levels
    assert Problem(counts / levels, np.ones(5)).steps == levels


def test_a_grid_is_refined_where_later_queries_ask_for_it():
    assert find_steps(np.array([[0.5, 1.0]]), 1) == 2
    assert find_steps(np.array([[1 / 3, 1.0]]), 2) == 6
    assert find_steps(np.array([[0.05, 1.0]]), 1) == 20
    assert find_steps(np.array([[0.0005, 1.0]]), 1) == 10_000


def test_what_is_on_no_grid_has_none():
    generator = np.random.default_rng(1)
    assert find_steps(generator.uniform(size=(10, 3)), 1) == 0
    assert Problem(generator.uniform(size=(10, 3)), np.ones(3)).steps == 0
    # A third in float32 is not a third.
    assert find_steps(np.full((2, 2), 1 / 3, np.float32).astype(np.float64), 1) == 0
    one_off = np.zeros((1000, 2))
    one_off[-1, -1] = math.pi / 10
    assert find_steps(one_off, 1) == 0


@CAREFUL
@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.sampled_from([1, 3, 7, 10]), st.floats(0.0, 0.999))
def test_no_sum_on_the_grid_is_lost_by_rounding_down(counts: list[int], steps: int, above: float):
    """A bound anywhere above a sum that exists stays above it, and comes within rounding of the nearest such sum."""
    values = [count / steps for count in counts]
    total = math.fsum(values)
    rounded = round_down(total + above / steps, steps, math.fsum(values))
    assert total <= rounded <= total + above / steps
    assert above < 0.99 or rounded <= total + 1e-10
    assert round_down(total + 0.5 / steps, steps, math.fsum(values)) == pytest.approx(total, abs=1e-12)


def test_without_a_grid_or_beyond_its_precision_a_bound_stays_what_it_is():
    assert round_down(1.5, 0, 1.0) == 1.5
    assert round_down(1.5, 1, 1e16) == 1.5


def test_right_or_wrong_is_proved_by_the_lagrangian_alone():
    generator = np.random.default_rng(2)
    value = (generator.uniform(size=(2000, 4)) < [0.4, 0.5, 0.6, 0.8]).astype(float)
    cost = np.array([0.1, 0.2, 0.5, 3.0]) * generator.uniform(0.5, 1.5, (2000, 1))
    proved = 0
    for budget in (300.0, 400.0, 500.0, 700.0, 900.0):
        problem = Problem(value, cost, budget)
        found, best = lagrangian(problem), exact(problem)
        assert best.status == "optimal" and found.value <= best.value <= found.bound
        proved += found.status == "optimal"
    assert proved >= 3


def test_a_minimum_value_rounds_the_bound_on_dollars_up():
    value = np.random.default_rng(3).uniform(size=(500, 3))
    cost = np.array([0.01, 0.05, 0.25])
    problem = Problem(value, cost, minimum_value=300.0)
    assert problem.steps == 100
    found = exact(problem)
    assert found.status == "optimal"
    assert found.bound * 100 == pytest.approx(round(found.bound * 100), abs=1e-7)


@CAREFUL
@given(
    st.integers(1, 6),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.floats(0.0, 1.0),
    st.sampled_from([1.0, 0.01, 0.3]),
)
def test_no_sum_of_costs_is_lost_by_rounding_the_limit_down(count: int, cents: list[int], share: float, unit: float):
    cost = np.array(cents) * unit
    sums = sorted({math.fsum(some) for some in itertools.combinations_with_replacement(cost.tolist(), count)})
    limit = sums[0] + share * (sums[-1] - sums[0])
    rounded = largest_sum(cost, count, limit)
    below = max(one for one in sums if one <= limit)
    assert below <= rounded <= limit
    if len(set(cents)) == 2:
        assert rounded == below or limit == sums[-1]


def test_the_limit_of_a_pair_is_a_sum_of_its_costs_to_the_last_digit():
    generator = np.random.default_rng(4)
    for _ in range(200):
        cost, count = generator.uniform(size=2), int(generator.integers(1, 1000))
        limit = count * cost.min() + generator.uniform() * count * np.ptp(cost)
        rounded = largest_sum(cost, count, limit)
        sums = np.array([math.fsum([count * cost.min(), more * cost.max(), -more * cost.min()]) for more in range(count + 1)])
        assert rounded == pytest.approx(sums[sums <= limit].max(), rel=1e-14)
    assert largest_sum(np.array([0.2, 0.6, 20.0]), 10, 7.3) == pytest.approx(7.2)
    assert largest_sum(generator.uniform(size=3), 10, 2.0) == 2.0
    assert largest_sum(np.array([0.5, 0.5]), 10, 7.3) == 7.3


def test_parts_of_values_say_together_which_grid_all_are_on():
    generator = np.random.default_rng(0)
    for steps in (1, 2, 3, 12, 60, 64, 100, 1_000):
        value = generator.integers(0, 50, (3, 40)) / steps
        value[0, 0] = -math.inf
        value[1, 0] = 1 / steps
        assert steps_of(value) == steps
        for first in (1, 7, 39):
            assert common_steps(steps_of(value[:, :first]), steps_of(value[:, first:])) == steps
    assert steps_of(generator.random((3, 100))) == 0
    assert common_steps(3, 100) == common_steps(0, 1) == 0 and common_steps(4, 25) == 100
