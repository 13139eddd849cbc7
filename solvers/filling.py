"""What an assignment leaves of the limit, spent on upgrades: changes of one query's choice that add value.

The choices at the dual's multiplier leave a little of the limit. The upgrades that lose least at the multiplier and the tolls
come first, as long as costs and places allow.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Choices, Part, best_of
from solvers.dual import Dual

CANDIDATES = 4_096
"""Queries among which the rest of the limit is spent."""
MOST_LOOKS = 4
"""Times that all queries are searched for upgrades that the rest of the limit still pays for."""


def fill(problem: Choices, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """`choice` with upgrades, within the limit and the places.

    The queries whose upgrades lose least are considered first. Where nothing fits among them any more, all queries are
    considered again, a few times.
    """
    for _ in range(MOST_LOOKS):
        rows = _candidates(problem, choice, dual)
        if not rows.size:
            break
        part = problem.part(rows, choice)
        choice = part.whole(_fill(part, choice[rows], dual))
    return choice


def _candidates(problem: Choices, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " rows"]:
    """The queries, at most CANDIDATES, whose best upgrade that fits loses least."""
    left = problem.limit - problem.totals(choice)[1]
    values, costs = problem.picked(choice)
    full = problem.spare(choice) <= 0
    loss = np.full(len(problem), np.inf)
    for rows, value, cost in problem.chunks():
        allowed = (value > values[rows, None]) & (cost - costs[rows, None] <= left)
        if problem.places is not None:
            allowed &= ~full
        offering = np.flatnonzero(allowed.any(axis=1))
        if offering.size:
            worth = dual.reduced(value, cost)
            best = np.where(allowed, worth, -np.inf)[offering].max(axis=1)
            place = rows.start + offering
            loss[place] = worth[offering, choice[place]] - best
    offering = np.flatnonzero(loss < np.inf)
    if len(offering) > CANDIDATES:
        offering = np.sort(offering[np.argpartition(loss[offering], CANDIDATES)[:CANDIDATES]])
    return offering


def _fill(part: Part, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """In rounds: every query offers its best upgrade that fits, and the offers that lose least are taken until one does not.

    Every round takes at least one offer, and every offer adds value.
    """
    value, cost = part.choices
    rows = np.arange(len(value))
    worth = dual.reduced(value, cost)
    while True:
        spare = part.spare(choice)
        left = part.limit - part.totals(choice)[1]
        gain = value - value[rows, choice][:, None]
        extra = cost - cost[rows, choice][:, None]
        allowed = (gain > 0) & (extra <= left) & (spare > 0)
        offering = np.flatnonzero(allowed.any(axis=1))
        if not offering.size:
            return choice
        upgrade = best_of(np.where(allowed, worth, -np.inf)[offering], gain[offering])
        loss = worth[offering, choice[offering]] - worth[offering, upgrade]
        order = np.argsort(loss, kind="stable")
        offering, upgrade = offering[order], upgrade[order]
        count = min(_affordable(extra[offering, upgrade], left), _uncrowded(upgrade, spare))
        upgraded = _take(part, choice, offering, upgrade, count)
        if upgraded is None:
            return choice
        choice = upgraded


def _affordable(extra: Float[np.ndarray, " offers"], left: float) -> int:
    """How many offers, in their order, stay within `left` of the limit all along."""
    return int(np.searchsorted(np.maximum.accumulate(np.cumsum(extra)), left, side="right"))


def _uncrowded(upgrade: Int[np.ndarray, " offers"], spare: Int[np.ndarray, " choices"]) -> int:
    """How many offers, in their order, find a place."""
    order = np.argsort(upgrade, kind="stable")
    ordered = upgrade[order]
    # How many earlier offers name the same choice.
    earlier = np.empty(len(upgrade), np.int64)
    earlier[order] = np.arange(len(upgrade)) - np.searchsorted(ordered, ordered)
    crowded = np.flatnonzero(earlier >= spare[upgrade])
    return int(crowded[0]) if crowded.size else len(upgrade)


def _take(
    part: Part,
    choice: Int[np.ndarray, " queries"],
    offering: Int[np.ndarray, " offers"],
    upgrade: Int[np.ndarray, " offers"],
    count: int,
) -> Int[np.ndarray, " queries"] | None:
    """The assignment after the first `count` offers, or a few fewer, since running sums are rounded; None if none fits."""
    while count:
        tried = choice.copy()
        tried[offering[:count]] = upgrade[:count]
        if part.fits(part.totals(tried)[1]):
            return tried
        count -= 1
    return None
