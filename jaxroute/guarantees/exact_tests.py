"""Exact tests for outcomes that are right or wrong: one share, and the difference of two answers to the same questions.

One share: y_1 ... y_n are 0 or 1; `the share is at most m` has the p-value P(Bin(n, m) >= sum y) (Clopper & Pearson 1934).

A paired difference: D is +1 where only the router is right (probability p), -1 where only the reference is (r), else 0.
`The mean of D is at most -eps` is p - r <= -eps. With s = p + r, of the n rows N ~ Bin(n, s) differ, and of these
K ~ Bin(N, p / s) speak for the router. The statistic

    t(K, N) = (2 K - N + n eps) / sqrt(n (max(N / n, eps) - eps^2))

rises in K at every N, so at every s the null is likeliest to reach t on its edge, p = (s - eps) / 2. What is left unknown is s:
the p-value is the largest over an interval that holds s but for a probability gamma, plus gamma (Berger & Boos 1994, "P values
maximized over a confidence set for the nuisance parameter"), which is valid at every n.

Between two values of s at which P = P_s(t) is computed it is bounded: |d sqrt(P) / ds| <= sqrt(I(s)) / 2 by Cauchy and Schwarz,
with the Fisher information I(s) = n (1 / (2 (s - eps)) + 1 / (2 (s + eps)) + 1 / (1 - s)), whose root is at most the sum of the
three roots, which has an integral in closed form.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import bdtrc, betainc, betaincinv, gammaln, xlog1py, xlogy

GAMMA = 0.01
"""Of the error, what the interval of s may take."""
POINTS = 300
"""Values of s at which the probability is computed."""
TAIL = 8.0
"""Standard deviations of N that are summed over; what is left out is added as `REST`."""
REST = 1e-8
"""More than two binomial tails beyond TAIL: by Bernstein's inequality, 2 exp(-TAIL^2 / (2 + 2 TAIL / (3 sd))), sd >= 5."""


def share_p_value(right: int, rows: int, share: float) -> float:
    """Of the null `at most this share is right`: P(Bin(rows, share) >= right)."""
    return 1.0 if right <= 0 or share >= 1 else 0.0 if share <= 0 else float(betainc(right, rows - right + 1, share))


def share_lower_bound(right: int, rows: int, error: float) -> float:
    """The Clopper-Pearson bound: it lies above the share with probability at most `error`."""
    return 0.0 if right <= 0 else float(betaincinv(right, rows - right + 1, error))


def share_upper_bound(right: int, rows: int, error: float) -> float:
    """The same from above."""
    return 1.0 if right >= rows else float(betaincinv(right + 1, rows - right, 1 - error))


def paired_shown(better: int, worse: int, rows: int, within: float, error: float) -> bool:
    """Whether `paired_p_value` is at most `error`. Where N is the same it falls in K, so few of them are computed."""
    differing = better + worse
    known = _known(differing, rows, within, error)
    if known[0] < better < known[1]:
        passed = paired_p_value(better, worse, rows, within, error) <= error
        known[int(passed)] = better
    return better >= known[1]


@lru_cache(maxsize=50_000)
def _known(differing: int, rows: int, within: float, error: float) -> list[int]:
    """The largest K that is known not to be enough, and the least that is."""
    return [-1, differing + 1]


def paired_p_value(better: int, worse: int, rows: int, within: float, error: float) -> float:
    """Of the null `the mean difference is at most -within`, where `better` rows are +1, `worse` are -1, and the others 0.

    `within` lies in (0, 1). It is made for a test at level `error`: compared with another one it is still valid, and blunter.
    """
    differing, gamma = better + worse, GAMMA * error
    low = max(within, share_lower_bound(differing, rows, gamma / 2))
    high = max(low, share_upper_bound(differing, rows, gamma / 2))
    reached = (2 * better - differing + rows * within) / _spread(np.array(differing), rows, within)
    at = _evenly(low, high, rows, within)
    roots = np.sqrt(_probabilities(at, float(reached), rows, within))
    if len(at) == 1:
        return min(1.0, float(roots[0]) ** 2 + gamma)
    apart = np.diff(_length(at, rows, within))
    return min(1.0, float(((roots[1:] + roots[:-1] + apart) / 2).max()) ** 2 + gamma)


def _spread(differing: np.ndarray, rows: int, within: float) -> np.ndarray:
    """The standard deviation of the sum of D on the null's edge, for the share that differs."""
    return np.sqrt(rows * (np.maximum(differing / rows, within) - within**2))


def _probabilities(at: Float[np.ndarray, " points"], reached: float, rows: int, within: float) -> Float[np.ndarray, " points"]:
    """P_s(t >= reached) on the null's edge at every s."""
    wide = TAIL * max(5.0, math.sqrt(rows * float((at * (1 - at)).max())))
    first, last = max(0, math.floor(rows * at[0] - wide)), min(rows, math.ceil(rows * at[-1] + wide))
    differing = np.arange(first, last + 1)
    least = np.ceil((differing - rows * within + reached * _spread(differing, rows, within)) / 2 - 1e-9)
    share = np.clip((at - within) / (2 * at), 0.0, 1.0)[:, None]
    # bdtrc(k, n, p) = P(Bin(n, p) > k); all of them exceed -1.
    tail = np.where(least <= 0, 1.0, bdtrc(np.clip(least - 1, 0, differing), differing, share))
    tail = np.where(least > differing, 0.0, tail)
    ways = gammaln(rows + 1) - gammaln(differing + 1) - gammaln(rows - differing + 1)
    weight = np.exp(ways + xlogy(differing, at[:, None]) + xlog1py(rows - differing, -at[:, None]))
    return np.minimum(1.0, (weight * tail).sum(axis=1) + REST)


def _length(at: Float[np.ndarray, " points"], rows: int, within: float) -> Float[np.ndarray, " points"]:
    """A bound on the integral of sqrt(I) / 2 up to every s."""
    return math.sqrt(rows) * (np.sqrt((at - within) / 2) + np.sqrt((at + within) / 2) - np.sqrt(1 - at))


def _evenly(low: float, high: float, rows: int, within: float) -> Float[np.ndarray, " points"]:
    """Values of s from low to high, about evenly along that length."""
    if high <= low:
        return np.array([low])
    fine = np.linspace(0.0, 1.0, 20 * POINTS) ** 2 * (high - low) + low
    length = _length(fine, rows, within)
    at = np.interp(np.linspace(length[0], length[-1], POINTS), length, fine)
    at[0], at[-1] = low, high
    return at
