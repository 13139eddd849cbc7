"""The core with capacities and one cost per model, by branch and bound on how many queries every model answers.

    maximise  sum_j value[j, x_j]   subject to   low[i] <= #{j : x_j = i} <= high[i],   sum_i cost[i] * #{j : x_j = i} <= room

For given counts what is left is a transportation problem, whose best choices are whole by themselves. So only counts are
branched on (Land & Doig 1960, "An automatic method of solving discrete programming problems"): where the linear relaxation has
a count that is not whole, it is solved again with that count at most its floor, and with that count at least its ceiling.
OR-Tools' GLOP solves the relaxations. What it says proves nothing, but its multiplier and tolls do, as any multiplier >= 0 and
any tolls would:

    value <= multiplier * room + sum_j max_i (value[j, i] - multiplier * cost[i] - toll[i])
             + sum_i toll[i] * (high[i] if toll[i] > 0 else low[i])

computed in float64 and rounded outward (`dual_bound`). Where all counts are whole, a flow gives the assignment.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.capacity import share
from solvers.choices import Part
from solvers.core.integers import IntegerAnswer
from solvers.dual import dual_bound
from solvers.sums import exact_sum

SECONDS_PER_CELL = 2e-5
"""Twice what building the program takes; where less time is left, it is not begun."""
WHOLE = 1e-6
"""A count that is off a whole number by less is one, as far as GLOP can tell."""


def one_cost_per_choice(core: Part) -> Float[np.ndarray, " choices"] | None:
    """The cost of every choice, 0 where no query has it; None where it is not the same for all queries that have it."""
    value, cost = core.choices
    usable = ~np.isneginf(value)
    least = np.where(usable, cost, np.inf).min(axis=0, initial=np.inf)
    most = np.where(usable, cost, -np.inf).max(axis=0, initial=-np.inf)
    used = usable.any(axis=0)
    return np.where(used, least, 0.0) if (least[used] == most[used]).all() else None


def search_counts(
    core: Part,
    cost: Float[np.ndarray, " choices"],
    incumbent: Int[np.ndarray, " queries"],
    *,
    enough: float,
    max_seconds: float,
) -> IntegerAnswer:
    """Improve `incumbent`, which is within the limit, until nothing is better by more than `enough`, or time is over."""
    deadline = time.perf_counter() + max_seconds
    if max_seconds < SECONDS_PER_CELL * np.count_nonzero(~np.isneginf(core.choices[0])):
        return IntegerAnswer(incumbent, math.inf)
    choice, value = incumbent, core.totals(incumbent)[0]
    assert core.places is not None
    relaxation = _Relaxation(core, cost)
    serial = count()
    whole = _Box(np.zeros(core.width, np.int64), np.minimum(core.places, len(core)))
    # The box of the largest bound comes first.
    boxes = [(-math.inf, next(serial), whole)]
    closed = -math.inf
    while boxes and -boxes[0][0] > value + enough and time.perf_counter() < deadline:
        bound, _, box = heapq.heappop(boxes)
        if box.is_impossible(core, cost):
            continue
        relaxed = relaxation.solve(box, deadline - time.perf_counter())
        bound = -bound if relaxed is None else min(-bound, relaxed.bound(core, box))
        if relaxed is None or bound <= value + enough:
            closed = max(closed, bound)
            continue
        parts = relaxed.split(box, cost)
        for part in parts:
            heapq.heappush(boxes, (-bound, next(serial), part))
        if not parts:
            found = _assigned(core, relaxed.counts)
            if found is not None and core.totals(found)[0] > value:
                choice, value = found, core.totals(found)[0]
            closed = max(closed, bound)
    return IntegerAnswer(choice, max(value, closed, -boxes[0][0] if boxes else value))


@dataclass(frozen=True)
class _Box:
    """Counts from `low` to `high`."""

    low: Int[np.ndarray, " choices"]
    high: Int[np.ndarray, " choices"]

    def is_impossible(self, core: Part, cost: Float[np.ndarray, " choices"]) -> bool:
        """Whether no counts within it make up all queries, or none of these keeps the limit, whatever queries may choose."""
        left = len(core) - int(self.low.sum())
        if left < 0 or int(self.high.sum()) < len(core):
            return True
        cheapest = np.argsort(cost, kind="stable")
        before = np.cumsum((self.high - self.low)[cheapest]) - (self.high - self.low)[cheapest]
        counts = self.low.copy()
        counts[cheapest] += np.clip(left - before, 0, (self.high - self.low)[cheapest])
        return not core.fits(exact_sum(core.settled[1], np.repeat(cost, counts)))


@dataclass(frozen=True)
class _Relaxed:
    """What GLOP found."""

    multiplier: float
    tolls: Float[np.ndarray, " choices"]
    counts: Float[np.ndarray, " choices"]

    def bound(self, core: Part, box: _Box) -> float:
        places = np.where(self.tolls > 0, box.high, box.low)
        return dual_bound(replace(core, places=places), self.multiplier, self.tolls)

    def split(self, box: _Box, cost: Float[np.ndarray, " choices"]) -> list[_Box]:
        """Two boxes without these counts; none where they are whole. The most money that is not whole decides."""
        off = np.abs(self.counts - np.rint(self.counts))
        if off.max(initial=0.0) < WHOLE:
            return []
        column = int(np.where(off < WHOLE, -1.0, off * (np.abs(cost) + np.finfo(float).tiny)).argmax())
        low, high = box.low.copy(), box.high.copy()
        high[column], low[column] = math.floor(self.counts[column]), math.ceil(self.counts[column])
        return [_Box(box.low, high), _Box(low, box.high)]


class _Relaxation:
    """The linear relaxation for any box; every solution starts from the one before."""

    def __init__(self, core: Part, cost: Float[np.ndarray, " choices"]):
        self.cost, (self.program, self.settings) = cost, _new_program()
        infinity: float = self.program.infinity()
        self.budget: Any = self.program.Constraint(-infinity, exact_sum([core.limit], [-one for one in core.settled[1]]))
        self.counts: list[Any] = [self.program.NumVar(0.0, infinity, "") for _ in cost]
        self.sums: list[Any] = [self.program.Constraint(0.0, 0.0) for _ in cost]
        for counted, total, price in zip(self.counts, self.sums, cost.tolist(), strict=True):
            total.SetCoefficient(counted, -1.0)
            self.budget.SetCoefficient(counted, price)
        self._add_queries(core)

    def _add_queries(self, core: Part) -> None:
        """Every query takes one choice; a query's values are counted from its largest one."""
        value, _ = core.choices
        usable: Bool[np.ndarray, "queries choices"] = ~np.isneginf(value)
        below = value - value.max(axis=1, keepdims=True)
        objective: Any = self.program.Objective()
        objective.SetMaximization()
        for values, open_choices in zip(below, usable, strict=True):
            one: Any = self.program.Constraint(1.0, 1.0)
            for column in np.flatnonzero(open_choices).tolist():
                pick: Any = self.program.NumVar(0.0, self.program.infinity(), "")
                one.SetCoefficient(pick, 1.0)
                self.sums[column].SetCoefficient(pick, 1.0)
                objective.SetCoefficient(pick, float(values[column]))

    def solve(self, box: _Box, seconds: float) -> _Relaxed | None:
        """None where GLOP finds no optimum, or none in time."""
        for counted, low, high in zip(self.counts, box.low.tolist(), box.high.tolist(), strict=True):
            counted.SetBounds(float(low), float(high))
        self.program.SetTimeLimit(max(1, int(1000 * seconds)))
        if self.program.Solve(self.settings) != self.program.OPTIMAL:
            return None
        multiplier = max(float(self.budget.dual_value()), 0.0)
        # The price of a place in a sum is that of a count: its cost at the multiplier, and its toll.
        prices = np.array([float(total.dual_value()) for total in self.sums])
        counts = np.array([float(counted.solution_value()) for counted in self.counts])
        return _Relaxed(multiplier, prices - multiplier * self.cost, counts)


def _new_program() -> tuple[Any, Any]:
    """An empty program of OR-Tools' GLOP, whose bindings have no types, and settings to start from the solution before."""
    from ortools.linear_solver import pywraplp  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pywraplp
    settings = library.MPSolverParameters()
    settings.SetIntegerParam(settings.PRESOLVE, settings.PRESOLVE_OFF)
    settings.SetIntegerParam(settings.LP_ALGORITHM, settings.DUAL)
    return library.Solver.CreateSolver("GLOP"), settings


def _assigned(core: Part, counts: Float[np.ndarray, " choices"]) -> Int[np.ndarray, " queries"] | None:
    """The best assignment with these counts."""
    shared = share(replace(core, places=np.rint(counts).astype(np.int64)), 0.0)
    if shared.left_over.size or not core.fits(core.totals(shared.choice)[1]):
        return None
    return shared.choice
