"""Proved optimal assignments: what the Lagrangian proof leaves open is solved by dynamic programming, then by CP-SAT.

The Lagrangian dual gives an assignment, a bound and the slack of every choice. Almost all choices have too much slack to be
part of anything better and are eliminated (`core/elimination.py`). What remains, the core, is solved by dynamic programming
over states (`core/states.py`), with capacities and one cost per model by branch and bound on counts (`core/counts.py`), and
otherwise, or where these give up, as an integer program (`core/integers.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from solvers.assignment import Assignment, proved
from solvers.choices import Part
from solvers.core import (
    core_of,
    easiest,
    most_loss,
    one_cost_per_choice,
    search_counts,
    search_states,
    solve_integers,
    undecided,
)
from solvers.dual import PROVED, Dual, search, slack_rounding
from solvers.filling import fill
from solvers.grid import round_down, sum_rounding
from solvers.inputs import at_least, no_type_check, whole
from solvers.problem import Problem

SMALL_CORE = 60
"""Queries of the first, small integer program, whose solution tightens the elimination before the whole core is solved."""
MOST_WORKERS = 1_024
DUAL_SHARE = 0.8
"""Of the time, for the search for the multiplier, whose last step, a flow, is not interrupted."""
SEARCH_SHARE = 0.6
"""Of what is left then, for the search before CP-SAT."""


@no_type_check
def exact(problem: Problem, max_seconds: float = 60.0, relative_gap: float = 0.0, workers: int = 0) -> Assignment:
    """The best assignment, with the proof that none is better.

    Choices that the Lagrangian bound excludes are eliminated (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section
    11.4). The queries that are left are solved by dynamic programming (Pisinger 1995, "A minimal algorithm for the
    multiple-choice knapsack problem"); with capacities and one cost per model by branch and bound on how many queries every
    model answers; and where neither closes the gap, by OR-Tools CP-SAT.

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
    dual = search(problem, problem.cheapest, deadline=goal.started + DUAL_SHARE * goal.max_seconds)
    choice = fill(problem, dual.choice, dual)
    bound = round_down(dual.bound, problem.steps, problem.magnitude)
    found = _Found(choice, problem.totals(choice)[0], bound)
    if not goal.reached(found) and goal.seconds_left() > 0:
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
        return bool(found.bound - found.value <= self.enough(found))

    def enough(self, found: _Found) -> float:
        """The gap that is small enough."""
        return max(self.rounding, self.relative_gap * abs(found.bound))

    def seconds_left(self) -> float:
        return self.max_seconds - (time.perf_counter() - self.started)


def _close_gap(problem: Problem, dual: Dual, found: _Found, goal: _Goal) -> _Found:
    """Solve the core of the problem: by states or by counts, then in integers, a small part of it first."""
    rounding = slack_rounding(problem, dual.multiplier, found.choice)
    core = core_of(problem, dual, found.choice, most_loss(problem, dual, found.value, rounding))
    inner = _search(core, dual, replace(found, choice=found.choice[core.rows]), goal)
    for size in (SMALL_CORE, len(core)):
        if goal.reached(inner) or goal.seconds_left() <= 0:
            break
        inner, closed = _solve_integers(core, dual, inner, rounding, goal, size)
        if closed:
            break
    return replace(inner, choice=core.whole(inner.choice))


def _search(core: Part, dual: Dual, inner: _Found, goal: _Goal) -> _Found:
    """By states without capacities; with them by counts where every model has one cost. CP-SAT keeps a share of the time."""
    seconds = SEARCH_SHARE * goal.seconds_left()
    if core.places is None:
        states = search_states(core, dual, inner.choice, max_seconds=seconds)
        return _improved(core, dual, inner, states.choice, states.bound)
    cost = one_cost_per_choice(core)
    if cost is None:
        return _improved(core, dual, inner, inner.choice, inner.bound)
    answer = search_counts(core, cost, inner.choice, enough=goal.enough(inner), max_seconds=seconds)
    return _improved(core, dual, inner, answer.choice, answer.bound)


def _improved(core: Part, dual: Dual, inner: _Found, choice: Int[np.ndarray, " queries"] | None, bound: float) -> _Found:
    """`inner`, or something better, where the core's assignments are worth at most `bound`."""
    if choice is not None and core.totals(choice)[0] > inner.value:
        choice = fill(core, choice, dual)
        inner = replace(inner, choice=choice, value=core.totals(choice)[0])
    # The elimination took what is not better than the assignment known then: on a grid, but for the rounding of both.
    least_bound = inner.value + (2 * sum_rounding(core.magnitude) if core.steps else 0.0)
    return replace(inner, bound=min(inner.bound, max(bound, least_bound)))


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
    choice = None if answer.choice is None else part.whole(answer.choice)
    return _improved(core, dual, inner, choice, answer.bound if is_whole else inner.bound), is_whole
