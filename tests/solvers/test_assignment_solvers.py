"""What all solvers promise, against brute force: within the budget, below the optimum, and a bound above it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import (
    SOLVERS,
    Assignment,
    Problem,
    ProblemError,
    at_price,
    exact,
    greedy_ratio,
    lagrangian,
    solve,
)
from solvers.dual import dual_bound

CAREFUL = settings(deadline=None, derandomize=True, max_examples=60)
ROUNDING = 1e-11

TENTHS = st.integers(0, 10).map(lambda count: count / 10)
SUMMED_TENTHS = st.integers(0, 10).map(lambda count: count * 0.1)
ZERO_OR_ONE = st.sampled_from([0.0, 1.0])
VALUES = [ZERO_OR_ONE, TENTHS, st.just(0.5), st.sampled_from([0.25, 0.5, 0.75]), st.floats(0.0, 1.0)]
POWERS_OF_TEN = st.integers(-4, 3).map(lambda exponent: 10.0**exponent)
COSTS = [ZERO_OR_ONE, TENTHS, SUMMED_TENTHS, st.just(0.1), st.floats(0.0, 10.0), POWERS_OF_TEN]


@st.composite
def problems(draw: st.DrawFn, masks: bool = True) -> Problem:
    """A small problem, with a liking for ties, free answers, equal models and budgets met to the last digit."""
    queries, models = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    cells = st.lists(draw(st.sampled_from(VALUES)), min_size=queries * models, max_size=queries * models)
    value = np.array(draw(cells)).reshape(queries, models)
    rows = 1 if draw(st.booleans()) else queries
    cells = st.lists(draw(st.sampled_from(COSTS)), min_size=rows * models, max_size=rows * models)
    cost = np.array(draw(cells)).reshape(rows, models).repeat(queries // rows, axis=0)
    if draw(st.booleans()):
        value[:, -1], cost[:, -1] = value[:, 0], cost[:, 0]
    unanswered = masks and draw(st.booleans())
    available = np.ones((queries, models), bool)
    if masks and draw(st.booleans()):
        flags = st.lists(st.booleans(), min_size=queries * models, max_size=queries * models)
        available = np.array(draw(flags)).reshape(queries, models)
        if not unanswered:
            available[np.arange(queries), draw(st.integers(0, models - 1))] = True
        value, cost = np.where(available, value, np.nan), np.where(available, cost, np.nan)
    choices = [[*cost[row, available[row]].tolist(), *([0.0] if unanswered else [])] for row in range(queries)]
    least, most = math.fsum(map(min, choices)), math.fsum(map(max, choices))
    chosen = math.fsum(draw(st.sampled_from(row)) for row in choices)
    between = least + draw(st.floats(0.0, 1.0)) * (most - least)
    beside = [np.nextafter(chosen, 0), np.nextafter(chosen, math.inf), chosen * (1 - 9e-13)]
    budgets = [least, most, chosen, *beside, between]
    budget = max(draw(st.sampled_from(budgets)), least * (1 - 9e-13))
    mask = None if available.all() else available
    return Problem(value, cost, budget, available=mask, allow_unanswered=unanswered)


def best_value(problem: Problem, allow_unanswered: bool = False) -> float:
    """The best value of all assignments within the budget, found by trying them all; every sum is exact."""
    choices = []
    for row, (value, cost) in enumerate(zip(problem.value, problem.cost_usd, strict=True)):
        usable = [True] * len(value) if problem.available is None else problem.available[row]
        choices.append([(float(v), float(c)) for v, c, use in zip(value, cost, usable, strict=True) if use])
        if problem.allow_unanswered or allow_unanswered:
            choices[-1].append((0.0, 0.0))
    within = problem.budget_usd * (1 + 1e-12)
    return max(
        math.fsum(value for value, _ in tried)
        for tried in itertools.product(*choices)
        if math.fsum(cost for _, cost in tried) <= within
    )


def check_honest(problem: Problem, found: Assignment) -> None:
    """Value and cost are the exact sums of the choices, these are available, and the budget holds."""
    answered = found.choice >= 0
    rows = np.flatnonzero(answered)
    assert found.choice.dtype == np.int32 and found.choice.shape == (len(problem.value),)
    assert found.value == math.fsum(problem.value[rows, found.choice[rows]])
    assert found.cost_usd == math.fsum(problem.cost_usd[rows, found.choice[rows]])
    assert found.cost_usd <= problem.budget_usd * (1 + 1e-12)
    if problem.available is not None:
        assert problem.available[rows, found.choice[rows]].all()


@CAREFUL
@given(problems())
def test_the_lagrangian_stays_below_the_optimum_and_its_bound_above(problem: Problem):
    found, optimum = lagrangian(problem), best_value(problem)
    check_honest(problem, found)
    assert found.value <= optimum <= found.bound
    assert found.status == "feasible" or found.value >= optimum - ROUNDING
    assert problem.allow_unanswered or found.unanswered == 0


@CAREFUL
@given(problems(), st.floats(0.0, 100.0))
def test_at_every_price_the_bound_is_above_the_optimum(problem: Problem, price: float):
    assert dual_bound(problem, price) >= best_value(problem)


def test_the_bound_allows_for_the_tolerance_of_the_budget():
    """Ten answers cost more than the budget, within the tolerance, at a price for which every cent counts."""
    problem = Problem(np.tile([0.0, 1e6], (10, 1)), [0.0, 1.0], 10 * (1 - 9e-13))
    assert lagrangian(problem).value == 1e7
    assert dual_bound(problem, 2e6) >= dual_bound(problem, 1e6) >= 1e7


@CAREFUL
@given(problems(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_greedy_with_a_reserve_stays_below_the_optimum_and_its_bound_above(problem: Problem, alpha: float):
    found = greedy_ratio(problem, alpha=alpha)
    check_honest(problem, found)
    assert found.value <= best_value(problem) <= found.bound
    assert problem.allow_unanswered or found.unanswered == 0


@CAREFUL
@given(problems(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_greedy_to_the_letter_is_bounded_by_the_problem_that_allows_unanswered(problem: Problem, alpha: float):
    found = greedy_ratio(problem, alpha=alpha, reserve=False)
    check_honest(problem, found)
    assert found.value <= best_value(problem, allow_unanswered=True) <= found.bound


@CAREFUL
@given(problems())
def test_exact_finds_the_optimum_and_says_so(problem: Problem):
    found, optimum = exact(problem), best_value(problem)
    check_honest(problem, found)
    assert found.value <= optimum <= found.bound
    assert found.value >= optimum - ROUNDING
    assert found.status == "optimal"
    assert found.gap <= ROUNDING


@CAREFUL
@given(problems())
def test_greedy_is_never_above_exact_nor_exact_above_any_bound(problem: Problem):
    greedy, best, relaxed = greedy_ratio(problem), exact(problem), lagrangian(problem)
    assert greedy.value <= best.value + ROUNDING
    assert relaxed.value <= best.value + ROUNDING
    assert best.value <= min(greedy.bound, best.bound, relaxed.bound)


def rearranged(problem: Problem, rows: list[int], columns: list[int]) -> Problem:
    at = np.ix_(rows, columns)
    mask = None if problem.available is None else problem.available[at]
    return Problem(
        problem.value[at],
        problem.cost_usd[at],
        problem.budget_usd,
        available=mask,
        allow_unanswered=problem.allow_unanswered,
    )


@CAREFUL
@given(problems(), st.data())
def test_the_order_of_queries_and_models_does_not_change_the_best_value(problem: Problem, data: st.DataObject):
    queries, models = problem.value.shape
    rows, columns = data.draw(st.permutations(range(queries))), data.draw(st.permutations(range(models)))
    assert exact(rearranged(problem, rows, columns)).value == pytest.approx(exact(problem).value, rel=0, abs=ROUNDING)


@CAREFUL
@given(problems(), st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**20]))
def test_dollars_counted_in_another_power_of_two_do_not_change_the_best_value(problem: Problem, factor: float):
    scaled = Problem(
        problem.value,
        problem.cost_usd * factor,
        problem.budget_usd * factor,
        available=problem.available,
        allow_unanswered=problem.allow_unanswered,
    )
    assert exact(scaled).value == pytest.approx(exact(problem).value, rel=0, abs=ROUNDING)


@CAREFUL
@given(problems(masks=False), st.data())
def test_a_model_that_costs_more_and_is_no_better_changes_nothing(problem: Problem, data: st.DataObject):
    worse = data.draw(st.integers(0, problem.value.shape[1] - 1))
    less, more = data.draw(st.sampled_from([0.0, 0.1, 0.5])), data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    value = np.column_stack([problem.value[:, worse] - less, problem.value])
    cost = np.column_stack([problem.cost_usd[:, worse] + more, problem.cost_usd])
    with_it = Problem(value, cost, problem.budget_usd)
    assert exact(with_it).value == pytest.approx(exact(problem).value, rel=0, abs=ROUNDING)


@CAREFUL
@given(problems(), st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 100.0]))
def test_at_a_price_each_query_takes_its_own_best_which_is_optimal_for_what_it_costs(problem: Problem, price: float):
    usable = np.ones_like(problem.value, bool) if problem.available is None else problem.available
    stranded = ~usable.any(axis=1)
    usable[stranded] = True
    value, cost = np.where(stranded[:, None], 0.5, problem.value), np.where(stranded[:, None], 0.5, problem.cost_usd)
    found = at_price(value, cost, price, available=usable)
    for row, choice in enumerate(found.choice):
        reduced = {column: value[row, column] - price * cost[row, column] for column in np.flatnonzero(usable[row])}
        assert reduced[choice] == max(reduced.values())
    needed = Problem(value, cost, found.cost_usd, available=usable)
    check_honest(needed, found)
    assert best_value(needed) - ROUNDING <= found.value <= best_value(needed) <= found.bound
    assert (found.status, found.multiplier) == ("optimal", price)


def test_at_no_price_every_query_takes_the_best_model_and_the_cheaper_of_equals():
    value = np.array([[0.2, 0.9, 0.5], [0.7, 0.7, 0.1], [0.3, 0.4, 0.4]])
    found = at_price(value, [0.3, 0.2, 0.1], 0.0)
    assert found.choice.tolist() == [1, 1, 2]
    assert found.value == math.fsum([0.9, 0.7, 0.4])
    assert found.gap <= ROUNDING


def test_at_a_very_high_price_every_query_takes_the_cheapest_model():
    value = np.random.default_rng(2).uniform(size=(50, 3))
    assert at_price(value, [0.3, 0.1, 0.2], 1e6).choice.tolist() == [1] * 50


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_a_price_that_is_negative_or_no_number_is_rejected(price: float):
    with pytest.raises(ProblemError, match="price="):
        at_price(np.ones((1, 1)), [1.0], price)


def test_a_higher_price_never_buys_more():
    generator = np.random.default_rng(3)
    value, cost = generator.uniform(size=(200, 4)), generator.uniform(size=(200, 4))
    bought = [at_price(value, cost, price) for price in np.linspace(0, 3, 13)]
    costs, values = [one.cost_usd for one in bought], [one.value for one in bought]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]
    assert values == sorted(values, reverse=True)


def test_the_lagrangian_is_within_one_query_of_its_bound_on_a_large_batch():
    generator = np.random.default_rng(4)
    value, cost = generator.uniform(size=(20_000, 6)), np.linspace(0.1, 2.0, 6)
    for budget in (3_000.0, 10_000.0, 25_000.0):
        found = lagrangian(Problem(value, cost, budget))
        assert found.value <= found.bound <= found.value + 1.0
        assert found.cost_usd <= budget * (1 + 1e-12)


def test_the_multiplier_is_what_a_further_dollar_buys():
    value, cost = np.random.default_rng(5).uniform(size=(2000, 4)), np.array([0.1, 0.3, 0.6, 1.0])
    before, after = (lagrangian(Problem(value, cost, budget)) for budget in (600.0, 610.0))
    assert (after.value - before.value) / 10 == pytest.approx(before.multiplier, rel=0.05)
    assert before.multiplier > after.multiplier > 0


def test_with_money_for_everything_the_best_of_every_query_is_proved_at_once():
    value = np.random.default_rng(6).uniform(size=(30, 3))
    found = lagrangian(Problem(value, [1.0, 2.0, 3.0], 90.0))
    assert found.choice.tolist() == value.argmax(axis=1).tolist()
    assert (found.status, found.multiplier, found.gap) == ("optimal", 0.0, 0.0)


def test_an_unknown_solver_is_rejected_and_the_known_ones_are_named():
    with pytest.raises(ProblemError, match=r"solver='magic' must be one of auto, greedy_ratio, lagrangian, exact"):
        solve(Problem([[1.0]], [[1.0]], 1.0), "magic")


@pytest.mark.parametrize(("name", "solver"), SOLVERS.items())
def test_every_solver_can_be_had_by_name(name: str, solver: Callable[..., Assignment]):
    value = np.random.default_rng(7).uniform(size=(8, 3))
    problem = Problem(value, [0.1, 0.2, 0.4], 1.5)
    found, same = solve(problem, name), solver(problem)
    assert found.choice.tolist() == same.choice.tolist()
    assert found.solver == same.solver and found.solver.startswith(name)


def test_options_go_to_the_solver_that_is_named():
    problem = Problem(np.random.default_rng(8).uniform(size=(8, 3)), [0.1, 0.2, 0.4], 1.5)
    assert solve(problem, "greedy_ratio", alpha=0.5, reserve=False).solver == "greedy_ratio(alpha=0.5, reserve=False)"


def test_auto_proves_small_batches_and_bounds_large_ones():
    small = Problem(np.random.default_rng(9).uniform(size=(10, 3)), [0.1, 0.2, 0.4], 2.0)
    assert (solve(small).solver, solve(small).status) == ("exact", "optimal")
    large = Problem(np.random.default_rng(9).uniform(size=(20_001, 2)), [0.1, 0.2], 3_000.0)
    assert solve(large).solver == "lagrangian"


def test_auto_says_what_it_took_and_why():
    small = Problem(np.random.default_rng(9).uniform(size=(10, 3)), [0.1, 0.2, 0.4], 2.0)
    assert "exact (taken since 10 queries are up to 20,000)" in str(solve(small))
    large = Problem(np.random.default_rng(9).uniform(size=(20_001, 2)), [0.1, 0.2], 3_000.0)
    assert "lagrangian (taken since 20,001 queries are more than 20,000)" in str(solve(large))
    assert solve(small, "exact").reason == ""
