"""Branch and bound on counts, against a dynamic programme over all counts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.instances import batch
from solvers import Problem, exact
from solvers.core import one_cost_per_choice, search_counts
from solvers.core.counts import _Box as Box
from solvers.core.counts import _Relaxed as Relaxed
from tests.solvers.constrained import check_honest, crowded
from tests.solvers.oracles import best_by_counts

CAREFUL = settings(deadline=None, derandomize=True, max_examples=100)


def with_capacities(queries: int, models: int, seed: int = 0, **changes: object) -> Problem:
    """Every model takes half as much again as its even share."""
    value, cost, budget = batch(queries, models, seed=seed)
    return Problem(value, cost, budget, capacity=np.full(models, 3 * queries // (2 * models) + 1), **changes)


@CAREFUL
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(2, 3), st.floats(0.0, 1.0), st.booleans())
def test_the_best_of_all_counts_is_found_and_proved(seed: int, queries: int, models: int, share: float, masks: bool):
    generator = np.random.default_rng(seed)
    value, cost = generator.uniform(size=(queries, models)), np.sort(generator.uniform(0.1, 2.0, models))
    usable = generator.uniform(size=value.shape) < (0.7 if masks else 1.1)
    usable[:, 0] = True
    capacity = np.append(queries, generator.integers(1, queries + 1, models - 1))
    if seed % 3 == 0 and not masks:
        # As many places as queries.
        capacity = generator.multinomial(queries, np.full(models, 1 / models))
    least = Problem(value, cost, capacity=capacity, available=usable).least_cost
    budget = least + share * (cost.max() * queries - least)
    problem = Problem(value, cost, budget, capacity=capacity, available=usable)
    found = exact(problem)
    check_honest(problem, found)
    assert found.status == "optimal"
    best = best_by_counts(value, cost, budget, capacity, usable)
    assert found.value == pytest.approx(best, rel=1e-12)
    # From the cheapest assignment, on all queries.
    core = problem.part(np.arange(queries), problem.cheapest)
    answer = search_counts(core, cost, problem.cheapest, enough=1e-11, max_seconds=60)
    assert problem.fits(problem.totals(answer.choice)[1]) and (problem.spare(answer.choice) >= 0).all()
    assert problem.totals(answer.choice)[0] == pytest.approx(best, rel=1e-12)
    assert best <= answer.bound + 1e-15 <= best + 1e-9


@pytest.mark.parametrize(("queries", "models"), [(500, 6), (1_000, 11), (2_000, 20)])
def test_no_integer_program_is_needed(queries: int, models: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("solvers._exact.solve_integers", None)
    problem = with_capacities(queries, models)
    found = exact(problem)
    check_honest(problem, found)
    assert found.status == "optimal"


@CAREFUL
@given(st.integers(0, 10**6), st.floats(0.0, 5.0), st.sampled_from([1.0, 1e12]))
def test_at_any_multiplier_and_any_tolls_the_bound_of_a_box_holds(seed: int, multiplier: float, size: float):
    generator = np.random.default_rng(seed)
    value, cost, tolls = generator.uniform(size=(4, 3)), generator.uniform(size=3), size * generator.normal(size=3)
    low, high = generator.integers(0, 2, 3), generator.integers(1, 5, 3)
    problem = Problem(value, cost, 4 * cost.max(), capacity=[4, 4, 4])
    part = problem.part(np.arange(4), problem.cheapest)
    bound = Relaxed(multiplier, tolls, np.zeros(3)).bound(part, Box(low, high))
    for choice in itertools.product(range(3), repeat=4):
        counts = np.bincount(choice, minlength=3)
        if (low <= counts).all() and (counts <= high).all():
            assert value[np.arange(4), choice].sum() <= bound


def test_rounding_is_outward_however_large_the_tolls_are():
    """All queries at the one model whose toll is huge and negative: the bound is their value, and what rounding can hide."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        value = generator.uniform(size=(50, 2))
        problem = Problem(value, [0.0, 0.0], 1.0, capacity=[50, 50])
        part = problem.part(np.arange(50), problem.cheapest)
        tolls = np.array([-1e9 * generator.uniform(), 0.0])
        bound = Relaxed(0.0, tolls, np.zeros(2)).bound(part, Box(np.array([50, 0]), np.array([50, 0])))
        assert math.fsum(value[:, 0]) <= bound


def test_out_of_time_the_bound_still_holds():
    problem = with_capacities(500, 6, seed=1)
    best = exact(problem)
    core = problem.part(np.arange(500), problem.cheapest)
    found = search_counts(core, one_cost_per_choice(core), problem.cheapest, enough=0.0, max_seconds=1e-9)
    assert found.choice.tolist() == problem.cheapest.tolist() and found.bound == math.inf
    part = exact(problem, relative_gap=0.01)
    assert part.value <= best.value <= part.bound


def test_a_cost_per_query_is_left_to_others():
    problem = crowded(0)
    core = problem.part(np.arange(len(problem)), problem.cheapest)
    assert one_cost_per_choice(core) is None
    tiled = replace(problem, cost_usd=np.tile(problem.cost_usd[0], (len(problem), 1)), budget_usd=None)
    costs = one_cost_per_choice(tiled.part(np.arange(len(problem)), tiled.cheapest))
    assert costs.tolist() == problem.cost_usd[0].tolist()
