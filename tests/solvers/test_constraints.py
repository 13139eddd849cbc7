"""Budgets, minimum values, masks and capacities together: what every solver promises under them, against brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from solvers import (
    InfeasibleBudget,
    InfeasibleProblem,
    InfeasibleValue,
    Problem,
    ProblemError,
    exact,
    frontier,
    greedy_ratio,
    lagrangian,
)
from solvers.dual import dual_bound
from tests.solvers.constrained import CAREFUL, ROUNDING, assignments, check_honest, crowded, drawn


@CAREFUL
@given(drawn(), st.data())
def test_with_a_budget_value_is_maximised_within_masks_and_capacities(arguments: dict, data: st.DataObject):
    possible = assignments(arguments)
    assume(possible)
    budget = data.draw(st.sampled_from([cost for _, cost, _ in possible]))
    optimum = max(value for value, cost, _ in possible if cost <= budget * (1 + 1e-12))
    problem = Problem(**arguments, budget_usd=budget)
    near, best = lagrangian(problem), exact(problem)
    for found in (near, best):
        check_honest(problem, found)
        assert found.value <= optimum <= found.bound
        assert found.objective == "value"
    assert (best.status, best.value) == ("optimal", pytest.approx(optimum, rel=0, abs=ROUNDING))
    assert near.status == "feasible" or near.value >= optimum - ROUNDING


@CAREFUL
@given(drawn(), st.data())
def test_with_a_minimum_value_cost_is_minimised(arguments: dict, data: st.DataObject):
    possible = assignments(arguments)
    assume(possible)
    least = data.draw(st.sampled_from([value for value, _, _ in possible]))
    least = data.draw(st.sampled_from([least, np.nextafter(least, math.inf), least * (1 + 9e-13), least - 0.05]))
    enough = [cost for value, cost, _ in possible if value >= least - 1e-12 * abs(least)]
    assume(enough)
    optimum = min(enough)
    problem = Problem(**arguments, minimum_value=least)
    near, best = lagrangian(problem), exact(problem)
    for found in (near, best):
        check_honest(problem, found)
        assert found.bound <= optimum <= found.cost_usd
        assert found.objective == "cost_usd"
    assert (best.status, best.cost_usd) == ("optimal", pytest.approx(optimum, rel=0, abs=ROUNDING))
    assert near.status == "feasible" or near.cost_usd <= optimum + ROUNDING


@CAREFUL
@given(drawn())
def test_the_least_budget_and_the_most_value_are_what_errors_name(arguments: dict):
    possible = assignments(arguments)
    if not possible:
        with pytest.raises(InfeasibleProblem):
            Problem(**arguments)
        return
    least, most = min(cost for _, cost, _ in possible), max(value for value, _, _ in possible)
    if least > 0:
        with pytest.raises(InfeasibleBudget) as below:
            Problem(**arguments, budget_usd=least * (1 - 1e-9))
        assert below.value.least_budget_usd == pytest.approx(least, rel=1e-12)
        assert exact(Problem(**arguments, budget_usd=below.value.least_budget_usd)).cost_usd <= least * (1 + 1e-12)
    with pytest.raises(InfeasibleValue) as above:
        Problem(**arguments, minimum_value=most + 1e-9)
    # With capacities a flow rounds values to 2^-50 or less of the largest one.
    assert above.value.most_value == pytest.approx(most, rel=1e-12, abs=1e-15)
    assert exact(Problem(**arguments, minimum_value=above.value.most_value)).value >= most - ROUNDING


@CAREFUL
@given(drawn(), st.floats(0.0, 5.0), st.data())
def test_at_any_price_and_any_tolls_the_bound_is_above_the_optimum(arguments: dict, price: float, data: st.DataObject):
    possible = assignments(arguments)
    assume(possible)
    budget = data.draw(st.sampled_from([cost for _, cost, _ in possible]))
    problem = Problem(**arguments, budget_usd=budget)
    optimum = max(value for value, cost, _ in possible if cost <= budget * (1 + 1e-12))
    tolls = np.array(data.draw(st.lists(st.floats(0.0, 2.0), min_size=problem.width, max_size=problem.width)))
    if problem.places is not None:
        assert dual_bound(problem, price, tolls) >= optimum
    assert dual_bound(problem, price) >= optimum


def test_the_order_of_queries_and_models_changes_nothing_within_capacities():
    problem = crowded(5, queries=60)
    generator = np.random.default_rng(1)
    rows, columns = generator.permutation(60), generator.permutation(6)
    moved = replace(
        problem,
        value=problem.value[np.ix_(rows, columns)],
        cost_usd=problem.cost_usd[np.ix_(rows, columns)],
        capacity=problem.capacity[columns],
    )
    assert exact(moved).value == pytest.approx(exact(problem).value, rel=1e-12)


def test_the_least_cost_for_a_value_and_the_most_value_for_that_cost_are_the_same_point():
    problem = crowded(6, queries=80)
    best = exact(problem)
    cheapest = exact(replace(problem, budget_usd=None, minimum_value=best.value))
    assert cheapest.status == "optimal" and cheapest.cost_usd <= best.cost_usd * (1 + 1e-12)
    again = exact(replace(problem, budget_usd=cheapest.cost_usd))
    assert again.value == pytest.approx(best.value, rel=1e-9)


def test_the_multiplier_is_value_per_dollar_from_both_sides():
    problem = replace(crowded(7, queries=3000), capacity=None)
    best = lagrangian(problem)
    cheapest = lagrangian(replace(problem, budget_usd=None, minimum_value=best.value))
    assert cheapest.multiplier == pytest.approx(best.multiplier, rel=0.02)
    assert "above the cheapest" in str(cheapest)
    # Nothing is asked for, so a dollar less costs no value that matters.
    assert lagrangian(replace(problem, budget_usd=None, minimum_value=0.0)).multiplier == math.inf


def test_a_budget_and_a_minimum_value_exclude_each_other():
    with pytest.raises(ProblemError, match=r"budget_usd=1.0 and minimum_value=0.5: give one of them"):
        Problem(np.ones((2, 2)), [1.0, 2.0], 1.0, minimum_value=0.5)
    with pytest.raises(ProblemError, match="minimum_value=nan must be finite"):
        Problem(np.ones((2, 2)), [1.0, 2.0], minimum_value=math.nan)


def test_what_knows_no_capacities_rejects_them_by_name():
    problem = Problem(np.ones((2, 2)), [1.0, 2.0], 4.0, capacity=[1, 1])
    with pytest.raises(ProblemError, match="greedy_ratio knows no capacity"):
        greedy_ratio(problem)
    with pytest.raises(ProblemError, match="frontier knows no capacity"):
        frontier(problem)
    with pytest.raises(ProblemError, match="greedy_ratio knows no minimum_value"):
        greedy_ratio(Problem(np.ones((2, 2)), [1.0, 2.0], minimum_value=1.0))


def test_without_any_limit_every_query_takes_its_best():
    value = np.random.default_rng(9).uniform(size=(40, 3))
    for solver in (lagrangian, exact):
        found = solver(Problem(value, [1.0, 2.0, 3.0]))
        assert found.choice.tolist() == value.argmax(axis=1).tolist()
        assert (found.status, found.gap) == ("optimal", 0.0)


def test_costs_that_hardly_differ_do_not_hide_the_best():
    """Their rounding, times the price, is larger than what the values' own rounding explains."""
    value = np.array([[2.000000017, 1.000000027], [1.000000085, 2.000000052]])
    cost = np.array([[1000000.00054, 1000000.00005], [1000000.00047, 1000000.00076]])
    found = exact(Problem(value, cost, 2000000.00101))
    assert found.bound >= math.fsum([2.000000017, 1.000000085])
    assert found.choice.tolist() == [0, 0]
