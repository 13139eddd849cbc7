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
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers._lagrangian import fill
from solvers.assignment import Assignment, assignment
from solvers.choices import Choices, Part
from solvers.core import CoreSearch, search_core
from solvers.dual import PROVED, Dual, search, slack_rounding
from solvers.grid import round_down
from solvers.problem import Problem, ProblemError

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel

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
    dual = search(problem, problem.cheapest)
    best = fill(problem, dual.choice, dual)
    bound = round_down(dual.bound, problem.steps, problem.magnitude)
    value = problem.totals(best)[0]
    enough = 2 * PROVED * problem.magnitude
    if bound - value > max(enough, relative_gap * abs(bound)):
        doubt = slack_rounding(problem, dual.price, best)
        core = _core(problem, dual, best, value, doubt)
        inner = best[core.rows]
        # The dynamic programme knows no capacities.
        searched = CoreSearch(inner, False)
        if problem.places is None:
            searched = search_core(core, dual, inner, max_seconds=max_seconds / 2)
        inner = fill(core, searched.choice, dual)
        value = core.totals(inner)[0]
        if searched.complete:
            bound = min(bound, value + doubt)
        for size in (SMALL_CORE, None):
            left = max_seconds - (time.perf_counter() - started)
            if bound - value <= max(enough, relative_gap * abs(bound)) or left <= 0:
                break
            undecided = _undecided(core, dual, inner, value, doubt)
            part = undecided if size is None else _easiest(undecided, dual, size)
            whole = len(part) == len(undecided)
            answer = _solve_core(part, inner[part.rows], relative_gap, left if whole else left / 4, workers)
            if answer.choice is not None and part.totals(answer.choice)[0] > value:
                inner = fill(core, part.whole(answer.choice), dual)
                value = core.totals(inner)[0]
            # A part of the core says nothing about the rest; the whole of it bounds everything better than `inner`.
            if whole:
                # On a grid what is equal but for rounding was eliminated as well.
                bound = min(bound, max(answer.bound, value + (doubt if problem.steps else 0.0)))
                break
        best = core.whole(inner)
    return assignment(
        problem,
        best,
        bound=bound,
        price=dual.price,
        tolls=dual.tolls,
        status="optimal" if bound - value <= max(enough, relative_gap * abs(bound)) else "feasible",
        seconds=time.perf_counter() - started,
        solver="exact",
    )


def _core(problem: Problem, dual: Dual, best: Int[np.ndarray, " queries"], value: float, doubt: float) -> Part:
    """The queries with more than one choice that can be part of anything better than `best`, with these choices only."""
    most = _most_loss(problem, dual, value, doubt)
    rows, usable = [], []
    for place, values, costs in problem.chunks():
        worth = dual.reduced(values, costs)
        row = np.arange(len(worth))
        open_choices = worth >= (worth[row, worth.argmax(axis=1)] - most)[:, None]
        open_choices[row, best[place]] = True
        # One count over all is much cheaper than one per query, and in a large problem most have one choice.
        if np.count_nonzero(open_choices) > len(row):
            several = np.flatnonzero(open_choices.sum(axis=1) > 1)
            rows.append(place.start + several)
            usable.append(open_choices[several])
    if not rows:
        rows, usable = [np.zeros(0, int)], [np.zeros((0, problem.width), bool)]
    return problem.part(np.concatenate(rows), best).only(np.concatenate(usable))


def _undecided(core: Part, dual: Dual, inner: Int[np.ndarray, " queries"], value: float, doubt: float) -> Part:
    """What is left of the core now that `value` is known, without dominated choices."""
    open_choices = dual.slack(core) <= _most_loss(core, dual, value, doubt)
    if core.places is None:
        # A better choice may be full, and the dominated one then the next best.
        open_choices &= ~_dominated(core)
    open_choices[np.arange(len(inner)), inner] = True
    rows = np.flatnonzero(open_choices.sum(axis=1) > 1)
    return core.part(rows, inner).only(open_choices[rows])


def _most_loss(problem: Choices, dual: Dual, value: float, doubt: float) -> float:
    """What a choice may lose at the price of `dual`, whose bound it is, and still be part of something better."""
    # On a grid something better is better by a step at least.
    step = 1 / problem.steps if problem.steps else 0.0
    return max(dual.bound - value - step, 0.0) * (1 + 1e-9) + doubt


@dataclass(frozen=True)
class _Answer:
    choice: Int[np.ndarray, " queries"] | None
    """None where nothing was found in time."""
    bound: float


def _dominated(problem: Choices) -> Bool[np.ndarray, "queries choices"]:
    """Choices for which the same query has another, no dearer, that is worth at least as much."""
    value, cost = problem.choices
    order = np.lexsort((-value, np.where(np.isneginf(value), np.inf, cost)), axis=1)
    ordered = np.take_along_axis(value, order, axis=1)
    before = np.maximum.accumulate(ordered, axis=1)[:, :-1]
    dominated = np.zeros_like(value, bool)
    np.put_along_axis(dominated, order[:, 1:], ordered[:, 1:] <= before, axis=1)
    return dominated


