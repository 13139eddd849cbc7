"""Capacities: flows, tolls and exchanges, against other methods for the same problem."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import eye_array, kron

from solvers import InfeasibleCapacity, InfeasibleProblem, Problem, ProblemError, exact, lagrangian
from solvers.capacity import share
from solvers.dual import dual_bound, search
from tests.solvers.constrained import CAREFUL, ROUNDING, assignments, check_honest, crowded, drawn


@CAREFUL
@given(drawn(), st.floats(0.0, 5.0))
def test_the_tolls_of_a_flow_prove_it_best_at_its_price(arguments: dict, price: float):
    possible = assignments(arguments)
    assume(possible and "capacity" in arguments)
    problem = Problem(**arguments)
    shared = share(problem, price)
    value, cost = problem.totals(shared.choice)
    best = max(value - price * cost for value, cost, _ in possible)
    assert value - price * cost == pytest.approx(best, rel=0, abs=1e-10)
    spare = problem.spare(shared.choice)
    assert (spare >= 0).all() and (shared.tolls >= 0).all() and (shared.tolls[spare > 0] == 0).all()
    cells, costs = problem.choices
    worth = cells - price * costs - shared.tolls
    assert (worth[np.arange(len(worth)), shared.choice] >= worth.max(axis=1) - 1e-10).all()


def test_without_a_budget_a_full_house_is_the_classical_assignment_problem():
    """Against scipy's Hungarian method, a column for every place."""
    generator = np.random.default_rng(0)
    value, capacity = generator.uniform(size=(60, 4)), np.array([10, 20, 5, 25])
    found = lagrangian(Problem(value, np.ones(4), capacity=capacity))
    rows, columns = linear_sum_assignment(np.repeat(value, capacity, axis=1), maximize=True)
    best = np.repeat(value, capacity, axis=1)[rows, columns].sum()
    assert found.status == "optimal"
    assert found.value == pytest.approx(best, rel=1e-12)
    assert np.bincount(found.choice).tolist() == capacity.tolist()


def test_prices_and_tolls_together_come_close_on_a_crowded_batch():
    for seed in range(3):
        problem = crowded(seed)
        near, best = lagrangian(problem), exact(problem)
        check_honest(problem, near)
        check_honest(problem, best)
        assert near.value <= best.value + ROUNDING <= near.bound + 2 * ROUNDING
        assert best.status == "optimal"
        # One exchange along a path is all that separates the two sides of the budget.
        assert near.relative_gap < 5e-3
        assert search(problem, problem.cheapest).tolls.max() > 0


def test_a_fuller_house_is_worth_less():
    problem = crowded(4)
    values = [exact(replace(problem, capacity=np.full(6, room))).value for room in (57, 70, 100, 300)]
    assert values == sorted(values) and values[0] < values[-1]
    assert values[-1] == pytest.approx(exact(replace(problem, capacity=None)).value, rel=1e-12)


def test_on_a_large_batch_the_gap_is_a_few_queries():
    problem = crowded(8, queries=20_000)
    found = lagrangian(problem)
    check_honest(problem, found)
    assert found.relative_gap < 1e-4


def test_the_capacity_that_an_error_names_would_do():
    with pytest.raises(InfeasibleProblem, match=r"leaves 3 of 5 queries .* capacity=\[4, 1\] would do"):
        Problem(np.ones((5, 2)), [1.0, 2.0], capacity=[1, 1])
    Problem(np.ones((5, 2)), [1.0, 2.0], capacity=[4, 1])
    Problem(np.ones((5, 2)), [1.0, 2.0], capacity=[1, 1], allow_unanswered=True)


def test_masks_can_strand_a_query_that_capacities_alone_would_not():
    available = np.array([[True, False], [True, False], [True, True]])
    with pytest.raises(InfeasibleProblem, match="leaves 1 of 3 queries"):
        Problem(np.ones((3, 2)), [1.0, 2.0], capacity=[1, 2], available=available)


@pytest.mark.parametrize("capacity", [[1.0, 2.0], [1], [-1, 2], [[1, 2]]])
def test_a_capacity_is_a_whole_number_per_model(capacity: list):
    with pytest.raises(ProblemError, match="capacity="):
        Problem(np.ones((2, 2)), [1.0, 2.0], capacity=capacity)


def test_a_flow_on_some_of_the_choices_ends_where_the_flow_on_all_does(monkeypatch: pytest.MonkeyPatch):
    """Small limits make a small problem a large one: tolls of a sample, and rounds that add what is missing."""
    problems = [crowded(seed, queries=400) for seed in range(3)]
    problems += [replace(problem, cost_usd=np.tile(problem.cost_usd[0], (400, 1)), budget_usd=None) for problem in problems]
    whole = [share(problem, price) for problem in problems for price in (0.0, 0.3, math.inf)]
    monkeypatch.setattr("solvers.capacity.sharing.WHOLE", 100)
    monkeypatch.setattr("solvers.capacity.sharing.SAMPLE", 60)
    monkeypatch.setattr("solvers.capacity.sharing.BLOCK", 70)
    monkeypatch.setattr("solvers.capacity.tolls.BLOCK", 70)
    for near in (0.01, 0.2):
        monkeypatch.setattr("solvers.capacity.sharing.NEAR", near)
        pairs = zip(whole, [(problem, price) for problem in problems for price in (0.0, 0.3, math.inf)], strict=True)
        for expected, (problem, price) in pairs:
            found = share(problem, price)
            assert (problem.spare(found.choice) >= 0).all()
            worth = [
                -cost if math.isinf(price) else value - price * cost
                for value, cost in (problem.totals(found.choice), problem.totals(expected.choice))
            ]
            assert worth[0] == pytest.approx(worth[1], rel=1e-11)
            if math.isfinite(price):
                bounds = [dual_bound(problem, price, shared.tolls) for shared in (found, expected)]
                assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)


