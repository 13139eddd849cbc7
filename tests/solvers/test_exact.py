"""Exact: its dynamic program, its integer program and its proofs, against other ways of finding the optimum."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, eye, kron

from benchmarks.knapsacks import knapsack
from solvers import Problem, ProblemError, exact, lagrangian
from solvers.core import StateSearch, search_states
from solvers.dual import search
from tests.solvers.constrained import crowded

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
ROUNDING = 1e-11


def best_value(problem: Problem) -> float:
    """The best value of all assignments within the budget, found by trying them all; every sum is exact."""
    choices = [
        list(zip(values, costs, strict=True))
        for values, costs in zip(problem.value.tolist(), problem.cost_usd.tolist(), strict=True)
    ]
    within = problem.budget_usd * (1 + 1e-12)
    return max(
        math.fsum(value for value, _ in tried)
        for tried in itertools.product(*choices)
        if math.fsum(cost for _, cost in tried) <= within
    )


@contextmanager
def without_the_dynamic_program() -> Iterator[None]:
    """The search of the core gives up at once, so that CP-SAT has to do the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "solvers._exact.search_states", lambda problem, dual, incumbent, **limits: StateSearch(incumbent, math.inf, False)
        )
        yield


@contextmanager
def with_a_stopped_clock() -> Iterator[None]:
    """However short `max_seconds` is, there is time left to call CP-SAT, which then has no time to do anything."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("solvers._exact", "solvers.core.integers"):
            patch.setattr(f"{module}.time", SimpleNamespace(perf_counter=lambda: 0.0))
        patch.setattr("solvers.core.integers.SECONDS_PER_CELL", 0.0)
        yield


def hard_batch(seed: int, queries: int = 60, models: int = 5) -> Problem:
    """Values and costs without a pattern, of which the Lagrangian proves nothing to the end."""
    generator = np.random.default_rng(seed)
    value, cost = generator.uniform(size=(queries, models)), np.sort(generator.uniform(size=(queries, models)), axis=1)
    return Problem(value, cost, float(cost.min(axis=1).sum() * 1.5 + 0.2))


@st.composite
def problems(draw: st.DrawFn, decimal: bool) -> Problem:
    queries, models = draw(st.integers(2, 6)), draw(st.integers(2, 3))
    size = queries * models
    hundredths = st.integers(0, 300).map(lambda count: count / 100)
    costs = hundredths if decimal else st.floats(0.001, 3.0)
    tenths = st.integers(0, 10).map(lambda count: count / 10)
    values = draw(st.sampled_from([st.sampled_from([0.0, 1.0]), tenths, st.floats(0, 1)]))
    value = np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(queries, models)
    cost = np.array(draw(st.lists(costs, min_size=size, max_size=size))).reshape(queries, models)
    chosen = math.fsum(draw(st.sampled_from(row)) for row in cost.tolist())
    least, most = math.fsum(cost.min(axis=1)), math.fsum(cost.max(axis=1))
    between = least + draw(st.floats(0.0, 1.0)) * (most - least)
    if decimal:
        between = math.floor(between * 100) / 100
    budgets = [chosen, np.nextafter(chosen, math.inf), between, most]
    return Problem(value, cost, max(draw(st.sampled_from(budgets)), least))


@pytest.mark.parametrize("decimal", [True, False], ids=["decimal prices", "any costs"])
def test_cp_sat_on_its_own_finds_and_proves_the_optimum(decimal: bool):
    @CAREFUL
    @given(problems(decimal=decimal))
    def holds(problem: Problem) -> None:
        with without_the_dynamic_program():
            found = exact(problem, workers=1)
        optimum = best_value(problem)
        assert optimum - ROUNDING <= found.value <= optimum <= found.bound
        assert found.cost_usd <= problem.budget_usd * (1 + 1e-12)
        assert found.status == "optimal"

    holds()


@pytest.mark.parametrize("seed", range(4))
def test_cp_sat_and_the_dynamic_program_agree_on_a_core_of_many_queries(seed: int):
    """With 300 queries the first, small core is not the whole one."""
    problem = hard_batch(seed, queries=300)
    with without_the_dynamic_program():
        by_integers = exact(problem, workers=1)
    by_states = exact(problem)
    assert by_integers.status == by_states.status == "optimal"
    assert by_integers.value == pytest.approx(by_states.value, rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_an_independent_solver_finds_the_same_optimum(seed: int):
    """HiGHS on the whole program; whole numbers and half a unit to spare, so that its tolerances do not matter."""
    queries, models = 60, 5
    generator = np.random.default_rng(seed)
    skill = np.sort(generator.uniform(0.3, 0.9, models))
    value = np.clip(np.rint(1000 * (skill + generator.normal(0, 0.2, (queries, models)))), 0, 1000)
    cost = np.rint(1000 * np.linspace(0.1, 1, models) ** 2 * generator.uniform(0.5, 2, (queries, models)))
    budget = math.floor(0.8 * cost.min(axis=1).sum() + 0.2 * cost.max(axis=1).sum())
    solved = milp(
        -value.ravel(),
        constraints=[
            LinearConstraint(kron(eye(queries), np.ones((1, models))), 1, 1),
            LinearConstraint(csr_matrix(cost.reshape(1, -1)), -np.inf, budget + 0.5),
        ],
        integrality=np.ones(value.size),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    found = exact(Problem(value, cost, budget))
    assert solved.status == 0
    assert found.value == round(-solved.fun)
    assert found.status == "optimal"


def test_it_beats_the_lagrangian_where_one_step_at_a_time_is_not_enough():
    """Two middling answers are worth more than one good and one poor one."""
    problem = Problem([[0.0, 0.6, 1.1], [0.0, 0.6, 1.1]], [0.0, 1.0, 2.0 - 1e-3], 2.0)
    assert exact(problem).value == 1.2
    assert exact(problem).choice.tolist() == [1, 1]


def test_out_of_time_it_returns_what_it_has_and_a_bound_that_holds():
    problem = hard_batch(0)
    optimum = exact(problem)
    assert optimum.status == "optimal"
    with without_the_dynamic_program():
        found = exact(problem, max_seconds=1e-9)
    assert found.status == "feasible"
    assert found.value < optimum.value <= found.bound
    assert found.cost_usd <= problem.budget_usd * (1 + 1e-12)
    hurried = exact(problem, max_seconds=1e-9)
    assert hurried.value <= optimum.value <= hurried.bound


@pytest.mark.parametrize("queries", [60, 300], ids=["whole core", "core in two parts"])
def test_an_integer_program_that_had_no_time_proves_nothing(queries: int):
    problem = hard_batch(0, queries=queries)
    optimum = exact(problem)
    with without_the_dynamic_program(), with_a_stopped_clock():
        found = exact(problem, max_seconds=1e-9, workers=1)
    assert found.value < optimum.value <= found.bound
    assert found.status == "feasible"


def test_a_wanted_gap_is_enough_to_stop_and_is_kept():
    problem = hard_batch(1)
    optimum, found = exact(problem), exact(problem, relative_gap=0.01)
    assert found.status == "optimal"
    assert found.value <= optimum.value <= found.bound
    assert found.relative_gap <= 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seconds": 0.0}, r"max_seconds=0.0 must be > 0"),
        ({"max_seconds": math.nan}, r"max_seconds=nan must be > 0"),
        ({"max_seconds": "x"}, r"max_seconds='x' must be a number"),
        ({"relative_gap": -0.1}, r"relative_gap=-0.1 must be finite and >= 0"),
        ({"relative_gap": math.nan}, r"relative_gap=nan must be"),
        ({"relative_gap": "0.1"}, r"relative_gap='0.1' must be a number"),
        ({"workers": -1}, r"workers=-1 must be from 0 to"),
        ({"workers": 2.5}, r"workers=2.5 must be from 0 to"),
        ({"workers": True}, r"workers=True must be from 0 to"),
        ({"workers": 10**9}, r"workers=1000000000 must be from 0 to"),
    ],
)
def test_limits_that_make_no_sense_are_rejected_by_name(options: dict[str, object], message: str):
    with pytest.raises(ProblemError, match=message):
        exact(hard_batch(0), **options)


def test_the_most_workers_that_are_accepted_are_accepted_by_cp_sat():
    with without_the_dynamic_program():
        assert exact(hard_batch(0, queries=8), workers=8).status == "optimal"


@CAREFUL
@given(problems(decimal=True), st.integers(1, 6))
def test_a_core_search_with_few_states_never_claims_a_proof_that_it_does_not_have(problem: Problem, states: int):
    incumbent = problem.cheapest
    found = search_states(problem, search(problem, problem.cheapest), incumbent, most_states=states)
    value, cost = problem.totals(found.choice)
    assert problem.fits(cost)
    assert value >= problem.totals(incumbent)[0] - ROUNDING
    assert not found.complete or value >= best_value(problem) - ROUNDING


@CAREFUL
@given(problems(decimal=False))
def test_a_core_search_with_enough_states_is_complete_and_optimal(problem: Problem):
    found = search_states(problem, search(problem, problem.cheapest), problem.cheapest)
    assert found.complete
    assert problem.totals(found.choice)[0] == pytest.approx(best_value(problem), rel=0, abs=ROUNDING)


def test_too_few_states_are_noticed_on_a_batch_that_needs_more():
    problem = hard_batch(2, queries=300)
    dual, incumbent = search(problem, problem.cheapest), lagrangian(problem).choice.astype(int)
    assert search_states(problem, dual, incumbent).complete
    assert not search_states(problem, dual, incumbent, most_states=2).complete


@pytest.mark.parametrize("scale", [1e-9, 1e9], ids=["fractions of a cent", "billions"])
def test_the_unit_of_the_costs_does_not_matter(scale: float):
    problem = hard_batch(3)
    scaled = Problem(problem.value, problem.cost_usd * scale, problem.budget_usd * scale)
    assert exact(scaled).value == pytest.approx(exact(problem).value, rel=0, abs=1e-9)


def test_a_proof_holds_for_values_that_differ_in_the_twelfth_digit():
    """The bound is at least the best assignment, even where the difference is almost nothing."""
    e = 1e-12
    value = np.array([[0.5 + 3 * e, 0.0], [0.5, 0.0], [0.5 + 3 * e, 0.0], [0.5 + e, 0.0], [0.5 + 3 * e, 0.0]])
    cheap, expensive = 0.3 * 3, 0.7 * 3
    problem = Problem(value, [[cost, 0.0] for cost in (cheap, expensive, expensive, cheap, cheap)], 3.899999999999999)
    found = exact(problem)
    assert found.value <= best_value(problem) <= found.bound


def test_a_budget_a_hair_below_a_sum_of_decimal_prices_is_proved_as_well():
    """One dollar answers one of the queries; 1.999999998 dollars do not answer two."""
    problem = Problem([[0.0, 0.25], [0.0, 0.5]], [0.0, 1.0], 2.0 * (1 - 1e-9))
    with without_the_dynamic_program():
        found = exact(problem, workers=1)
    assert found.value == best_value(problem) == 0.5
    assert found.status == "optimal"


@pytest.mark.parametrize(
    ("value", "cost", "budget"),
    [
        ([[0.30, 0.36, 0.29]], [[2.0, 2.8, 0.0]], 1.9999999999979996),
        ([[0.0, 0.1, 0.6], [0.0, 0.0, 0.3]], [[0.0, 0.1, 1e6], [0.0, 0.2, 0.1]], 1000000.0999989997),
    ],
)
def test_a_sum_that_rounds_to_just_above_the_budget_does_not_stop_the_proof(value: list, cost: list, budget: float):
    """One assignment costs one representable number more than the budget and its tolerance: the next best is found."""
    problem = Problem(value, cost, budget)
    found = exact(problem)
    assert found.value == best_value(problem)
    assert found.status == "optimal"


@pytest.mark.slow
def test_cp_sat_alone_agrees_with_brute_force_on_a_thousand_batches():
    """OR-Tools 9.15 proves too little in one of some hundred such batches, unless one of its presolve steps is left out."""
    generator = np.random.default_rng(7)
    with without_the_dynamic_program():
        for _ in range(1000):
            queries, models = generator.integers(2, 6), generator.integers(2, 5)
            value = np.round(generator.uniform(size=(queries, models)), 4)
            cost = np.round(value + generator.uniform(0, 0.3, size=(queries, models)), 4)
            least, most = cost.min(axis=1).sum(), cost.max(axis=1).sum()
            problem = Problem(value, cost, float(least + generator.uniform() * (most - least)))
            found = exact(problem, workers=1)
            assert found.value <= best_value(problem) <= found.bound
            assert found.status == "feasible" or found.value >= best_value(problem) - ROUNDING


@pytest.mark.parametrize("values", [1e-310, 1e-20, 1.0, 1e199])
@pytest.mark.parametrize("costs", [1e-310, 1e-20, 1.0, 1e199])
def test_numbers_of_any_size_are_proved(values: float, costs: float):
    generator = np.random.default_rng(0)
    for decimal in (False, True):
        value, cost = generator.uniform(size=(2, 3, 3))
        cost = np.rint(cost * 10) / 10 if decimal else cost
        problem = Problem(value * values, cost * costs, float((cost.min(axis=1) + cost.max(axis=1)).sum() / 2 * costs))
        found, best = exact(problem), best_value(problem)
        assert found.status == "optimal"
        assert best - 1e-11 * values <= found.value <= best <= found.bound


def test_an_integer_program_that_cannot_be_built_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch):
    problem = hard_batch(0)
    best = exact(problem)
    monkeypatch.setattr("solvers.core.integers.SECONDS_PER_CELL", 60.0)
    monkeypatch.setattr("solvers.core.integers.load_cp_sat", None)
    with without_the_dynamic_program():
        found = exact(problem)
    assert found.status == "feasible"
    assert found.value < best.value <= found.bound


@pytest.mark.slow
@pytest.mark.parametrize("max_seconds", [2.0, 8.0])
def test_a_problem_that_is_too_hard_ends_in_time(max_seconds: float):
    """Strongly correlated with a trifle added to every value, so that no two differ by whole tens."""
    value, cost, budget = knapsack("strongly_correlated", 5_000, 10, 10_000)
    value += np.random.default_rng(0).uniform(0, 1e-3, value.shape)
    problem = Problem(value, cost, budget)
    started = time.perf_counter()
    found = exact(problem, max_seconds=max_seconds)
    # On a machine that is busy with other things too; `python -m benchmarks.solvers` measures how well limits are held.
    assert time.perf_counter() - started <= 2 * max_seconds
    assert found.status == "feasible" and found.relative_gap < 1e-6


def test_even_the_search_for_the_multiplier_ends_in_time():
    """Within capacities every step is a flow; after the first two, whatever is known is taken."""
    problem = crowded(3, queries=2_000)
    best = exact(problem)
    hurried = search(problem, problem.cheapest, deadline=-math.inf)
    assert hurried.multiplier == 0.0
    for found in (hurried, exact(problem, max_seconds=1e-9)):
        assert problem.totals(found.choice)[0] < best.value <= found.bound
        assert problem.fits(problem.totals(found.choice)[1]) and (problem.spare(found.choice) >= 0).all()
