"""A large problem narrowed, in one reading, to the queries that a bracket of multipliers leaves undecided.

For every query, value - multiplier * cost of its best choice is a convex function of the multiplier, and a choice that is best
at both ends of a bracket is the tangent at both: it is best everywhere between them. So one reading that looks at both ends
decides most queries for the rest of the search. An even sample says where the bracket has to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Choices, Part, best_of, picked_of
from solvers.sums import RunningSum

SAMPLE = 20_000
"""Queries of the sample that a large problem's search starts from."""
BLOCK = 16
"""Neighbouring queries of the sample that are read together."""
WIDTHS = (1.02, 1.2, math.inf)
"""How far the ends of the first bracket are from the sample's multiplier, and how long those that follow are, as factors."""
MOST_CELLS = 2**24
"""Choices of undecided queries that are kept: two arrays of 128 MB."""


@dataclass(frozen=True, eq=False)
class Bracket:
    """The best choices at two multipliers, and the queries on which they differ."""

    low: float
    high: float
    at_low: Int[np.ndarray, " queries"]
    at_high: Int[np.ndarray, " queries"]
    totals_low: tuple[float, float]
    """Value and cost of the choices at the lower multiplier, summed exactly."""
    totals_high: tuple[float, float]
    undecided: Part | None
    """The queries on which the two differ; None where they are too many to keep."""


def narrow(problem: Choices, cheapest: Int[np.ndarray, " queries"], guess: float) -> Bracket:
    """A bracket around the multiplier at which the limit is met, from a guess > 0, in one reading if the guess is good.

    At its lower end the limit is not met, unless this is 0; at its upper end it is met. `cheapest` are the choices at infinity.
    """
    low, high = guess / WIDTHS[0], guess * WIDTHS[0]
    for width in (*WIDTHS[1:], math.inf):
        found = _bracket(problem, cheapest, low, high)
        if problem.fits(found.totals_low[1]) and low > 0:
            low, high = low / width, low
        elif not problem.fits(found.totals_high[1]) and high < math.inf:
            low, high = high, high * width
        else:
            return found
    return _bracket(problem, cheapest, 0.0, math.inf)


def sample(problem: Choices, cheapest: Int[np.ndarray, " queries"]) -> Part:
    """An even sample of a large problem in blocks of neighbours, with its share of the limit and of all places."""
    share = SAMPLE / len(problem)
    starts = np.linspace(0, len(problem) - BLOCK, SAMPLE // BLOCK).astype(int)
    value, cost = np.empty((SAMPLE, problem.width)), np.empty((SAMPLE, problem.width))
    for place, start in enumerate(starts.tolist()):
        rows = slice(place * BLOCK, (place + 1) * BLOCK)
        value[rows], cost[rows] = problem.read(slice(start, start + BLOCK))
    places = None if problem.places is None else np.ceil(problem.places * share).astype(np.int64)
    rows = (starts[:, None] + np.arange(BLOCK)).ravel()
    # Queries outside the sample cost nothing and take no place.
    return Part(problem, rows, cheapest, (value, cost), ([], []), problem.limit * share, places)


def _bracket(problem: Choices, cheapest: Int[np.ndarray, " queries"], low: float, high: float) -> Bracket:
    """One reading: the best choices at both ends, their sums, and the cells of the queries on which they differ."""
    at_low, at_high = np.empty(len(problem), np.int32), np.empty(len(problem), np.int32)
    decided = RunningSum(), RunningSum()
    sums_low, sums_high = (RunningSum(), RunningSum()), (RunningSum(), RunningSum())
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None = []
    count = 0
    for rows, value, cost in problem.chunks():
        lower = _best(value, cost, low)
        higher = _best(value, cost, high) if math.isfinite(high) else cheapest[rows]
        at_low[rows], at_high[rows] = lower, higher
        same = lower == higher
        for total, cells in zip(decided, (value, cost), strict=True):
            total.add(picked_of(cells, lower)[same])
        differing = np.flatnonzero(~same)
        values, costs = value[differing], cost if len(cost) == 1 else cost[differing]
        for sums, choice in ((sums_low, lower), (sums_high, higher)):
            for total, cells in zip(sums, (values, costs), strict=True):
                total.add(picked_of(cells, choice[differing]))
        count += values.size
        if kept is not None:
            kept.append((rows.start + differing, values, np.broadcast_to(costs, values.shape)))
            kept = kept if count <= MOST_CELLS else None
    before = problem.settled
    settled = [*before[0], *decided[0].parts()], [*before[1], *decided[1].parts()]
    totals = [
        (math.fsum([*settled[0], *value.parts()]), math.fsum([*settled[1], *cost.parts()]))
        for value, cost in (sums_low, sums_high)
    ]
    part = None
    if kept is not None:
        place, value, cost = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
        part = Part(problem, place, at_high, (value, cost), settled, problem.limit, None)
    return Bracket(low, high, at_low, at_high, totals[0], totals[1], part)


def _best(
    value: Float[np.ndarray, "rows choices"], cost: Float[np.ndarray, "#rows choices"], multiplier: float
) -> Int[np.ndarray, " rows"]:
    """The best choices; at no price the cheaper among equals, since these may meet the limit."""
    return (value - multiplier * cost).argmax(axis=1) if multiplier else best_of(value, -cost)
