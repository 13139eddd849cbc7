"""Proved optimal assignments: OR-Tools CP-SAT on what the Lagrangian proof and a small dynamic programme leave open.

At a price with bound L, an assignment of value V loses L - V in all: the slacks of its choices plus the price of what it
leaves of the budget. So a choice whose slack alone exceeds L - V cannot be part of anything better than V and is
eliminated (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section 11.4: reduction by upper bounds). A query
with one choice left is fixed; the others, the core, are an integer programme in CP-SAT.

CP-SAT computes in integers. Floored costs, a ceiled budget and ceiled values admit every true assignment, so their
optimum bounds the true one. Its solution is checked in exact arithmetic; one that breaks the true budget is excluded and the
programme solved again, and after a few of these the opposite rounding (ceiled costs, floored budget) is solved as well.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from ortools.sat.python import cp_model

from solvers.core import search_core
from solvers.lagrangian import PROVED, dual_bound, fill, search, slack
from solvers.problem import Assignment, Problem, ProblemError, assignment

LARGEST_SUM = 2**52
"""Integer sums stay below this: far from CP-SAT's overflow at 2^62, and exact in float64."""
MOST_KINDS = 64
"""Up to so many different costs are counted one by one."""
MOST_EXCLUDED = 5
"""Solutions that only rounding let in, before the opposite rounding is tried."""
SMALL_CORE = 60
"""Queries of the first, small core, whose solution tightens the lower bound before the elimination."""


def exact(problem: Problem, max_seconds: float = 60.0, relative_gap: float = 0.0, workers: int = 0) -> Assignment:
    """The best assignment, `optimal` when that is proved to within `relative_gap` and rounding.

    Out of time it returns the best one found, `feasible`, with its proved gap. `workers` = 0 uses all cores. Raises
    `ProblemError` for limits that make no sense.
    """
    if not max_seconds > 0 or not relative_gap >= 0:
        raise ProblemError(f"max_seconds={max_seconds} must be > 0 and relative_gap={relative_gap} >= 0")
    started = time.perf_counter()
    dual = search(problem)
    bound, best = dual.bound, fill(problem, dual.choice, dual.price)
    losses = slack(problem, dual.price)

    def value_of(choice: Int[np.ndarray, " queries"]) -> float:
        return problem.totals(choice)[0]

    def proved() -> bool:
        return bound - value_of(best) <= max(2 * PROVED * problem.magnitude, relative_gap * abs(bound))

    if not proved():
        searched = search_core(problem, dual.price, best, max_seconds=max_seconds / 2)
        best = fill(problem, searched.choice, dual.price)
        if searched.complete:
            bound = min(bound, value_of(best) + PROVED * problem.magnitude)

    # The slacks and the bound must belong to the same price.
    ceiling = dual_bound(problem, dual.price)
    for size in (SMALL_CORE, None):
        left = max_seconds - (time.perf_counter() - started)
        if proved() or left <= 0:
            break
        open_choices = losses <= (ceiling - value_of(best)) * (1 + 1e-9) + PROVED * problem.magnitude
        open_choices &= ~_dominated(problem)
        open_choices[np.arange(len(best)), best] = True
        undecided = open_choices.sum(axis=1) > 1
        core = undecided if size is None else _easiest(undecided, open_choices, losses, size)
        whole = core.sum() == undecided.sum()
        answer = _solve_core(problem, open_choices, core, best, relative_gap, left if whole else left / 4, workers)
        if answer.choice is not None and value_of(answer.choice) > value_of(best):
            best = fill(problem, answer.choice, dual.price)
        # A part of the core says nothing about the rest; the whole of it bounds everything better than `best`.
        if whole:
            bound = min(bound, max(answer.bound, value_of(best)))
            break
    return assignment(
        problem,
        best,
        bound=bound,
        multiplier=dual.price,
        status="optimal" if proved() else "feasible",
        seconds=time.perf_counter() - started,
        solver="exact",
    )


