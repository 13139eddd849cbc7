"""The best choices at a multiplier within the capacities, and tolls that prove it.

    maximise  sum_j r[j, x_j]    subject to   #{j : x_j = i} <= capacity[i],      r = value - multiplier * cost

is a transportation problem (Ahuja, Magnanti & Orlin 1993, "Network Flows", section 1.2), solved as a flow (`flow.py`). Its
dual puts a toll >= 0 on every full model, the value of one more place there (`tolls.py`), and gives a bound for every
multiplier and all tolls:

    L(multiplier, tolls) = multiplier * limit + sum_i tolls[i] * capacity[i] + sum_j max_i (r[j, i] - tolls[i])
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.capacity.flow import flow
from solvers.capacity.tolls import BLOCK, tolls_of
from solvers.choices import Choices, best_of

WHOLE = 1_000_000
"""Up to so many choices the flow is given all of them."""
SAMPLE = 20_000
"""Queries whose tolls show which choices a large problem's flow needs."""
FEW = 2_000
"""Up to so many queries tolls that are near are no help."""
NEAR, WIDER = 0.05, 8.0
"""The share of queries that the flow is first given a second choice for, and the factor by which this widens if it fails."""
TOO_LITTLE = 1e-12
"""A difference, relative to the numbers, that rounding alone explains."""


@dataclass(frozen=True)
class Shared:
    """The best choices at a multiplier, and the tolls that prove it."""

    choice: Int[np.ndarray, " queries"]
    tolls: Float[np.ndarray, " choices"]
    left_over: Int[np.ndarray, " left"]
    """Queries without a place; their choice means nothing."""


def share(choices: Choices, multiplier: float, tolls: Float[np.ndarray, " choices"] | None = None) -> Shared:
    """The largest sum of value - multiplier * cost within the capacities; at an infinite multiplier the least cost.

    A large problem's flow first gets the choices that are near the best at the tolls of a sample, or at `tolls`, if given.
    Those that its own tolls then show to be worth more are added until there are none (column generation).
    """
    reduced = _reduced(choices, multiplier)
    wanted = _wanted(choices, reduced)
    if choices.places is None or (choices.spare(wanted) >= 0).all():
        return Shared(wanted, np.zeros(choices.width), np.zeros(0, np.int64))
    usable = reduced > -np.inf
    large = reduced.size > WHOLE and len(reduced) > SAMPLE
    guess, near = np.zeros(choices.width), math.inf
    if tolls is not None and len(reduced) > FEW:
        guess, near = tolls, _near(reduced[_rows(reduced)] - tolls)
    elif large:
        guess, near = _guess(reduced, choices.places)
    arcs = _near_best(reduced, guess, near) & usable
    while True:
        choice, left_over = flow(reduced, arcs, choices.places)
        if left_over.size and arcs.sum() == usable.sum():
            return Shared(choice, np.zeros(choices.width), left_over)
        if left_over.size:
            near = near * WIDER if near else math.inf
            arcs = _near_best(reduced, guess, near) & usable
            continue
        tolls = tolls_of(reduced, usable, choice, choices.places)
        missing = _worth_more(reduced, tolls, choice) & usable & ~arcs
        if not missing.any() and math.isfinite(near):
            # Moves that are not among the arcs can make the tolls of all moves contradict each other.
            missing = _worth_more(reduced, tolls_of(reduced, arcs, choice, choices.places), choice) & usable & ~arcs
        if not missing.any():
            return Shared(choice, tolls, left_over)
        arcs |= missing


def _reduced(choices: Choices, multiplier: float) -> Float[np.ndarray, "queries choices"]:
    """r, the value that is left at the multiplier; -inf where not available."""
    reduced = np.empty((len(choices), choices.width))
    for rows, value, cost in choices.chunks():
        if math.isinf(multiplier):
            reduced[rows] = np.where(np.isneginf(value), value, -cost)
        else:
            reduced[rows] = value - multiplier * cost
    return reduced


def _wanted(choices: Choices, reduced: Float[np.ndarray, "queries choices"]) -> Int[np.ndarray, " queries"]:
    """The best choices without capacities; the cheaper among equals."""
    choice = np.empty(len(choices), np.int32)
    for rows, _, cost in choices.chunks():
        choice[rows] = best_of(reduced[rows], -cost)
    return choice


def _guess(
    reduced: Float[np.ndarray, "queries choices"], places: Int[np.ndarray, " choices"]
) -> tuple[Float[np.ndarray, " choices"], float]:
    """The tolls of an even sample, and the loss within which a share NEAR of its queries has a second choice at them."""
    rows = _rows(reduced)
    sample, some = reduced[rows], np.ceil(places * (SAMPLE / len(reduced))).astype(np.int64)
    arcs = sample > -np.inf
    choice, left_over = flow(sample, arcs, some)
    tolls = tolls_of(sample, arcs, choice, some) if not left_over.size else np.zeros(len(places))
    return tolls, _near(sample - tolls)


def _rows(reduced: Float[np.ndarray, "queries choices"]) -> Int[np.ndarray, " rows"]:
    """An even sample, or all."""
    return np.linspace(0, len(reduced) - 1, min(SAMPLE, len(reduced))).astype(int)


def _near(worth: Float[np.ndarray, "queries choices"]) -> float:
    """The loss within which a share NEAR of these queries has a second choice."""
    if worth.shape[1] == 1:
        return 0.0
    ordered = np.partition(worth, worth.shape[1] - 2, axis=1)
    # A query with a single choice has no second one at any distance.
    return float(np.quantile(ordered[:, -1] - ordered[:, -2], NEAR, method="lower"))


def _near_best(
    reduced: Float[np.ndarray, "queries choices"], tolls: Float[np.ndarray, " choices"], within: float
) -> Bool[np.ndarray, "queries choices"]:
    """The choices that lose at most `within` against their query's best at these tolls."""
    found = np.empty(reduced.shape, bool)
    for start in range(0, len(reduced), BLOCK):
        rows = slice(start, start + BLOCK)
        worth = reduced[rows] - tolls
        found[rows] = worth >= worth.max(axis=1, keepdims=True) - within
    return found


def _worth_more(
    reduced: Float[np.ndarray, "queries choices"], tolls: Float[np.ndarray, " choices"], choice: Int[np.ndarray, " queries"]
) -> Bool[np.ndarray, "queries choices"]:
    """The choices that are worth more, at these tolls, than the one that was made."""
    found = np.empty(reduced.shape, bool)
    scale = float(np.abs(tolls).max()) + float(np.abs(reduced[reduced > -np.inf]).max(initial=0.0))
    for start in range(0, len(reduced), BLOCK):
        rows = slice(start, start + BLOCK)
        worth = reduced[rows] - tolls
        own = worth[np.arange(len(worth)), choice[rows]][:, None]
        found[rows] = worth > own + TOO_LITTLE * scale
    return found
