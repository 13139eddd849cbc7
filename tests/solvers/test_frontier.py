"""Every budget at once: the curve against the solvers that look at one budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import InfeasibleBudget, Problem, exact, frontier, lagrangian
from solvers.dual import search

CAREFUL = settings(deadline=None, derandomize=True, max_examples=150)
TENTHS = st.integers(0, 10).map(lambda count: count / 10)


@st.composite
def roomy_problems(draw: st.DrawFn) -> Problem:
    """Ties, free answers, equal models, closed cells and queries that may stay unanswered; a budget that pays for all."""
    queries, models = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    fine = st.integers(0, 1_000_003).map(lambda count: count / 1_000_003)
    cells = draw(st.sampled_from([TENTHS, st.sampled_from([0.0, 1.0]), fine]))
    size = queries * models
    value = np.array(draw(st.lists(cells, min_size=size, max_size=size))).reshape(queries, models)
    cost = np.array(draw(st.lists(cells, min_size=size, max_size=size))).reshape(queries, models)
    available = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(queries, models)
    available[:, draw(st.integers(0, models - 1))] = True
    return Problem(value, cost, 1.0 + cost.sum(), available=available, allow_unanswered=draw(st.booleans()))


def at_budget(problem: Problem, budget: float) -> Problem:
    return Problem(
        problem.value,
        problem.cost_usd,
        budget,
        available=problem.available,
        allow_unanswered=problem.allow_unanswered,
    )


@CAREFUL
@given(roomy_problems(), st.floats(0.0, 1.0))
def test_the_curve_is_above_every_assignment_and_its_own_is_honest(problem: Problem, share: float):
    curve = frontier(problem)
    budget = problem.least_cost + share * (curve.cost_usd[-1] - problem.least_cost)
    best = exact(at_budget(problem, budget))
    assert best.value <= curve.value_at(budget) + 1e-9
    found = curve.assignment(budget)
    assert found.value <= best.value + 1e-9 and best.value <= found.bound
    assert found.cost_usd <= budget * (1 + 1e-12)
    posed = at_budget(problem, budget)
    assert search(posed, posed.cheapest).bound == pytest.approx(curve.value_at(budget), abs=1e-9)


@CAREFUL
@given(roomy_problems())
def test_every_point_is_the_best_assignment_for_what_it_costs(problem: Problem):
    curve = frontier(problem)
    for cost, value in zip(curve.cost_usd, curve.value, strict=True):
        found = curve.assignment(cost * (1 + 1e-12))
        assert found.value == pytest.approx(value, abs=1e-9)
        assert exact(at_budget(problem, cost * (1 + 1e-12))).value == pytest.approx(value, abs=1e-9)


@CAREFUL
@given(roomy_problems())
def test_the_curve_rises_and_bends_one_way_from_the_cheapest_to_the_best(problem: Problem):
    curve = frontier(problem)
    assert (np.diff(curve.cost_usd) > 0).all() and (np.diff(curve.value) > 0).all()
    assert (np.diff(curve.multiplier) <= 0).all() and curve.multiplier[-1] == 0
    assert curve.cost_usd[0] == problem.least_cost
    assert curve.value[-1] == pytest.approx(lagrangian(problem).value, abs=1e-9)
    assert len(curve) == len(curve.query) + 1 == len(curve.choice) + 1 == len(curve.value) == len(curve.multiplier)


def test_the_multiplier_says_what_the_next_dollar_buys():
    """Two steps: half a point for a cent, then a quarter for ten cents."""
    curve = frontier(Problem([[0.0, 0.5, 0.75]], [0.0, 0.01, 0.11], 1.0))
    assert curve.multiplier_at(0.0) == pytest.approx(50.0)
    assert curve.multiplier_at(0.05) == pytest.approx(2.5)
    assert curve.multiplier_at(0.11) == 0.0
    assert curve.value_at(0.06) == pytest.approx(0.625)
    assert curve.value_at(np.array([0.0, 0.01, 9.0])).tolist() == [0.0, 0.5, 0.75]


def test_a_budget_below_the_cheapest_is_rejected_and_has_no_value():
    curve = frontier(Problem(np.ones((10, 2)), [0.1, 0.3], 5.0))
    assert math.isnan(curve.value_at(0.9))
    for ask in (curve.multiplier_at, curve.assignment):
        with pytest.raises(InfeasibleBudget) as caught:
            ask(0.9)
        assert ask(caught.value.least_budget_usd) is not None


def test_large_batches_are_walked_chunk_by_chunk_to_the_same_curve():
    generator = np.random.default_rng(0)
    problem = Problem(generator.uniform(size=(20_000, 7)), generator.uniform(0.01, 1, size=(20_000, 7)), 1e5)
    curve = frontier(problem)
    for budget in np.linspace(problem.least_cost, curve.cost_usd[-1], 7)[1:]:
        posed = at_budget(problem, budget)
    assert search(posed, posed.cheapest).bound == pytest.approx(curve.value_at(budget), rel=1e-9)
