"""One reading of a problem: whether its numbers can be used, its cheapest assignment, their magnitude and their grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.choices import Choices, best_of
from solvers.grid import find_steps
from solvers.sums import RunningSum

LARGEST = 1e200
"""Larger numbers are neither values nor dollars, and their sums would overflow; NaN is not within it either."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What one reading of all choices finds out."""

    cheapest: Int[np.ndarray, " queries"]
    """The choices of least cost, for every query the most valuable one among equals; capacities are not considered."""
    totals: tuple[float, float]
    """Value and cost of these, summed exactly."""
    magnitude: float
    cost_magnitude: float
    steps: int


def survey(choices: Choices, available: Bool[np.ndarray, "queries models"] | None, *, minimised: bool) -> Survey | None:
    """Read everything once; None where a number is NaN, too large or of the wrong sign, or a query has no choice.

    `minimised` says that the standard form holds minus the dollars as values, and minus the values as costs.
    """
    cheapest = np.empty(len(choices), np.int32)
    values, costs = RunningSum(), RunningSum()
    magnitudes: list[float] = []
    cost_magnitudes: list[float] = []
    steps = 1
    most_value, least_cost = (0.0, -LARGEST) if minimised else (LARGEST, 0.0)
    for rows, value, cost in choices.chunks():
        closed = None if available is None else np.isneginf(value)
        if closed is not None and available is not None and _closed(available[rows]) != np.count_nonzero(closed):
            return None
        row = np.arange(len(value))
        sizes = value if closed is None else np.where(closed, 0.0, value)
        # argmax is several times faster than max along the short axis, and it finds NaN.
        largest, least = value[row, value.argmax(axis=1)], sizes[row, sizes.argmin(axis=1)]
        picked, low, high = _cheapest(value, cost, closed)
        within = ((largest, -LARGEST, most_value), (least, -LARGEST, most_value), (low, least_cost, LARGEST))
        if not all(_are_within(numbers, *ends) for numbers, *ends in (*within, (high, least_cost, LARGEST))):
            return None
        cheapest[rows] = picked
        values.add(value[row, picked])
        costs.add(np.broadcast_to(low, picked.shape))
        magnitudes.append(float(np.maximum(np.abs(largest), np.abs(least)).sum()))
        cost_magnitudes.append(float(np.broadcast_to(np.maximum(np.abs(low), np.abs(high)), picked.shape).sum()))
        steps = steps and find_steps(sizes, steps)
    totals = values.total(), costs.total()
    return Survey(cheapest, totals, math.fsum(magnitudes), math.fsum(cost_magnitudes), steps)


def _closed(available: Bool[np.ndarray, "rows models"]) -> int:
    """Cells that are not available."""
    return available.size - int(np.count_nonzero(available))


def _are_within(numbers: Float[np.ndarray, " rows"], least: float, most: float) -> bool:
    """Whether all numbers are from `least` to `most`; NaN is not."""
    return bool((numbers >= least).all() and (numbers <= most).all())


def _cheapest(
    value: Float[np.ndarray, "rows choices"],
    cost: Float[np.ndarray, "#rows choices"],
    closed: Bool[np.ndarray, "rows choices"] | None,
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " #rows"], Float[np.ndarray, " #rows"]]:
    """Per query the choice of least cost, the most valuable one among equals; and the least and the most cost."""
    if len(cost) == 1 and closed is None:
        columns = np.flatnonzero(cost[0] == cost[0].min())
        best = value[:, columns].argmax(axis=1) if len(columns) > 1 else np.zeros(len(value), np.intp)
        # Without a least cost there is NaN among them.
        picked = columns[best] if columns.size else np.zeros(len(value), np.intp)
        return picked, cost[:, picked[0]], cost.max(axis=1)
    row = np.arange(len(value))
    picked = best_of(-cost if closed is None else np.where(closed, -np.inf, -cost), value)
    return picked, cost[row, picked], cost[row, cost.argmax(axis=1)]
