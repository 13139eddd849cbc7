"""Prices in an order that was fixed beforehand, each tested until the first that fails: no correction for their number.

Hypotheses H_1, H_2, ... in an order that does not depend on the outcomes are tested at the full level, one after the other, up
to the first that is not rejected; a true one is then rejected with probability at most that level, since the first true one
must be (fixed-sequence testing; Angelopoulos, Bates, Candes, Jordan & Lei 2021, "Learn then Test", section 2.3). The prices are
0 and the powers of RATIO, so that neither outcomes nor prompts decide which are tried; of prices that make the same choices on
these rows, whose tests are the same, the last is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RATIO = 1.05
"""From one price to the next."""
MOST_EXPONENT = 1500
"""Prices beyond RATIO to this power, 10 to the 31, are not tried, nor their inverses."""


@dataclass(frozen=True, eq=False)
class Policies:
    """Every way of routing that one price makes on these rows, from the most expensive to the cheapest."""

    multipliers: list[float]
    """Quality per dollar, rising."""
    choices: Int[np.ndarray, "policies rows"]
    """The column of the model that each row goes to."""

    def __len__(self) -> int:
        return len(self.multipliers)


def policies(quality: Float[np.ndarray, "rows models"], cost_usd: Float[np.ndarray, "rows models"]) -> Policies:
    """Of estimated qualities and expected dollars per answer."""
    multipliers, found = [0.0], [choices_at(quality, cost_usd, np.zeros(len(quality)))]
    for exponent in _exponents(quality, cost_usd):
        multiplier = RATIO**exponent
        choice = choices_at(quality, cost_usd, np.full(len(quality), multiplier))
        if (choice != found[-1]).any():
            multipliers.append(multiplier)
            found.append(choice)
        else:
            multipliers[-1] = multiplier
    return Policies(multipliers, np.stack(found))


def choices_at(
    quality: Float[np.ndarray, "rows models"],
    cost_usd: Float[np.ndarray, "rows models"],
    multiplier: Float[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    """The largest quality - multiplier x cost of every row, of equal ones the cheaper model."""
    worth = quality - multiplier[:, None] * cost_usd
    best = worth.max(axis=1, keepdims=True)
    return np.where(worth >= best, cost_usd, np.inf).argmin(axis=1).astype(np.int32)


def last_shown(order: Sequence[int], shown: Callable[[int], bool]) -> int | None:
    """The last of those that are shown before the first that is not; None where the first is not."""
    found = None
    for one in order:
        if not shown(one):
            break
        found = one
    return found


def _exponents(quality: Float[np.ndarray, "rows models"], cost_usd: Float[np.ndarray, "rows models"]) -> range:
    """Where some row changes its model; outside of it every choice is that of the nearer end."""
    low, high = math.inf, -math.inf
    for one in range(quality.shape[1]):
        for other in range(one):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                price = (quality[:, one] - quality[:, other]) / (cost_usd[:, one] - cost_usd[:, other])
            price = price[np.isfinite(price) & (price > 0)]
            if len(price):
                low, high = min(low, float(price.min())), max(high, float(price.max()))
    if not low < math.inf:
        return range(0)
    first, last = (math.log(price, RATIO) for price in (low, high))
    return range(max(-MOST_EXPONENT, math.floor(first)), min(MOST_EXPONENT, math.ceil(last)) + 1)