@dataclass(frozen=True)
class _Answer:
    choice: Int[np.ndarray, " queries"] | None
    """None where nothing was found in time."""
    bound: float


def _dominated(problem: Problem) -> Bool[np.ndarray, "queries choices"]:
    """Choices for which the same query has another, no dearer, that is worth at least as much."""
    value, cost = problem.choices
    order = np.lexsort((-value, np.where(np.isneginf(value), np.inf, cost)), axis=1)
    ordered = np.take_along_axis(value, order, axis=1)
    before = np.maximum.accumulate(ordered, axis=1)[:, :-1]
    dominated = np.zeros_like(value, bool)
    np.put_along_axis(dominated, order[:, 1:], ordered[:, 1:] <= before, axis=1)
    return dominated


def _easiest(
    undecided: Bool[np.ndarray, " queries"],
    open_choices: Bool[np.ndarray, "queries choices"],
    losses: Float[np.ndarray, "queries choices"],
    size: int,
) -> Bool[np.ndarray, " queries"]:
    """Of the undecided queries the `size` whose second choice loses least."""
    if undecided.sum() <= size:
        return undecided
    second = np.where(undecided, np.partition(np.where(open_choices, losses, np.inf), 1, axis=1)[:, 1], np.inf)
    easiest = np.zeros_like(undecided)
    easiest[np.argsort(second, kind="stable")[:size]] = True
    return easiest


def _solve_core(
    problem: Problem,
    open_choices: Bool[np.ndarray, "queries choices"],
    core: Bool[np.ndarray, " queries"],
    incumbent: Int[np.ndarray, " queries"],
    relative_gap: float,
    seconds: float,
    workers: int,
) -> _Answer:
    """The best assignment that differs from `incumbent` in the core only, by CP-SAT, and a bound on all of these."""
    value, cost = problem.choices
    if not core.any():
        return _Answer(choice=incumbent, bound=problem.totals(incumbent)[0])
    rows = np.flatnonzero(core)
    fixed = np.flatnonzero(~core)
    fixed_value = math.fsum(value[fixed, incumbent[fixed]])
    fixed_cost = math.fsum(cost[fixed, incumbent[fixed]])
    cells = [(row, column) for row in rows for column in np.flatnonzero(open_choices[row])]
    positions = {row: [] for row in rows}
    for position, (row, _) in enumerate(cells):
        positions[row].append(position)
    cell_rows, cell_columns = np.array(cells).T
    values, costs = value[cell_rows, cell_columns], cost[cell_rows, cell_columns]
    # Only differences within a query matter; taking the least away leaves smaller integers.
    least_value = {row: min(values[positions[row]]) for row in rows}
    base_value = math.fsum(least_value.values())
    values = values - np.array([least_value[row] for row in cell_rows])
    value_unit = _unit(values, len(rows))
    gains = [math.ceil(one / value_unit) for one in values]
    # What is left for the core is a difference of sums, and wrong by their rounding.
    budget = problem.spendable_usd - fixed_cost
    doubt = 4 * np.finfo(np.float64).eps * problem.spendable_usd
    grid = _decimal_unit(costs, budget)
    cost_unit = grid or _unit(np.append(costs, max(budget, 0.0)), len(rows))

    def solve(weights: list[int], limit: int, excluded: list) -> tuple[Int[np.ndarray, " queries"] | None, float]:
        model = cp_model.CpModel()
        picks = [model.new_bool_var("") for _ in cells]
        least = {row: min(weights[position] for position in positions[row]) for row in rows}
        weights = [weight - least[row] for (row, _), weight in zip(cells, weights, strict=True)]
        for row in rows:
            model.add_exactly_one(picks[position] for position in positions[row])
        _add_budget(model, picks, weights, limit - sum(least.values()))
        for wrong in excluded:
            same = [pick for (row, column), pick in zip(cells, picks, strict=True) if wrong[row] == column]
            model.add(cp_model.LinearExpr.sum(same) <= len(rows) - 1)
        model.maximize(cp_model.LinearExpr.weighted_sum(picks, gains))
        for (row, column), pick in zip(cells, picks, strict=True):
            model.add_hint(pick, bool(incumbent[row] == column))
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = 0
        solver.parameters.relative_gap_limit = relative_gap
        status = solver.solve(model)
        if status == cp_model.MODEL_INVALID:
            raise RuntimeError(f"CP-SAT refused the core: {model.validate()}")
        if status == cp_model.INFEASIBLE:
            return None, -math.inf
        if status == cp_model.UNKNOWN:
            return None, math.inf
        # Ceiled values and the rounding of base and differences only ever raise the bound.
        above = fixed_value + base_value + solver.best_objective_bound * value_unit
        above += np.finfo(np.float64).eps * 8 * (abs(fixed_value) + abs(base_value) + abs(above))
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None, above
        choice = incumbent.copy()
        for (row, column), pick in zip(cells, picks, strict=True):
            if solver.boolean_value(pick):
                choice[row] = column
        return choice, above

    weights = [round(one / cost_unit) if grid else math.floor(one / cost_unit) for one in costs]
    # On a decimal grid a sum is a whole number of units, so what exceeds the last whole one by rounding cannot be spent.
    limit = math.floor((budget + doubt) / cost_unit) if grid else math.ceil((budget + doubt) / cost_unit) + 1
    choice, above = solve(weights, limit, [])
    wrong = []
    while choice is not None and not problem.fits(problem.totals(choice)[1]) and len(wrong) < MOST_EXCLUDED:
        wrong.append(choice)
        choice, above = solve(weights, limit, wrong)
    if choice is not None and not problem.fits(problem.totals(choice)[1]):
        choice, _ = solve([math.ceil(one / cost_unit) for one in costs], math.floor((budget - doubt) / cost_unit) - 1, [])
        if choice is not None and not problem.fits(problem.totals(choice)[1]):
            choice = None
    return _Answer(choice=choice, bound=above)


