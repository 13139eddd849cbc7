"""Values on a grid: right or wrong, or K levels, whose sums are whole numbers of steps, so that bounds can be rounded down."""

from __future__ import annotations

import math
import sys

import numpy as np
from jaxtyping import Float

LEVELS = (*range(1, 65), *(10**digits for digits in range(2, 7)))
"""Steps per unit that are looked for; K levels of quality have K - 1, dollars in decimals a power of ten."""
FEW = 64
"""Queries that tell most grids from none."""


def round_down(bound: float, steps: int, magnitude: float) -> float:
    """The largest sum on the grid that is not above `bound`, with room for the rounding of sums; `steps` = 0 is no grid."""
    doubt = 8 * sys.float_info.epsilon * magnitude
    if not steps or doubt * steps > 0.1 or not math.isfinite(bound):
        return bound
    return min(bound, math.floor((bound + doubt) * steps) / steps + doubt)


def find_steps(value: Float[np.ndarray, "rows choices"], steps: int) -> int:
    """The fewest steps per unit, a multiple of `steps`, with which all of these are whole; 0 if there are none."""
    for tried in (steps, *(levels for levels in LEVELS if levels % steps == 0)):
        if all(_whole(rows, tried) for rows in (value[:FEW], value)):
            return tried
    return 0


def _whole(value: Float[np.ndarray, "rows choices"], steps: int) -> bool:
    counted = value * steps
    return bool((np.abs(counted - np.rint(counted)) <= 4 * sys.float_info.epsilon * np.abs(counted)).all())
