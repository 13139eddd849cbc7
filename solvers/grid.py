"""Values on a grid, such as right or wrong: their sums are whole numbers of steps, so that bounds can be rounded down."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
from jaxtyping import Float

LEVELS = (*range(1, 65), *(10**digits for digits in range(2, 7)))
"""Steps per unit that are tried; K levels of quality have K - 1, dollars in decimals a power of ten."""
COST_LEVELS = (*LEVELS, *(10**digits for digits in range(7, 13)))
"""The same for costs, which are finer."""
STEPS = (*range(1, 65), 100, 1_000)
"""Those of LEVELS that are tried where values are read in parts; the fewest of them that are common to two parts and to a third
are common to all three in any order."""
LARGEST_COUNT = 2.0**50
"""Sums of so many steps are far from where float64 no longer counts exactly."""
FIRST_ROWS = 64
"""Queries that rule out most grids before all are checked."""


def round_down(bound: float, steps: int, magnitude: float) -> float:
    """The largest sum on the grid that is at most `bound`, with room for the rounding of sums of this `magnitude`.

    `steps` = 0 means that there is no grid; then, and where rounding blurs the grid, the bound is returned as it is.
    """
    rounding = sum_rounding(magnitude)
    if not is_sharp(steps, magnitude) or not math.isfinite(bound):
        return bound
    return min(bound, math.floor((bound + rounding) * steps) / steps + rounding)


def is_sharp(steps: int, magnitude: float) -> bool:
    """Whether there is a grid, and sums of this `magnitude` are rounded by far less than a step."""
    return steps > 0 and sum_rounding(magnitude) * steps <= 0.1


def sum_rounding(magnitude: float) -> float:
    """By how much sums of this `magnitude` of numbers on a grid can be off it."""
    return 8 * sys.float_info.epsilon * magnitude


def largest_sum(cost: Float[np.ndarray, " choices"], count: int, limit: float) -> float:
    """The largest sum of `count` of these costs that is at most `limit`, or a number between the two.

    Sums exceed `count` times the least cost by a multiple of the differences' common divisor. With two different costs that is
    their difference; with more of them it is known where they are on a grid.
    """
    most = count * float(np.abs(cost).max())
    if limit >= most:
        return limit
    distinct = np.unique(cost)
    if len(distinct) == 2:
        least, step = Fraction(distinct[0]) * count, Fraction(distinct[1]) - Fraction(distinct[0])
        multiples = max((Fraction(limit) - least) // step, 0)
        # A sum is compared with the limit after rounding.
        return max(sum_ for more in (0, 1) if (sum_ := float(least + (multiples + more) * step)) <= limit)
    steps = decimal_steps(cost, most)
    if not steps:
        return limit
    counted = np.rint(distinct * steps).astype(np.int64)
    divisor, least_sum = int(np.gcd.reduce(np.diff(counted), initial=0)), int(counted[0]) * count
    if not divisor:
        return limit
    rounding = sum_rounding(most)
    multiples = (math.floor((limit + rounding) * steps) - least_sum) // divisor
    return min(limit, (least_sum + multiples * divisor) / steps + rounding)


def decimal_steps(cost: Float[np.ndarray, "*shape"], most: float) -> int:
    """Steps per dollar of which all costs are whole numbers; 0 if there are none, or sums up to `most` are too many steps."""
    for steps in COST_LEVELS:
        if most * steps >= LARGEST_COUNT:
            return 0
        if is_on_grid(cost, steps):
            return steps
    return 0


def find_steps(value: Float[np.ndarray, "rows choices"], steps: int) -> int:
    """The fewest steps per unit, a multiple of `steps`, of which all values are whole numbers; 0 if there are none."""
    for tried in (steps, *(levels for levels in LEVELS if levels % steps == 0)):
        if all(is_on_grid(rows, tried) for rows in (value[:FIRST_ROWS], value)):
            return tried
    return 0


def steps_of(value: Float[np.ndarray, "choices rows"]) -> int:
    """The fewest steps per unit, of STEPS, of which every value is a whole number; -inf is none. 0 if there are none.

    Every value is looked at by itself, so that parts of them, by `common_steps`, say what all of them say.
    """
    for rows in (value[:, :FIRST_ROWS], value):
        whole = rows == np.rint(rows)
        others = np.unique(rows[~whole]) if not whole.all() else rows[:0, 0]
        steps = 1
        for tried in STEPS[1:]:
            counted = others * tried
            on = np.abs(counted - np.rint(counted)) <= 4 * sys.float_info.epsilon * np.abs(counted)
            steps = common_steps(steps, tried) if on.any() else steps
            others = others[~on]
            if not others.size or not steps:
                break
        if others.size or not steps:
            return 0
    return steps


def common_steps(one: int, other: int) -> int:
    """The fewest steps per unit, of STEPS, that are a multiple of both; 0 if there are none."""
    both = math.lcm(one, other)
    return next((steps for steps in STEPS if both and steps % both == 0), 0)


def is_on_grid(value: Float[np.ndarray, "rows choices"], steps: int) -> bool:
    """Whether all values are whole numbers of steps, but for the rounding of one product."""
    counted = value * steps
    return bool((np.abs(counted - np.rint(counted)) <= 4 * sys.float_info.epsilon * np.abs(counted)).all())