def _add_budget(model: cp_model.CpModel, picks: list, weights: list[int], limit: int) -> None:
    """sum weights * picks <= limit; where few weights occur, through how often each does.

    With one cost per model the counts are a small integer knapsack of their own, on whose rounding CP-SAT can cut;
    without them it enumerates assignments that differ in nothing but which query is which.
    """
    kinds = sorted(set(weights) - {0})
    if len(kinds) > MOST_KINDS:
        model.add(cp_model.LinearExpr.weighted_sum(picks, weights) <= limit)
        return
    counts = []
    for kind in kinds:
        same = [pick for pick, weight in zip(picks, weights, strict=True) if weight == kind]
        count = model.new_int_var(0, len(same), "")
        model.add(count == cp_model.LinearExpr.sum(same))
        counts.append(count)
    divisor = math.gcd(*kinds) if kinds else 1
    model.add(cp_model.LinearExpr.weighted_sum(counts, [kind // divisor for kind in kinds]) <= limit // divisor)


def _decimal_unit(costs: Float[np.ndarray, " cells"], budget: float) -> float | None:
    """The power of ten of which all costs are whole multiples, as prices are; None if there is none or it is too fine."""
    for digits in range(13):
        unit = 10.0**-digits
        whole = np.rint(costs / unit)
        if max(float(whole.sum()), budget / unit) >= LARGEST_SUM:
            return None
        if np.array_equal(whole / 10.0**digits, costs):
            return unit
    return None


def _unit(numbers: Float[np.ndarray, " cells"], rows: int) -> float:
    """The size of 1 in integers: the finest power of two with which `rows` numbers sum to less than LARGEST_SUM."""
    largest = float(numbers.max(initial=0.0))
    return 2.0 ** (math.ceil(math.log2(largest or 1.0)) - math.floor(math.log2(LARGEST_SUM / (rows + 1))))
