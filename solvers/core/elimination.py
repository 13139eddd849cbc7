"""Which choices can still be part of something better: reduction by upper bounds.

At a multiplier with bound L, an assignment of value V loses L - V in all: the slacks of its choices plus the multiplier times
what it leaves of the limit. So a choice whose slack alone exceeds L - V is in no better assignment and is eliminated
(Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section 11.4). A query with one choice left is decided; the others
are the core.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.choices import Choices, Part
from solvers.dual import Dual
from solvers.grid import is_sharp


def most_loss(problem: Choices, dual: Dual, value: float, rounding: float) -> float:
    """The largest slack of a choice that can be part of an assignment worth more than `value`."""
    # On a grid, a better assignment is better by at least one step.
    step = 1 / problem.steps if is_sharp(problem.steps, problem.magnitude) else 0.0
    return max(dual.bound - value - step, 0.0) * (1 + 1e-9) + rounding


def core_of(problem: Choices, dual: Dual, best: Int[np.ndarray, " queries"], most: float) -> Part:
    """The queries that have, beside `best`, another choice with a slack of at most `most`; only these choices are open."""
    rows: list[Int[np.ndarray, " _"]] = []
    usable: list[Bool[np.ndarray, "_ choices"]] = []
    for place, values, costs in problem.chunks():
        worth = dual.reduced(values, costs)
        row = np.arange(len(worth))
        open_choices = worth >= (worth[row, worth.argmax(axis=1)] - most)[:, None]
        open_choices[row, best[place]] = True
        # One count over all is much cheaper than one per query, and in a large problem most queries have one choice.
        if np.count_nonzero(open_choices) > len(row):
            several = np.flatnonzero(open_choices.sum(axis=1) > 1)
            rows.append(place.start + several)
            usable.append(open_choices[several])
    if not rows:
        rows, usable = [np.zeros(0, int)], [np.zeros((0, problem.width), bool)]
    return problem.part(np.concatenate(rows), best).only(np.concatenate(usable))


def undecided(core: Part, dual: Dual, best: Int[np.ndarray, " queries"], most: float) -> Part:
    """What is left of the core when a choice may lose at most `most`, without dominated choices."""
    open_choices = dual.slack(core) <= most
    if core.places is None:
        # With capacities a dominating choice may be full, and the dominated one is then the next best.
        open_choices &= ~_dominated(core)
    open_choices[np.arange(len(best)), best] = True
    rows = np.flatnonzero(open_choices.sum(axis=1) > 1)
    return core.part(rows, best).only(open_choices[rows])


def easiest(part: Part, dual: Dual, size: int) -> Part:
    """Of these queries the `size` whose second choice loses least."""
    if len(part) <= size:
        return part
    second = np.partition(dual.slack(part), 1, axis=1)[:, 1]
    rows = np.sort(np.argsort(second, kind="stable")[:size])
    usable = ~np.isneginf(part.choices[0][rows])
    return part.parent.part(part.rows[rows], part.choice).only(usable)


def _dominated(problem: Choices) -> Bool[np.ndarray, "queries choices"]:
    """Choices for which the same query has another one that costs no more and is worth at least as much."""
    value, cost = problem.choices
    order = np.lexsort((-value, np.where(np.isneginf(value), np.inf, cost)), axis=1)
    ordered: Float[np.ndarray, "queries choices"] = np.take_along_axis(value, order, axis=1)
    before = np.maximum.accumulate(ordered, axis=1)[:, :-1]
    dominated = np.zeros_like(value, bool)
    np.put_along_axis(dominated, order[:, 1:], ordered[:, 1:] <= before, axis=1)
    return dominated