def test_the_toll_is_what_one_more_place_is_worth():
    problem = crowded(11, queries=3000)
    before = lagrangian(problem)
    assert before.tolls is not None and before.tolls.shape == (6,)
    model = int(before.tolls.argmax())
    more = problem.capacity + 2 * (np.arange(6) == model)
    after = lagrangian(replace(problem, capacity=more))
    assert (after.bound - before.bound) / 2 == pytest.approx(before.tolls[model], rel=0.05)
    # A toll never understates: the bound is concave in the capacities.
    assert after.bound <= before.bound + 2 * before.tolls[model] + 1e-9
    spare = problem.capacity - np.bincount(before.choice, minlength=6)
    assert (before.tolls[spare > 30] == 0).all()
    assert lagrangian(replace(problem, capacity=None)).tolls is None


@pytest.mark.parametrize("seed", range(20))
def test_in_a_full_house_even_a_worse_and_more_expensive_model_can_be_right(seed: int):
    """Against HiGHS on the whole program: what one query would never choose may be what lets another one in."""
    generator = np.random.default_rng(seed)
    queries, models, capacity = 30, 4, np.full(4, 8)
    value, cost = generator.uniform(size=(queries, models)), generator.uniform(size=(queries, models))
    budget = Problem(value, cost, capacity=capacity).least_cost * 1.3
    limits = [
        LinearConstraint(kron(eye_array(queries), np.ones((1, models))), 1, 1),
        LinearConstraint(kron(np.ones((1, queries)), eye_array(models)), -np.inf, capacity),
        LinearConstraint(cost.reshape(1, -1), ub=budget),
    ]
    whole = np.ones(queries * models)
    best = milp(-value.ravel(), constraints=limits, integrality=whole, bounds=Bounds(0, 1), options={"mip_rel_gap": 0})
    found = exact(Problem(value, cost, budget, capacity=capacity))
    assert found.status == "optimal"
    assert found.value == pytest.approx(-best.fun, rel=1e-7)


def test_where_only_exchanges_are_possible_as_many_are_made_as_the_budget_pays_for():
    """No model has room, every exchange of two queries buys the same, and so at the one price that matters all tie."""
    value = np.zeros((200, 2))
    value[:100, 1] = 1.0
    problem = Problem(value, value.copy(), 40.0, capacity=[100, 100])
    assert problem.totals(problem.cheapest) == (0.0, 0.0)
    found = lagrangian(problem)
    assert (found.value, found.cost_usd, found.status) == (40.0, 40.0, "optimal")


@pytest.mark.parametrize("models", [15, 40])
def test_a_long_chain_of_models_is_no_overflow(models: int):
    """Every query may go to its own model or the next one, and the last is full: making room moves them all."""
    queries = models - 1
    row, available, value = np.arange(queries), np.zeros((queries, models), bool), np.zeros((queries, models))
    available[row, row] = available[row, row + 1] = value[row, row + 1] = True
    capacity = [1] * queries + [0]
    found = lagrangian(Problem(value, np.ones(models), available=available, capacity=capacity))
    assert found.choice.tolist() == row.tolist() and found.status == "optimal"
    assert Problem(np.ones_like(value), 1 - value, available=available, capacity=capacity).least_cost == queries


@pytest.mark.parametrize("never", [1e6, 1e12, 1e17])
def test_a_price_that_nobody_would_pay_does_not_blur_the_others(never: float):
    cost = np.array([[0.1, 0.4], [0.3, 0.4], [0.1, never]])
    assert Problem(np.ones((3, 2)), cost, capacity=[2, 1]).least_cost == pytest.approx(0.6, rel=1e-12)
    generator = np.random.default_rng(0)
    cost = 10 ** generator.uniform(-5, -3, (200, 4))
    barred = generator.uniform(size=cost.shape) < 0.2
    barred[np.arange(200), generator.integers(4, size=200)] = False
    problem = Problem(np.ones_like(cost), cost, available=~barred, capacity=np.full(4, 60))
    priced = Problem(np.ones_like(cost), np.where(barred, never, cost), capacity=np.full(4, 60))
    assert priced.least_cost == pytest.approx(problem.least_cost, rel=1e-11)


def test_the_capacity_of_many_models_is_reported_in_short_and_as_numbers():
    """Forty models: the message names the one that has to take more, the error holds all of them."""
    capacity = [1] * 40
    with pytest.raises(
        InfeasibleCapacity, match=r"40 in all\] leaves 10 of 50 .* a capacity of 11 for model 0 would do"
    ) as caught:
        Problem(np.ones((50, 40)), np.arange(40.0), capacity=capacity)
    assert len(str(caught.value)) < 300
    assert caught.value.enough_capacity == [11, *capacity[1:]]
    Problem(np.ones((50, 40)), np.arange(40.0), capacity=caught.value.enough_capacity)
