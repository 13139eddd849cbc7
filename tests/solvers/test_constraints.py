"""Capacities and minimum values: the same promises as for budgets, against brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import eye_array, kron

from solvers import (
    Assignment,
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
from solvers.capacity import share
from solvers.dual import dual_bound, search

CAREFUL = settings(deadline=None, derandomize=True, max_examples=150)
ROUNDING = 1e-11

NUMBERS = [
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 10).map(lambda count: count / 10),
    st.just(0.5),
    st.floats(0.0, 1.0),
    st.sampled_from([0.1 * count for count in range(8)]),
]


@st.composite
def drawn(draw: st.DrawFn) -> dict:
    """The arguments of a small problem without a budget: ties, masks, capacities that bind, equal models."""
    queries, models = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    cells = {}
    for name in ("value", "cost_usd"):
        numbers = st.lists(draw(st.sampled_from(NUMBERS)), min_size=queries * models, max_size=queries * models)
        cells[name] = np.array(draw(numbers)).reshape(queries, models)
    if draw(st.booleans()):
        cells["cost_usd"][:] = cells["cost_usd"][0]
    arguments: dict = dict(cells, allow_unanswered=draw(st.booleans()))
    if draw(st.booleans()):
        flags = st.lists(st.booleans(), min_size=queries * models, max_size=queries * models)
        arguments["available"] = np.array(draw(flags)).reshape(queries, models)
        for name in cells:
            arguments[name] = np.where(arguments["available"], arguments[name], np.nan)
    if draw(st.booleans()):
        arguments["capacity"] = np.array(draw(st.lists(st.integers(0, queries), min_size=models, max_size=models)))
    return arguments


def assignments(arguments: dict) -> list[tuple[float, float, tuple[int, ...]]]:
    """Value, cost and choices of every assignment within masks and capacities; every sum is exact."""
    value, cost = arguments["value"], arguments["cost_usd"]
    queries, models = value.shape
    available = arguments.get("available", np.ones((queries, models), bool))
    capacity = arguments.get("capacity", np.full(models, queries))
    choices = [
        [*np.flatnonzero(available[row]).tolist(), *([-1] if arguments["allow_unanswered"] else [])] for row in range(queries)
    ]
    return [
        (
            math.fsum(value[row, column] for row, column in enumerate(tried) if column >= 0),
            math.fsum(cost[row, column] for row, column in enumerate(tried) if column >= 0),
            tried,
        )
        for tried in itertools.product(*choices)
        if all(tried.count(model) <= capacity[model] for model in range(models))
    ]


def check_honest(problem: Problem, found: Assignment) -> None:
    rows = np.flatnonzero(found.choice >= 0)
    assert found.value == math.fsum(problem.value[rows, found.choice[rows]])
    assert found.cost_usd == math.fsum(problem.cost_usd[rows, found.choice[rows]])
    assert problem.allow_unanswered or len(rows) == len(problem)
    if problem.available is not None:
        assert problem.available[rows, found.choice[rows]].all()
    if problem.capacity is not None:
        assert (np.bincount(found.choice[rows], minlength=len(problem.capacity)) <= problem.capacity).all()
    if problem.budget_usd is not None:
        assert found.cost_usd <= problem.budget_usd * (1 + 1e-12)
    if problem.minimum_value is not None:
        assert found.value >= problem.minimum_value - 1e-12 * abs(problem.minimum_value)


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
def test_the_least_budget_and_the_most_value_are_what_refusals_name(arguments: dict):
    possible = assignments(arguments)
    if not possible:
        with pytest.raises(InfeasibleProblem):
            Problem(**arguments)
        return
    least, most = min(cost for _, cost, _ in possible), max(value for value, _, _ in possible)
    if least > 0:
        with pytest.raises(InfeasibleBudget) as refused:
            Problem(**arguments, budget_usd=least * (1 - 1e-9))
        assert refused.value.least_budget_usd == pytest.approx(least, rel=1e-12)
        assert exact(Problem(**arguments, budget_usd=refused.value.least_budget_usd)).cost_usd <= least * (1 + 1e-12)
    with pytest.raises(InfeasibleValue) as above:
        Problem(**arguments, minimum_value=most + 1e-9)
    assert above.value.most_value == pytest.approx(most, rel=1e-12, abs=1e-300)
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


def crowded(seed: int, queries: int = 300, models: int = 6, **changes: object) -> Problem:
    """Every model is better than all cheaper ones, and none has room for everybody who wants it."""
    generator = np.random.default_rng(seed)
    value = 1 / (1 + np.exp(-(generator.normal(size=(queries, 1)) + np.linspace(-1, 1, models))))
    value = np.clip(value + 0.1 * generator.normal(size=value.shape), 0, 1)
    cost = np.linspace(0.1, 2.0, models) * generator.uniform(0.5, 1.5, (queries, 1))
    problem = Problem(value, cost, capacity=np.full(models, queries // models + 7))
    return replace(problem, budget_usd=problem.least_cost * 1.15, **changes)


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


def test_on_a_large_batch_the_gap_is_a_few_queries():
    problem = crowded(8, queries=20_000)
    found = lagrangian(problem)
    check_honest(problem, found)
    assert found.relative_gap < 1e-4


def test_the_capacity_that_a_refusal_names_would_do():
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


def test_a_budget_and_a_minimum_value_exclude_each_other():
    with pytest.raises(ProblemError, match=r"budget_usd=1.0 and minimum_value=0.5: give one of them"):
        Problem(np.ones((2, 2)), [1.0, 2.0], 1.0, minimum_value=0.5)
    with pytest.raises(ProblemError, match="minimum_value=nan must be finite"):
        Problem(np.ones((2, 2)), [1.0, 2.0], minimum_value=math.nan)


def test_what_knows_no_capacities_refuses_them_by_name():
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


class InAFile:
    """A table that is read in slices and is no array, as datasets in files are."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.longest = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.longest = max(self.longest, len(self.array[rows]))
        return self.array[rows]


def test_a_table_that_is_no_array_is_read_in_slices():
    problem = crowded(10, queries=200_000)
    value, cost = InAFile(np.asarray(problem.value)), InAFile(np.asarray(problem.cost_usd))
    kept = lagrangian(replace(problem, capacity=None))
    found = lagrangian(Problem(value, cost, problem.budget_usd))
    assert (found.value, found.cost_usd) == (kept.value, kept.cost_usd)
    assert max(value.longest, cost.longest) <= 2**16


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
def test_in_a_full_house_even_a_worse_and_dearer_model_can_be_right(seed: int):
    """Against HiGHS on the whole programme: what one query would never choose may be what lets another one in."""
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


def test_costs_that_hardly_differ_do_not_hide_the_best():
    """Their rounding, times the price, is larger than what the values' own rounding explains."""
    value = np.array([[2.000000017, 1.000000027], [1.000000085, 2.000000052]])
    cost = np.array([[1000000.00054, 1000000.00005], [1000000.00047, 1000000.00076]])
    found = exact(Problem(value, cost, 2000000.00101))
    assert found.bound >= math.fsum([2.000000017, 1.000000085])
    assert found.choice.tolist() == [0, 0]


def test_ragged_limits_and_odd_switches_are_named():
    for wrong, message in (
        ({"capacity": [1, [2]]}, "capacity is no array"),
        ({"available": [[True], [True, False]]}, "available is no array"),
        ({"allow_unanswered": 2}, "allow_unanswered=2 must be True or False"),
    ):
        with pytest.raises(ProblemError, match=message):
            Problem(np.ones((2, 2)), [1.0, 2.0], **wrong)
