"""Capacities over shards: kept exactly, near the best, a bound above it, and the same however the queries are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solvers.sharded.places as places
import solvers.sharded.tolls as tolls
from benchmarks.instances import answers, batch
from solvers import InfeasibleBudget, InfeasibleCapacity, InfeasibleProblem, InfeasibleValue, Problem, ProblemError, lagrangian
from solvers.errors import Crowded
from solvers.sharded import Terms, solve_shards
from solvers.sharded.places import CountSets, Sets, check_places
from tests.solvers.constrained import assignments, check_within, drawn, limit_and_best
from tests.solvers.test_sharded import check_honest, cut, everything

CAREFUL = settings(deadline=None, derandomize=True, max_examples=80)


@given(
    arguments=drawn(),
    share=st.floats(0, 1),
    minimised=st.booleans(),
    count=st.integers(2, 5),
    travelling=st.sampled_from([1, 2, 9]),
)
@CAREFUL
def test_between_what_is_possible_and_the_best(arguments: dict, share: float, minimised: bool, count: int, travelling: int):
    """All assignments of small problems, with ties, masks, equal models, and so few queries brought to one place that some
    are left where they are."""
    value, cost, available = arguments["value"], arguments["cost_usd"], arguments.get("available")
    arguments.setdefault("capacity", np.full(value.shape[1], len(value)))
    every = assignments(arguments)
    options: dict[str, Any] = {"allow_unanswered": arguments["allow_unanswered"], "capacity": arguments["capacity"]}
    shards = [cut(value, cost, one, available) for one in (1, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tolls, "TRAVELLING", travelling)
        if not every:
            with pytest.raises(InfeasibleProblem, match=r"no model is available|capacity="):
                solve_shards(shards[1], 1.0, **options)
            return
        limit, best = limit_and_best(every, share, minimised=minimised)
        options |= {"minimum_value": limit} if minimised else {"budget_usd": limit}
        found = solve_shards(shards[0], **options)
        check_honest(found, value, cost, shards[0])
        assert (found.taken[: value.shape[1]] <= arguments["capacity"]).all()
        check_within(found, limit, best)
        assert len({everything(one, **options) for one in shards}) == 1


@pytest.mark.parametrize(
    "kind", ["one cost", "cost per query", pytest.param("right or wrong", marks=pytest.mark.slow), "masked"]
)
def test_rounds_of_a_large_problem_agree_with_the_lagrangian_of_all(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolls, "TRAVELLING", 400)
    value, cost, budget = batch(6_000, 5, cost_per_query=kind == "cost per query")
    available, unanswered, capacity = None, False, np.array([1_500, 1_500, 1_500, 1_000, 900])
    if kind == "right or wrong":
        value, capacity, unanswered = answers(6_000, 5).astype(float), np.full(5, 100), True
    if kind == "masked":
        available = np.random.default_rng(0).random(value.shape) < 0.7
        available[:, 2] = True
        value = np.where(available, value, np.nan)
    shards = [cut(value, cost, count, available) for count in (1, 2, 7, 64)]
    options: dict[str, Any] = {"capacity": capacity, "allow_unanswered": unanswered}
    found = solve_shards(shards[2], budget, **options)
    check_honest(found, value, cost, shards[2])
    assert (found.taken[:5] <= capacity).all() and found.cost_usd <= budget * (1 + 1e-12)
    near = lagrangian(Problem(np.nan_to_num(value), cost, budget, available=available, **options))
    assert found.bound == pytest.approx(near.bound, rel=1e-9) and near.value <= found.bound
    assert found.value >= near.value - 2e-4 * near.bound
    assert found.tolls is not None and (found.tolls > 0).any()
    assert len({everything(one, budget, **options) for one in shards}) == 1


def test_what_cannot_be_is_named_and_what_is_named_can_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolls, "TRAVELLING", 100)
    value, cost, _ = batch(500, 4, cost_per_query=True)
    capacity = np.array([100, 150, 150, 150])
    with pytest.raises(InfeasibleBudget) as raised:
        solve_shards(cut(value, cost, 3), 1e-9, capacity=capacity)
    least = raised.value.least_budget_usd
    assert least == Problem(value, cost, capacity=capacity).least_cost
    assert solve_shards(cut(value, cost, 3), least, capacity=capacity).cost_usd <= least * (1 + 1e-12)
    with pytest.raises(InfeasibleValue) as too_much:
        solve_shards(cut(value, cost, 3), minimum_value=1e9, capacity=capacity)
    most = too_much.value.most_value
    assert solve_shards(cut(value, cost, 3), minimum_value=most, capacity=capacity).value >= most * (1 - 1e-12)
    with pytest.raises(InfeasibleProblem, match="400 places for 500 queries"):
        solve_shards(cut(value, cost, 3), 1.0, capacity=np.full(4, 100))
    available = np.ones(value.shape, bool)
    available[:200, 1:] = False
    with pytest.raises(InfeasibleCapacity) as crowded:
        solve_shards(cut(value, cost, 3, available), 1e6, capacity=np.array([100, 300, 300, 300]))
    assert crowded.value.enough_capacity == [200, 300, 300, 300]
    solve_shards(cut(value, cost, 3, available), 1e6, capacity=np.array(crowded.value.enough_capacity))
    for wrong in ([1, 2], [-1, 500, 500, 500], [0.5, 500, 500, 500]):
        with pytest.raises(ProblemError, match=r"capacity=.* must be 4 whole numbers"):
            solve_shards(cut(value, cost, 3), 1.0, capacity=np.array(wrong))


def test_where_not_all_can_be_brought_to_one_place_the_least_costs_are_searched_the_same_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolls, "TRAVELLING", 300)
    monkeypatch.setattr(tolls, "MOST_CELLS", 0)
    value, cost, _ = batch(6_000, 4, cost_per_query=True)
    capacity = np.array([1_000, 1_500, 2_000, 2_500])
    least = Problem(value, cost, capacity=capacity).least_cost
    with pytest.raises(InfeasibleBudget) as raised:
        solve_shards(cut(value, cost, 3), 1e-9, capacity=capacity)
    named = raised.value.least_budget_usd
    assert named == pytest.approx(least, rel=1e-9) and named >= least >= raised.value.bound_usd > 0.999 * least
    with pytest.raises(InfeasibleBudget) as close:
        solve_shards(cut(value, cost, 3), 0.99999 * least, capacity=capacity)
    assert close.value.bound_usd > close.value.budget_usd
    with pytest.raises(InfeasibleValue) as too_much:
        solve_shards(cut(value, cost, 3), minimum_value=6_000.0, capacity=capacity)
    most = -Problem(value, cost, minimum_value=0.0, capacity=capacity).least_cost
    assert too_much.value.most_value <= most <= too_much.value.bound < 6_000 and too_much.value.most_value > 0.999 * most
    found = solve_shards(cut(value, cost, 3), named, capacity=capacity)
    assert found.cost_usd <= named * (1 + 1e-12) and (found.taken <= capacity).all() and found.bound >= found.value
    check_honest(found, value, cost, cut(value, cost, 3))


def test_capacities_that_bind_nobody_change_nothing():
    value, cost, budget = batch(20_000, 4)
    free = solve_shards(cut(value, cost, 3), budget)
    found = solve_shards(cut(value, cost, 3), budget, capacity=np.full(4, 20_000))
    assert found.tolls is not None and not found.tolls.any()
    assert found.value == pytest.approx(free.value, rel=1e-6) and found.bound == pytest.approx(free.bound, rel=1e-12)


def test_a_minimum_value_over_grades_and_ties_is_the_same_to_the_last_bit_however_they_are_cut(monkeypatch: pytest.MonkeyPatch):
    """Rows that are there several times, as a table of graded outcomes has them, and dollars of all sizes."""
    monkeypatch.setattr(tolls, "TRAVELLING", 300)
    generator = np.random.default_rng(1)
    value = np.tile(np.round(generator.beta(2, 1, (1_500, 4)), 2), (4, 1))
    cost = np.tile(10.0 ** generator.uniform(-6, -2, (1_500, 4)), (4, 1))
    options: dict[str, Any] = {"capacity": np.array([6_000, 1_800, 1_500, 300]), "minimum_value": 4_400.0}
    found = solve_shards(cut(value, cost, 1), **options)
    assert found.relative_gap < 1e-3 and (found.taken <= options["capacity"]).all()
    assert len({everything(cut(value, cost, count), **options) for count in (1, 64)}) == 1


@pytest.mark.parametrize("limit", ["budget", "minimum value"])
@pytest.mark.parametrize("one_cost", [True, False])
def test_right_or_wrong_answers_of_crowded_models_are_assigned_as_well_as_in_one_place(
    limit: str, one_cost: bool, monkeypatch: pytest.MonkeyPatch
):
    """Thousands of ties: the bound is rounded to what such values add up to, and what no search finds is solved whole."""
    monkeypatch.setattr(tolls, "TRAVELLING", 120)
    generator, queries, models = np.random.default_rng(1), 1_600, 5
    skill = np.linspace(0.5, 0.9, models) * generator.uniform(0.8, 1.2, (queries, models))
    value = (generator.random((queries, 1)) < skill).astype(float)
    cost = generator.integers(20, 60, (queries, 1)) * np.array([1, 2, 5, 10, 30]) * 1e-7
    cost = cost[0] if one_cost else cost
    capacity = np.full(models, int(1.1 * queries / models))
    free = lagrangian(Problem(value, cost, capacity=capacity))
    least = Problem(value, cost, capacity=capacity).least_cost
    budget = least + 0.3 * (free.cost_usd - least)
    options: dict[str, Any] = {"budget_usd": budget} if limit == "budget" else {"minimum_value": 0.75 * free.value}
    near = lagrangian(Problem(value, cost, capacity=capacity, **options))
    found = solve_shards(cut(value, cost, 3), capacity=capacity, **options)
    assert found.relative_gap <= 1.5 * near.relative_gap + 1e-9
    check_honest(found, value, cost, cut(value, cost, 3))
    assert len({everything(cut(value, cost, count), capacity=capacity, **options) for count in (1, 64)}) == 1


@pytest.mark.parametrize("most_cells", [tolls.MOST_CELLS, pytest.param(0, marks=pytest.mark.slow)])
def test_the_least_budget_is_spent_as_well_as_any(most_cells: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolls, "TRAVELLING", 200)
    monkeypatch.setattr(tolls, "MOST_CELLS", most_cells)
    value, cost, _ = batch(1_500, 4, cost_per_query=True)
    capacity = np.array([450, 450, 400, 350])
    with pytest.raises(InfeasibleBudget) as raised:
        solve_shards(cut(value, cost, 3), 1e-9, capacity=capacity)
    least = raised.value.least_budget_usd
    found = solve_shards(cut(value, cost, 3), least, capacity=capacity)
    assert found.cost_usd <= least * (1 + 1e-12) and found.relative_gap < 1e-7
    assert len({everything(cut(value, cost, count), least, capacity=capacity) for count in (1, 64)}) == 1


def test_models_that_are_too_small_together_are_named_at_any_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolls, "TRAVELLING", 100)
    monkeypatch.setattr(tolls, "MOST_CELLS", 0)
    value, cost, _ = batch(2_000, 4, cost_per_query=True)
    available = np.ones(value.shape, bool)
    available[100:900, [0, 2]] = False
    shards, capacity = cut(value, cost, 3, available), np.array([2_000, 300, 2_000, 350])
    with pytest.raises(InfeasibleCapacity, match="800 can go to no other than models 1, 3, which together have 650") as raised:
        solve_shards(shards, 1e6, capacity=capacity)
    assert raised.value.crowded == Crowded([1, 3], 800, 650) and raised.value.left_over == 150
    solve_shards(shards, 1e6, capacity=np.array(raised.value.enough_capacity))


@given(arguments=drawn(), most_sets=st.sampled_from([1, 2, 99]), count=st.integers(1, 4))
@CAREFUL
def test_who_has_no_place_is_what_a_flow_of_all_queries_says(arguments: dict, most_sets: int, count: int):
    """And where sets of models are left out, what is left says nothing wrong, and the same however the queries are cut."""
    value, models = arguments["value"], arguments["value"].shape[1]
    available = arguments.get("available", np.ones(value.shape, bool))
    available[~available.any(axis=1)] = True
    value = np.where(np.isnan(value), 0.0, value)
    capacity = arguments.get("capacity", np.full(models, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "MOST_SETS", most_sets)
        found, same = Sets({}, models), Sets({}, models)
        for shard in cut(value, np.zeros(models), count, available):
            found = found.merged(CountSets(Terms(models))(shard))
        for shard in cut(value, np.zeros(models), 1, available):
            same = same.merged(CountSets(Terms(models))(shard))
    assert (found.counts, found.most_models) == (same.counts, same.most_models)
    assert len(found.counts) <= most_sets or not found.counts
    try:
        Problem(value, np.zeros(models), available=available, capacity=capacity)
    except InfeasibleCapacity as error:
        if found.most_models < models:
            return
        with pytest.raises(InfeasibleCapacity) as raised:
            check_places(found, capacity.tolist(), len(value))
        assert raised.value.left_over == error.left_over and raised.value.crowded is not None
        assert raised.value.crowded.queries - raised.value.crowded.places == error.left_over
        Problem(value, np.zeros(models), available=available, capacity=raised.value.enough_capacity)
    else:
        assert check_places(found, capacity.tolist(), len(value)) == (found.most_models == models)
