"""The core as an integer program, solved by OR-Tools CP-SAT. With a variable per open choice (cell) of every query j,

    maximise    sum_ji gain[j, i] pick[j, i]
    subject to  sum_i pick[j, i] = 1                        for every query j
                sum_ji weight[j, i] pick[j, i] <= room
                sum_j pick[j, i] <= places[i]               for every model i with a capacity
                pick[j, i] in {0, 1}

CP-SAT computes in integers. `gain` is the value above the query's least, in units, rounded up. In the outer program `weight` is
the cost above the query's least, rounded down, and `room` what the limit leaves, rounded up: every true assignment is in it,
so its optimum bounds the true one. A solution of it is checked in exact arithmetic. One that breaks the true limit is excluded
and the program solved again; after a few of these the inner program is solved, rounded the other way, whose solutions all
keep the limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Part
from solvers.cp_sat import load_cp_sat, new_solver, seconds_to_load
from solvers.grid import decimal_steps, sum_rounding

LARGEST_SUM = 2**52
"""Integer sums stay below this: far from CP-SAT's overflow at 2^62, and exact in float64."""
MOST_KINDS = 64
"""Up to so many different costs are counted one by one."""
MOST_EXCLUDED = 5
"""Solutions that only rounding let in, before the inner program is solved."""
SECONDS_PER_CELL = 2e-5
"""Twice what building the program takes; where less time is left, it is not begun."""
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class IntegerAnswer:
    """The best assignment found, and a bound on the value of all that keep the limit."""

    choice: Int[np.ndarray, " queries"] | None
    """None where nothing was found in time."""
    bound: float


def solve_integers(
    core: Part, incumbent: Int[np.ndarray, " queries"], *, relative_gap: float, max_seconds: float, workers: int
) -> IntegerAnswer:
    """The best choices for the core's queries; `incumbent` keeps the limit and is where CP-SAT starts."""
    deadline = time.perf_counter() + max_seconds
    if not len(core):
        return IntegerAnswer(incumbent, core.totals(incumbent)[0])
    program = _Program(core, _cells_of(core), incumbent, relative_gap, workers, deadline)
    outer, inner = _budgets(core, program.cells)
    found = program.solve(outer)
    excluded: list[Int[np.ndarray, " queries"]] = []
    while _breaks_limit(core, found.choice) and len(excluded) < MOST_EXCLUDED:
        assert found.choice is not None
        excluded.append(found.choice)
        found = program.solve(outer, excluded)
    bound = found.bound
    if _breaks_limit(core, found.choice):
        found = program.solve(inner)
    return IntegerAnswer(None if _breaks_limit(core, found.choice) else found.choice, bound)


def _breaks_limit(core: Part, choice: Int[np.ndarray, " queries"] | None) -> bool:
    return choice is not None and not core.fits(core.totals(choice)[1])


@dataclass(frozen=True)
class _Cells:
    """The open choices, query after query: one variable of the program each."""

    row: Int[np.ndarray, " cells"]
    column: Int[np.ndarray, " cells"]
    value: Float[np.ndarray, " cells"]
    cost: Float[np.ndarray, " cells"]
    first: Int[np.ndarray, " queries"]
    """The first cell of every query."""

    def least(self, numbers: np.ndarray) -> np.ndarray:
        """The least number of every query."""
        return np.minimum.reduceat(numbers, self.first)

    def above_least(self, numbers: np.ndarray) -> np.ndarray:
        """What every number has above its query's least: only that matters, and it makes smaller integers."""
        return numbers - self.least(numbers)[self.row]

    def by_query(self, variables: list[Any]) -> list[list[Any]]:
        """The variables of every query."""
        ends = [*self.first[1:].tolist(), len(self.row)]
        return [variables[first:end] for first, end in zip(self.first.tolist(), ends, strict=True)]

    def of_choice(self, variables: list[Any], choice: Int[np.ndarray, " queries"]) -> list[Any]:
        """The variables that this assignment picks."""
        return [variables[cell] for cell in np.flatnonzero(choice[self.row] == self.column)]


def _cells_of(core: Part) -> _Cells:
    value, cost = core.choices
    row, column = np.nonzero(~np.isneginf(value))
    return _Cells(row, column, value[row, column], cost[row, column], np.searchsorted(row, np.arange(len(core))))


@dataclass(frozen=True)
class _Budget:
    """sum weights * picks <= room, in integers >= 0."""

    weights: list[int]
    room: int


def _budgets(core: Part, cells: _Cells) -> tuple[_Budget, _Budget]:
    """The outer budget, which every assignment within the limit keeps, and the inner one, which no other assignment keeps."""
    _, settled_cost = (math.fsum(sums) for sums in core.settled)
    most = math.fsum(np.maximum.reduceat(cells.cost, cells.first))
    left = min(core.limit - settled_cost, most)
    # What is left for the core is a difference of sums, and wrong by their rounding.
    rounding = 4 * EPSILON * (abs(settled_cost) + abs(left))
    largest = float(np.maximum.reduceat(np.abs(cells.cost), cells.first).sum())
    steps = decimal_steps(cells.cost, largest)
    unit = 1 / steps if steps else _unit(np.abs(cells.cost), len(core))
    if steps:
        # A sum is a whole number of steps but for rounding, so what exceeds the last whole one cannot be spent.
        outer = _budget(cells, np.rint(cells.cost * steps), math.floor((left + rounding + sum_rounding(largest)) * steps))
    else:
        outer = _budget(cells, np.floor(cells.cost / unit), math.ceil((left + rounding) / unit) + 1)
    inner = _budget(cells, np.ceil(cells.cost / unit), math.floor((left - rounding) / unit) - 1)
    return outer, inner


