"""Values on a grid, such as right or wrong: their sums are whole numbers of steps, so that bounds can be rounded down."""

from __future__ import annotations

import math
import sys

import numpy as np
from jaxtyping import Float

LEVELS = (*range(1, 65), *(10**digits for digits in range(2, 7)))
"""Steps per unit that are tried; K levels of quality have K - 1, dollars in decimals a power of ten."""
FIRST_ROWS = 64
"""Queries that rule out most grids before all are checked."""


def round_down(bound: float, steps: int, magnitude: float) -> float:
    """The largest sum on the grid that is at most `bound`, with room for the rounding of sums of this `magnitude`.

    `steps` = 0 means that there is no grid; then, and where rounding blurs the grid, the bound is returned as it is.
    """
    rounding = 8 * sys.float_info.epsilon * magnitude
    if not steps or rounding * steps > 0.1 or not math.isfinite(bound):
        return bound
    return min(bound, math.floor((bound + rounding) * steps) / steps + rounding)


def find_steps(value: Float[np.ndarray, "rows choices"], steps: int) -> int:
    """The fewest steps per unit, a multiple of `steps`, of which all values are whole numbers; 0 if there are none."""
    for tried in (steps, *(levels for levels in LEVELS if levels % steps == 0)):
        if all(_is_whole(rows, tried) for rows in (value[:FIRST_ROWS], value)):
            return tried
    return 0


def _is_whole(value: Float[np.ndarray, "rows choices"], steps: int) -> bool:
    counted = value * steps
    return bool((np.abs(counted - np.rint(counted)) <= 4 * sys.float_info.epsilon * np.abs(counted)).all())