def _easiest(part: Part, dual: Dual, size: int) -> Part:
    """Of these queries the `size` whose second choice loses least."""
    if len(part) <= size:
        return part
    second = np.partition(dual.slack(part), 1, axis=1)[:, 1]
    rows = np.sort(np.argsort(second, kind="stable")[:size])
    usable = ~np.isneginf(part.choices[0][rows])
    return part.parent.part(part.rows[rows], part.choice).only(usable)


def _solve_core(
    core: Part, incumbent: Int[np.ndarray, " queries"], relative_gap: float, seconds: float, workers: int
) -> _Answer:
    """The best answers of the core by CP-SAT, and a bound on all of them."""
    deadline = time.perf_counter() + seconds
    if not len(core):
        return _Answer(choice=incumbent, bound=core.totals(incumbent)[0])
    value, cost = core.choices
    rows = np.arange(len(core))
    fixed_value, fixed_cost = (math.fsum(sums) for sums in core.settled)
    cells = [(row, column) for row in rows for column in np.flatnonzero(~np.isneginf(value[row]))]
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
    # A second to import, which a start that solves nothing exactly need not wait for.
    from ortools.sat.python import cp_model

    # What is left for the core is a difference of sums, and wrong by their rounding.
    most = math.fsum(max(costs[positions[row]]) for row in rows)
    budget = min(core.limit - fixed_cost, most)
    doubt = 4 * np.finfo(np.float64).eps * (abs(fixed_cost) + abs(budget))
    grid = _decimal_unit(costs, budget)
    cost_unit = grid or _unit(np.abs(costs), len(rows))

    def solve(weights: list[int], limit: int, excluded: list) -> tuple[Int[np.ndarray, " queries"] | None, float]:
        model = cp_model.CpModel()
        picks = [model.new_bool_var("") for _ in cells]
        least = {row: min(weights[position] for position in positions[row]) for row in rows}
        weights = [weight - least[row] for (row, _), weight in zip(cells, weights, strict=True)]
        for row in rows:
            model.add_exactly_one(picks[position] for position in positions[row])
        _add_budget(model, picks, weights, limit - sum(least.values()))
        for column, room in enumerate([] if core.places is None else core.places.tolist()):
            same = [pick for (_, other), pick in zip(cells, picks, strict=True) if other == column]
            if room < len(same):
                model.add(cp_model.LinearExpr.sum(same) <= room)
        for wrong in excluded:
            same = [pick for (row, column), pick in zip(cells, picks, strict=True) if wrong[row] == column]
            model.add(cp_model.LinearExpr.sum(same) <= len(rows) - 1)
        model.maximize(cp_model.LinearExpr.weighted_sum(picks, gains))
        for (row, column), pick in zip(cells, picks, strict=True):
            model.add_hint(pick, bool(incumbent[row] == column))
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = max(deadline - time.perf_counter(), 1e-3)
        solver.parameters.num_workers = workers
        # With it, OR-Tools 9.15 removes solutions and proves too little (google/or-tools#5293).
        solver.parameters.presolve_inclusion_work_limit = 0
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
    while choice is not None and not core.fits(core.totals(choice)[1]) and len(wrong) < MOST_EXCLUDED:
        wrong.append(choice)
        choice, above = solve(weights, limit, wrong)
    if choice is not None and not core.fits(core.totals(choice)[1]):
        choice, _ = solve([math.ceil(one / cost_unit) for one in costs], math.floor((budget - doubt) / cost_unit) - 1, [])
        if choice is not None and not core.fits(core.totals(choice)[1]):
            choice = None
    return _Answer(choice=choice, bound=above)


def _add_budget(model: CpModel, picks: list, weights: list[int], limit: int) -> None:
    """sum weights * picks <= limit; where few weights occur, through how often each does.

    With one cost per model the counts are a small integer knapsack of their own, on whose rounding CP-SAT can cut;
    without them it enumerates assignments that differ in nothing but which query is which.
    """
    from ortools.sat.python.cp_model import LinearExpr

    kinds = sorted(set(weights) - {0})
    if len(kinds) > MOST_KINDS:
        model.add(LinearExpr.weighted_sum(picks, weights) <= limit)
        return
    counts = []
    for kind in kinds:
        same = [pick for pick, weight in zip(picks, weights, strict=True) if weight == kind]
        count = model.new_int_var(0, len(same), "")
        model.add(count == LinearExpr.sum(same))
        counts.append(count)
    divisor = math.gcd(*kinds) if kinds else 1
    model.add(LinearExpr.weighted_sum(counts, [kind // divisor for kind in kinds]) <= limit // divisor)


def _decimal_unit(costs: Float[np.ndarray, " cells"], budget: float) -> float | None:
    """The power of ten of which all costs are whole multiples, as prices are; None if there is none or it is too fine."""
    for digits in range(13):
        unit = 10.0**-digits
        whole = np.rint(costs / unit)
        if max(float(np.abs(whole).sum()), abs(budget) / unit) >= LARGEST_SUM:
            return None
        if np.array_equal(whole / 10.0**digits, costs):
            return unit
    return None


def _unit(numbers: Float[np.ndarray, " cells"], rows: int) -> float:
    """The size of 1 in integers: the finest power of two with which `rows` numbers sum to less than LARGEST_SUM."""
    largest = float(numbers.max(initial=0.0))
    return 2.0 ** (math.ceil(math.log2(largest or 1.0)) - math.floor(math.log2(LARGEST_SUM / (rows + 1))))