def _budget(cells: _Cells, costs: Float[np.ndarray, " cells"], limit: int) -> _Budget:
    """Whole costs and their limit, both less what every query costs at least."""
    whole = costs.astype(np.int64)
    return _Budget(cells.above_least(whole).tolist(), limit - int(cells.least(whole).sum()))


@dataclass(frozen=True)
class _Program:
    """The program of this file, but for its budget."""

    core: Part
    cells: _Cells
    incumbent: Int[np.ndarray, " queries"]
    relative_gap: float
    workers: int
    deadline: float

    def solve(self, budget: _Budget, excluded: Sequence[Int[np.ndarray, " queries"]] = ()) -> IntegerAnswer:
        """The best choices within `budget`, other than the `excluded` ones, and a bound on their true value."""
        if self._seconds_left() < seconds_to_load() + len(self.cells.row) * SECONDS_PER_CELL:
            return IntegerAnswer(None, math.inf)
        cp_model = load_cp_sat()
        gains, unit = self._gains()
        model = cp_model.CpModel()
        picks = [model.new_bool_var("") for _ in self.cells.row]
        for picks_of_query in self.cells.by_query(picks):
            model.add_exactly_one(picks_of_query)
        _add_budget(model, picks, budget)
        self._add_places(model, picks)
        for choice in excluded:
            model.add(cp_model.LinearExpr.sum(self.cells.of_choice(picks, choice)) <= len(self.core) - 1)
        model.maximize(cp_model.LinearExpr.weighted_sum(picks, gains))
        started_from = self.incumbent[self.cells.row] == self.cells.column
        for pick, hint in zip(picks, started_from.tolist(), strict=True):
            model.add_hint(pick, hint)
        solver = new_solver(max(self._seconds_left(), 1e-3), relative_gap=self.relative_gap, workers=self.workers)
        status = solver.solve(model)
        if status == cp_model.MODEL_INVALID:
            raise RuntimeError(f"CP-SAT rejected the core: {model.validate()}")
        if status == cp_model.INFEASIBLE:
            return IntegerAnswer(None, -math.inf)
        if status == cp_model.UNKNOWN:
            return IntegerAnswer(None, math.inf)
        picked = np.array([solver.boolean_value(pick) for pick in picks])
        choice = self.incumbent.copy()
        choice[self.cells.row[picked]] = self.cells.column[picked]
        return IntegerAnswer(choice, self._true_bound(solver.best_objective_bound * unit))

    def _seconds_left(self) -> float:
        return self.deadline - time.perf_counter()

    def _gains(self) -> tuple[list[int], float]:
        """Values above their query's least, rounded up to whole units, and the unit."""
        values = self.cells.above_least(self.cells.value)
        unit = _unit(values, len(self.core))
        return np.ceil(values / unit).astype(np.int64).tolist(), unit

    def _add_places(self, model: Any, picks: list[Any]) -> None:
        """sum_j pick[j, i] <= places[i]."""
        places: list[int] = [] if self.core.places is None else self.core.places.tolist()
        for column, room in enumerate(places):
            same = [picks[cell] for cell in np.flatnonzero(self.cells.column == column)]
            if room < len(same):
                model.add(load_cp_sat().LinearExpr.sum(same) <= room)

    def _true_bound(self, gained: float) -> float:
        """The bound on the value of the whole problem, where `gained` bounds what the core adds to its least values."""
        settled_value, _ = (math.fsum(sums) for sums in self.core.settled)
        least = math.fsum(self.cells.least(self.cells.value))
        bound = settled_value + least + gained
        # Gains are rounded up; the rounding of sums and differences is added.
        return bound + EPSILON * 8 * (abs(settled_value) + abs(least) + abs(bound))


def _add_budget(model: Any, picks: list[Any], budget: _Budget) -> None:
    """sum weights * picks <= room; where few different weights occur, through how often each does.

    With one cost per model the counts are a small integer knapsack of their own, on whose rounding CP-SAT can cut; without
    them it enumerates assignments that differ in nothing but which query is which.
    """
    expression = load_cp_sat().LinearExpr
    kinds = sorted(set(budget.weights) - {0})
    if len(kinds) > MOST_KINDS:
        model.add(expression.weighted_sum(picks, budget.weights) <= budget.room)
        return
    counts: list[Any] = []
    for kind in kinds:
        same = [pick for pick, weight in zip(picks, budget.weights, strict=True) if weight == kind]
        count = model.new_int_var(0, len(same), "")
        model.add(count == expression.sum(same))
        counts.append(count)
    divisor = math.gcd(*kinds) if kinds else 1
    model.add(expression.weighted_sum(counts, [kind // divisor for kind in kinds]) <= budget.room // divisor)


def _unit(numbers: Float[np.ndarray, " cells"], rows: int) -> float:
    """The size of 1 in integers: the finest power of two with which `rows` numbers sum to less than LARGEST_SUM."""
    largest = float(numbers.max(initial=0.0))
    return 2.0 ** (math.ceil(math.log2(largest or 1.0)) - math.floor(math.log2(LARGEST_SUM / (rows + 1))))
