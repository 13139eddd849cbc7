"""Proved optimal assignments: what the Lagrangian proof leaves open is solved by dynamic programming, then by CP-SAT.

The Lagrangian dual gives an assignment, a bound and the slack of every choice. Almost all choices have too much slack to be
part of anything better and are eliminated (`core/elimination.py`). What remains, the core, is solved by dynamic programming
over states (`core/states.py`), and where that gives up, or with capacities, as an integer program (`core/integers.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from solvers.assignment import Assignment, proved
from solvers.choices import Part
from solvers.core import core_of, easiest, most_loss, search_states, solve_integers, undecided
from solvers.dual import PROVED, Dual, search, slack_rounding
from solvers.filling import fill
from solvers.grid import round_down, sum_rounding
from solvers.inputs import at_least, no_type_check, whole
from solvers.problem import Problem

SMALL_CORE = 60
"""Queries of the first, small integer program, whose solution tightens the elimination before the whole core is solved."""
MOST_WORKERS = 1_024


@no_type_check
def exact(problem: Problem, max_seconds: float = 60.0, relative_gap: float = 0.0, workers: int = 0) -> Assignment:
    """The best assignment, with the proof that none is better.

    Choices that the Lagrangian bound excludes are eliminated (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section
    11.4); the queries that are left are solved by dynamic programming (Pisinger 1995, "A minimal algorithm for the
    multiple-choice knapsack problem") and by OR-Tools CP-SAT.

    `max_seconds` limits the search, not the reading of the problem before it. The search ends as soon as the gap is at most
    `relative_gap`, a share of the bound. `workers` is the number of CP-SAT's threads; 0 uses all cores, and 1 makes runs that
    end in time repeat exactly.

    Returns an `Assignment` within all constraints: `optimal` when it is proved best to within `relative_gap` and rounding; out
    of time `feasible`, with the best assignment found and its proved gap. Raises `ProblemError` for limits that are no numbers
    or out of range.
    """
    goal = _Goal(
        max_seconds=at_least("max_seconds", max_seconds, 0, finite=False, above=True),
        relative_gap=at_least("relative_gap", relative_gap, 0),
        workers=whole("workers", workers, 0, MOST_WORKERS),
        rounding=2 * PROVED * problem.magnitude,
        started=time.perf_counter(),
    )
    dual = search(problem, problem.cheapest)
    choice = fill(problem, dual.choice, dual)
    bound = round_down(dual.bound, problem.steps, problem.magnitude)
    found = _Found(choice, problem.totals(choice)[0], bound)
    if not goal.reached(found):
        found = _close_gap(problem, dual, found, goal)
    return proved(
        problem,
        found.choice,
        bound=found.bound,
        multiplier=dual.multiplier,
        tolls=dual.tolls,
        status="optimal" if goal.reached(found) else "feasible",
        seconds=time.perf_counter() - goal.started,
        solver="exact",
    )


@dataclass(frozen=True)
class _Found:
    """The best assignment so far, of a problem or of its core, and a bound on the value of all."""

    choice: Int[np.ndarray, " queries"]
    value: float
    bound: float


@dataclass(frozen=True)
class _Goal:
    """When to stop, and with how many threads to get there."""

    max_seconds: float
    relative_gap: float
    workers: int
    rounding: float
    """A gap that is no gap."""
    started: float

    def reached(self, found: _Found) -> bool:
        return bool(found.bound - found.value <= max(self.rounding, self.relative_gap * abs(found.bound)))

    def seconds_left(self) -> float:
        return self.max_seconds - (time.perf_counter() - self.started)


def _close_gap(problem: Problem, dual: Dual, found: _Found, goal: _Goal) -> _Found:
    """Solve the core of the problem: by states, then in integers, a small part of it first."""
    rounding = slack_rounding(problem, dual.multiplier, found.choice)
    core = core_of(problem, dual, found.choice, most_loss(problem, dual, found.value, rounding))
    inner = replace(found, choice=found.choice[core.rows])
    inner = _search_states(core, dual, inner, goal)
    for size in (SMALL_CORE, len(core)):
        if goal.reached(inner) or goal.seconds_left() <= 0:
            break
        inner, closed = _solve_integers(core, dual, inner, rounding, goal, size)
        if closed:
            break
    return replace(inner, choice=core.whole(inner.choice))


def _search_states(core: Part, dual: Dual, inner: _Found, goal: _Goal) -> _Found:
    """Dynamic programming, in half of the time; with capacities, of which it knows nothing, only filling."""
    choice, bound = inner.choice, inner.bound
    if core.places is None:
        searched = search_states(core, dual, choice, max_seconds=goal.max_seconds / 2)
        choice, bound = searched.choice, min(bound, searched.bound)
    choice = fill(core, choice, dual)
    value = core.totals(choice)[0]
    return _Found(choice, value, max(bound, value))


def _solve_integers(core: Part, dual: Dual, inner: _Found, rounding: float, goal: _Goal, size: int) -> tuple[_Found, bool]:
    """CP-SAT on the `size` queries of the core that are easiest to swap, and whether these are all that matter.

    A part of the core says nothing about the rest. The whole of it bounds everything better than `inner`.
    """
    left = goal.seconds_left()
    remaining = undecided(core, dual, inner.choice, most_loss(core, dual, inner.value, rounding))
    part = easiest(remaining, dual, size)
    is_whole = len(part) == len(remaining)
    answer = solve_integers(
        part,
        inner.choice[part.rows],
        relative_gap=goal.relative_gap,
        max_seconds=left if is_whole else left / 4,
        workers=goal.workers,
    )
    if answer.choice is not None and part.totals(answer.choice)[0] > inner.value:
        choice = fill(core, part.whole(answer.choice), dual)
        inner = replace(inner, choice=choice, value=core.totals(choice)[0])
    if is_whole:
        # On a grid the elimination also took what is equal to `inner` but for rounding.
        least_bound = inner.value + (sum_rounding(core.magnitude) if core.steps else 0.0)
        inner = replace(inner, bound=min(inner.bound, max(answer.bound, least_bound)))
    return inner, is_whole
