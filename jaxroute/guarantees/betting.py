"""Betting: how much evidence bounded numbers hold that their mean is above a value, whatever their distribution.

Numbers x_1, x_2, ... in [0, 1] with the same mean. Whoever bets against `the mean is at most m` holds after i numbers

    W_i = prod_{k <= i} (1 + b_k (x_k - m)),        0 <= b_k <= 1 / m,   b_k fixed before x_k is seen.

Under the null each factor is at most 1 in expectation, so W is a supermartingale, and max_i W_i reaches 1 / error with
probability at most `error` (Ville 1939). The bets are those of Waudby-Smith & Ramdas 2024, "Estimating means of bounded random
variables by betting", section 3.2, for a number n of rows that is known beforehand:

    b_k = min(sqrt(2 ln(1 / error) / (n v_{k-1})), 1 / (2 m)),    v the running variance, begun with (1/2, 1/4).

What was tried in their place, and lost, is in experiments/LOG.md: mixtures of fixed bets, means over orders, other caps.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

BOLDEST = 0.5
"""Of the most that may be bet, 1 / m."""
STEPS = 40
"""Halvings of [0, 1] that a bound is found with."""


def log_wealth(values: Float[np.ndarray, "*claims rows"], mean: float, error: float) -> Float[np.ndarray, "*claims"]:
    """The largest log W_i of each claim `the mean of these values, in [0, 1], is above mean`; it is shown at >= ln(1 / error).

    The order of the rows must have nothing to do with their values.
    """
    if not mean > 0:
        # Whatever lies in [0, 1] has a mean of at least 0.
        return np.full(values.shape[:-1], math.inf)
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    bets = _bets(values, mean, error)
    return np.asarray(np.log1p(bets * (values - mean)).cumsum(axis=-1).max(axis=-1, initial=0.0))


def shown(values: Float[np.ndarray, "*claims rows"], mean: float, error: float) -> np.ndarray:
    """Whether each claim holds but for a probability of `error`."""
    return np.asarray(log_wealth(values, mean, error) >= math.log(1 / error))


def lower_bound(values: Float[np.ndarray, " rows"], error: float) -> float:
    """A number that lies above the mean with probability at most `error`; 0 where nothing is known.

    The least m that is not rejected, from below: all m under it are, since they are tried in rising order.
    """
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(shown(values, middle, error)) else (low, middle)
    return low


def _bets(values: Float[np.ndarray, "*claims rows"], mean: float, error: float) -> Float[np.ndarray, "*claims rows"]:
    rows = values.shape[-1]
    counts = np.arange(2, rows + 2)
    means = (0.5 + values.cumsum(axis=-1)) / counts
    variances = (0.25 + ((values - means) ** 2).cumsum(axis=-1)) / counts
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    return np.minimum(np.sqrt(2 * math.log(1 / error) / (rows * before)), BOLDEST / mean)
