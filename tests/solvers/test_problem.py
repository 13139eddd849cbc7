"""Problem and Assignment: what is rejected and with which message, exact sums, budgets to the last digit."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import (
    Assignment,
    InfeasibleBudget,
    InfeasibleProblem,
    Problem,
    ProblemError,
    exact,
    greedy_ratio,
    lagrangian,
    solve,
)
from solvers.assignment import proved
from solvers.choices import best_of

CAREFUL = settings(deadline=None, derandomize=True, max_examples=100)


def some_assignment(**changes: object) -> Assignment:
    found = Assignment(
        choice=np.array([0, -1, 2, -1], np.int32),
        value=3.0,
        cost_usd=1.5,
        bound=4.0,
        multiplier=0.5,
        status="feasible",
        seconds=0.25,
        solver="by hand",
    )
    return replace(found, **changes)


def rejection(*arguments: object, **options: object) -> str:
    with pytest.raises(ProblemError) as caught:
        Problem(*arguments, **options)
    return str(caught.value)


def test_every_wrong_cell_is_reported_at_once():
    value = np.array([[np.nan, 1.0], [np.inf, 1.0]])
    cost = np.array([[1.0, -1.0], [np.nan, np.inf]])
    message = rejection(value, cost, 10.0)
    assert "value[0, 0]=nan must be finite (2 such cells)" in message
    assert "cost_usd[0, 1]=-1.0 must be finite and >= 0 dollars (3 such cells)" in message


def test_wrong_shapes_and_a_wrong_budget_are_reported_together():
    message = rejection(np.zeros((3, 2)), np.zeros(3), -1.0, available=np.ones((2, 3), bool))
    assert "cost_usd has shape (3,), expected (3, 2) or (2,)" in message
    assert "available is bool of shape (2, 3), expected bool of (3, 2)" in message
    assert "budget_usd=-1.0 must be finite and >= 0 dollars" in message


def test_a_wrong_cell_and_a_query_without_a_model_are_reported_together():
    available = np.array([[True, True], [False, False], [False, False]])
    message = rejection(np.full((3, 2), np.nan), [1.0, 1.0], 10.0, available=available)
    assert "value[0, 0]=nan must be finite (2 such cells)" in message
    assert "no model is available for query 1 (2 such queries)" in message


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (4,), (2, 2, 2)])
def test_an_empty_batch_or_a_value_that_is_no_table_is_rejected(shape: tuple[int, ...]):
    assert f"value has shape {shape}, expected (queries, models)" in rejection(np.zeros(shape), np.zeros(shape), 1.0)


def test_a_mask_of_numbers_is_rejected():
    assert "available is int64" in rejection(np.ones((2, 2)), [0.0, 0.0], 1.0, available=np.ones((2, 2), np.int64))


@pytest.mark.parametrize("budget", [math.nan, math.inf, -math.inf, -1e-9])
def test_a_budget_must_be_a_number_of_dollars(budget: float):
    assert f"budget_usd={budget!r}" in rejection([[1.0]], [[0.0]], budget)


def test_masked_cells_are_never_read():
    """Cells where a model may not answer are NaN; the free and best model is not available either."""
    value = [[np.nan, 0.5, 0.7], [9.0, 0.25, np.nan]]
    cost = [[np.nan, 1.0, 2.0], [0.0, 1.0, np.inf]]
    available = np.array([[False, True, True], [False, True, False]])
    problem = Problem(value, cost, 2.0, available=available)
    assert problem.least_cost == 2.0
    for solver in (lagrangian, exact, greedy_ratio):
        found = solver(problem)
        assert found.choice.tolist() == [1, 1]
        assert (found.value, found.cost_usd) == (0.75, 2.0)


def test_a_query_without_a_model_may_be_left_unanswered_where_that_is_allowed():
    available = np.array([[False, False], [True, True]])
    problem = Problem(np.ones((2, 2)), [1.0, 2.0], 1.0, available=available, allow_unanswered=True)
    assert exact(problem).choice.tolist() == [-1, 0]


def test_one_cost_per_model_means_the_same_as_one_per_cell():
    value = np.random.default_rng(0).uniform(size=(6, 3))
    spread = np.tile([0.1, 0.2, 0.5], (6, 1))
    per_model, per_cell = (exact(Problem(value, cost, 1.5)) for cost in (spread[0], spread))
    assert per_model.choice.tolist() == per_cell.choice.tolist()
    assert per_model.cost_usd == per_cell.cost_usd


def test_ten_times_a_tenth_fits_into_one():
    problem = Problem(np.ones((10, 1)), [0.1], 1.0)
    assert problem.fits(problem.least_cost)
    assert exact(problem).cost_usd == math.fsum([0.1] * 10)


def test_a_budget_one_representable_number_below_the_least_is_within_the_tolerance():
    for cost in ([0.1] * 10, [0.1, 0.2], [0.7, 0.1, 0.3], [1e-7] * 3):
        costs = np.array(cost)[:, None]
        below = np.nextafter(math.fsum(cost), 0.0)
        assert lagrangian(Problem(np.ones_like(costs), costs, below)).cost_usd == math.fsum(cost)


def test_a_budget_clearly_below_the_least_is_rejected_and_the_least_is_named():
    with pytest.raises(InfeasibleBudget, match="below the cheapest assignment") as caught:
        Problem(np.ones((10, 2)), [0.1, 0.3], 1.0 - 1e-9)
    assert caught.value.budget_usd == 1.0 - 1e-9
    assert caught.value.least_budget_usd == math.fsum([0.1] * 10)
    assert repr(caught.value.least_budget_usd) in str(caught.value)
    assert isinstance(caught.value, InfeasibleProblem) and isinstance(caught.value, ProblemError)


COSTS = st.one_of(
    st.integers(0, 30).map(lambda count: count * 0.1),
    st.integers(0, 30).map(lambda count: count / 10),
    st.floats(0, 1e6),
)


@CAREFUL
@given(st.lists(st.lists(COSTS, min_size=2, max_size=2), min_size=1, max_size=8))
def test_the_least_budget_that_an_error_names_is_accepted_when_passed_back(costs: list[list[float]]):
    cost = np.array(costs)
    least = math.fsum(cost.min(axis=1))
    value = np.ones_like(cost)
    if least > 0:
        with pytest.raises(InfeasibleBudget) as caught:
            Problem(value, cost, least * (1 - 1e-9))
        assert caught.value.least_budget_usd == least
        least = caught.value.least_budget_usd
    problem = Problem(value, cost, least)
    for solver in (lagrangian, greedy_ratio, exact):
        assert math.fsum(cost[np.arange(len(cost)), solver(problem).choice]) <= least * (1 + 1e-12)


def test_with_unanswered_queries_any_budget_will_do():
    problem = Problem(np.ones((3, 1)), [5.0], 0.0, allow_unanswered=True)
    found = exact(problem)
    assert found.choice.tolist() == [-1, -1, -1]
    assert (found.value, found.cost_usd, found.unanswered) == (0.0, 0.0, 3)
    assert found.gap < 1e-12


def test_values_and_costs_are_summed_exactly():
    """A plain running sum of these loses the small numbers altogether."""
    value = np.array([[1e16], [1.0], [-1e16], [1.0]])
    cost = np.array([[1e16], [1.0], [1.0], [1.0]])
    found = lagrangian(Problem(value, cost, 2e16))
    assert found.value == 2.0
    assert found.cost_usd == 1e16 + 4.0  # the nearest double to 1e16 + 3


def test_numbers_in_float32_get_a_certificate_in_float64():
    generator = np.random.default_rng(1)
    value = generator.uniform(size=(2000, 4)).astype(np.float32)
    cost = np.array([0.1, 0.2, 0.4, 0.9], np.float32)
    problem = Problem(value, cost, np.float32(600.0))
    found = lagrangian(problem)
    rows = np.arange(2000)
    assert found.value == math.fsum(value[rows, found.choice].astype(np.float64))
    assert found.cost_usd == math.fsum(cost[found.choice].astype(np.float64))
    assert found.cost_usd <= 600.0 * (1 + 1e-12)
    assert found.value <= found.bound <= found.value + 1.0
    assert isinstance(found.bound, float) and isinstance(found.value, float)


def test_a_problem_cannot_be_changed_after_it_was_checked():
    problem = Problem([[1.0]], [[1.0]], 1.0)
    with pytest.raises(FrozenInstanceError):
        problem.budget_usd = 0.0  # pyright: ignore


def test_the_cheapest_choice_is_the_most_valuable_among_equals():
    problem = Problem([[0.1, 0.9, 0.9], [0.5, 0.4, 0.3]], [[1.0, 1.0, 1.0], [3.0, 2.0, 2.0]], 5.0)
    assert problem.cheapest.tolist() == [1, 1]


def test_ties_go_to_the_second_criterion_and_then_to_the_lower_index():
    first = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [3.0, 1.0, 3.0]])
    then = np.array([[0.0, 5.0, 5.0], [9.0, 1.0, 2.0], [-1.0, 7.0, -1.0]])
    assert best_of(first, then).tolist() == [1, 2, 0]


def test_the_gap_is_what_a_better_assignment_could_add_at_most():
    found = some_assignment()
    assert found.gap == 1.0
    assert found.relative_gap == 0.25
    assert some_assignment(bound=2.0).gap == 0.0
    assert some_assignment(value=-4.0, bound=-2.0).relative_gap == 1.0


def test_a_bound_of_nothing_has_no_relative_gap():
    assert some_assignment(value=0.0, bound=0.0).relative_gap == 0.0


def test_of_a_best_value_of_nothing_rounding_is_no_gap():
    """One query at 1 and one at -1: of the bound, which is rounded outward, all is missing."""
    problem = Problem([[-1.0, 1.0], [1.0, 1.3]], [1.0, 2.0], 2.0)
    for solver in ("greedy_ratio", "lagrangian", "exact"):
        found = solve(problem, solver)
        assert found.value == 0.0 < found.bound
        assert found.relative_gap == 0.0 and "below" not in str(found)
    assert some_assignment(value=0.0, bound=1e-3).relative_gap == 1.0


def test_what_costs_nothing_costs_no_dollars_below_nothing():
    free = lagrangian(Problem([[0.5, 1.0]], [0.0, 0.0], minimum_value=0.75))
    assert not np.signbit([free.cost_usd, free.bound]).any() and " -0" not in str(free)


def test_an_assignment_counts_what_it_left_unanswered_and_says_so():
    lossy, whole = some_assignment(), some_assignment(choice=np.array([0, 1], np.int32))
    assert (lossy.unanswered, whole.unanswered) == (2, 0)
    assert "2 unanswered" in str(lossy) and "unanswered" not in str(whole)
    for part in ("by hand", "value 3", "1.5 dollars", "4 queries", "feasible", "at most 25% below the best"):
        assert part in str(lossy)


def test_a_bound_that_rounding_put_below_the_value_is_raised_to_it():
    problem = Problem([[1.0, 2.0]], [1.0, 2.0], 2.0, allow_unanswered=True)
    options = {"multiplier": 0.0, "status": "feasible", "seconds": 0.0, "solver": "by hand"}
    found = proved(problem, np.array([1]), bound=1.5, **options)
    assert (found.value, found.bound, found.gap) == (2.0, 2.0, 0.0)
    left_out = proved(problem, np.array([2]), bound=1.5, **options)
    assert left_out.choice.dtype == np.int32
    assert left_out.choice.tolist() == [-1]


def test_numbers_whose_sums_would_overflow_are_rejected():
    assert "value[0, 0]=1e+308 must be finite" in rejection([[1e308, 1.0]], [1.0, 2.0], 1.0)


def test_a_query_that_no_model_may_answer_is_an_infeasible_problem():
    with pytest.raises(InfeasibleProblem, match="allow unanswered queries"):
        Problem(np.ones((2, 1)), [1.0], 5.0, available=np.array([[True], [False]]))


@pytest.mark.parametrize(
    ("value", "cost", "budget"),
    [
        ([["a", "b"]], [1.0, 2.0], 1.0),
        ([[1j, 2.0]], [1.0, 2.0], 1.0),
        ([[1.0, 2.0]], [None, 2.0], 1.0),
    ],
)
def test_what_is_no_number_is_rejected(value: object, cost: object, budget: object):
    assert "must be numbers" in rejection(value, cost, budget)
