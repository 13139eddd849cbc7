"""The core in whole numbers, so that sums are exact: what every choice gains and costs beside its query's base.

At the dual's multiplier every query has a best choice, its base. With gain = value - the base's value and extra = cost - the
base's cost, both in units, and room = what the bases leave of the limit,

    maximise  sum_j gain[j, x_j]    subject to   sum_j extra[j, x_j] <= room

Numbers on a grid (right or wrong, whole cents) are counted in its steps, and a better assignment is then better by a step.
Others are counted in a power of two, gains rounded up, extras down. The room is rounded up. So every assignment within the
limit is one of this program, and worth no more than it is there: its optimum bounds the true one. Sums stay below 2^52, where
float64 counts exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Choices
from solvers.dual import Dual
from solvers.grid import LARGEST_COUNT, decimal_steps, is_sharp, sum_rounding
from solvers.sums import exact_sum

LEAST_EXPONENT = -1074
"""Of the smallest float64, of which all others are multiples."""
LARGEST_MULTIPLIER = 1e250
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class WholeCore:
    """The program of this file."""

    base: Int[np.ndarray, " queries"]
    """The best choice of every query at the multiplier; among equals the incumbent's, which leaves least room."""
    gain: Float[np.ndarray, "queries choices"]
    """In units of value; -inf where a choice is closed."""
    extra: Float[np.ndarray, "queries choices"]
    """In units of cost; 0 where a choice is closed."""
    room: float
    multiplier: float
    """Units of value per unit of cost."""
    rounding: float
    """Units of value that the rounding of multiplier * extra - gain can add up to over any choices."""
    base_value: float
    """What the bases are worth, in the whole problem."""
    unit: float
    """One unit of value."""
    value_rounding: float
    """The value by which sums of units can be off."""

    def gain_of(self, choice: Int[np.ndarray, " queries"]) -> float:
        return float(self.gain[np.arange(len(choice)), choice].sum())

    def value_of(self, gained: float) -> float:
        """No assignment that gains at most so many units is worth more."""
        return self.base_value + gained * self.unit + self.value_rounding


def whole_core(core: Choices, dual: Dual, incumbent: Int[np.ndarray, " queries"]) -> WholeCore:
    """The core without capacities, whose incumbent is within the limit."""
    value, cost = core.choices
    usable = ~np.isneginf(value)
    base = _bases(core, dual, incumbent)
    base_value, _ = core.totals(base)
    gain, unit, off = _gains(core, value, usable, base)
    extra, cost_unit, room = _extras(core, cost, usable, base)
    # Any multiplier will do; where one number is next to nothing, it could be infinite.
    multiplier = min(dual.multiplier * (cost_unit / unit), LARGEST_MULTIPLIER)
    most_gain, most_extra = (float(np.abs(np.where(usable, one, 0.0)).max(axis=1).sum()) for one in (gain, extra))
    # A base is best in float64 and may lose a trifle in units; products and differences are rounded.
    negative = float(np.maximum(gain - multiplier * extra, 0.0).max(axis=1).sum())
    rounding = negative + 8 * EPSILON * (most_gain + multiplier * (most_extra + abs(room)))
    return WholeCore(base, gain, extra, room, multiplier, rounding, base_value, unit, off + 4 * EPSILON * abs(base_value))


def _bases(core: Choices, dual: Dual, incumbent: Int[np.ndarray, " queries"]) -> Int[np.ndarray, " queries"]:
    slack = dual.slack(core)
    rows = np.arange(len(slack))
    values, costs = core.picked(incumbent)
    equal = slack[rows, incumbent] <= 8 * EPSILON * (np.abs(values) + dual.multiplier * np.abs(costs))
    return np.where(equal, incumbent, slack.argmin(axis=1))


def _gains(
    core: Choices, value: np.ndarray, usable: np.ndarray, base: Int[np.ndarray, " queries"]
) -> tuple[Float[np.ndarray, "queries choices"], float, float]:
    """Gains in units, the unit, and by how much a value counted in units can be off."""
    rows = np.arange(len(base))
    filled = np.where(usable, value, 0.0)
    if is_sharp(core.steps, core.magnitude) and core.magnitude * core.steps < LARGEST_COUNT:
        counted = np.rint(filled * core.steps)
        gain = counted - counted[rows, base][:, None]
        unit = _divisor(gain[usable])
        return np.where(usable, gain / unit, -np.inf), unit / core.steps, 2 * sum_rounding(core.magnitude)
    gain = filled - filled[rows, base][:, None]
    unit = _fine_unit(np.where(usable, np.abs(gain), 0.0).max(axis=1, initial=0.0))
    gain = np.ceil((gain + EPSILON * np.abs(gain)) / unit)
    return np.where(usable, gain, -np.inf), unit, 0.0


def _extras(
    core: Choices, cost: np.ndarray, usable: np.ndarray, base: Int[np.ndarray, " queries"]
) -> tuple[Float[np.ndarray, "queries choices"], float, float]:
    """Extra costs in units, the unit, and how many of them the bases leave."""
    rows = np.arange(len(base))
    filled = np.where(usable, cost, 0.0)
    spent = filled[rows, base]
    room = exact_sum([core.limit], [-one for one in core.settled[1]], -spent)
    room += EPSILON * abs(room)
    most = float(np.abs(filled).max(axis=1, initial=0.0).sum())
    steps = decimal_steps(filled, most)
    if steps:
        counted = np.rint(filled * steps)
        extra = np.where(usable, counted - counted[rows, base][:, None], 0.0)
        # The costs of a choice and those of the bases are both off their steps by rounding.
        unit, left = 1 / steps, (room + 2 * sum_rounding(most)) * steps
    else:
        extra = np.where(usable, filled - spent[:, None], 0.0)
        unit = _fine_unit(np.abs(extra).max(axis=1, initial=0.0))
        extra, left = np.floor((extra - EPSILON * np.abs(extra)) / unit), room / unit
    divisor = _divisor(extra)
    # More than all extra costs together is as good as infinite.
    left = min(max(left, -4 * LARGEST_COUNT), 4 * LARGEST_COUNT)
    return extra / divisor, unit * divisor, float(math.floor(math.floor(left) / divisor))


def _fine_unit(largest: Float[np.ndarray, " queries"]) -> float:
    """The finest power of two in which sums of such numbers are counted exactly; of the least ones there is no finer."""
    total = float(largest.sum())
    return 2.0 ** max(math.frexp(total)[1] - 50, LEAST_EXPONENT) if total else 1.0


def _divisor(counted: np.ndarray) -> float:
    """The largest whole number that divides all of these."""
    return float(np.gcd.reduce(np.abs(counted).astype(np.int64), axis=None)) or 1.0
