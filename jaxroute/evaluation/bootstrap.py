"""Paired bootstrap: how far a difference could be luck of which queries were asked.

The queries are drawn once, as weights `(resamples, queries)`, and every mean of every resample is then one matrix product:
weights @ quality.T gives 1,000 resamples of 14,000 queries x 101 points in a tenth of a second. The hulls of all resamples are
then found together (`hulls`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.evaluation.hulls import aiq, aiqs
from jaxroute.evaluation.outcomes import Curve

Measure = Callable[[Float[np.ndarray, "*resamples queries"] | None], Float[np.ndarray, "*resamples"] | float]
"""A number of all queries where it is given None, one per resample where it is given weights."""


@dataclass(frozen=True)
class Interval:
    """A difference and its two-sided bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether no difference at all lies within the interval."""
        return not (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        return f"{100 * self.value:+z.1f} ({100 * self.low:+z.1f} to {100 * self.high:+z.1f})"


def bootstrap_weights(queries: int, *, resamples: int = 1000, seed: int = 0) -> Float[np.ndarray, "resamples queries"]:
    """How often each query is drawn, divided by their number: means of a resample are weighted sums.

    Drawn once and used for everything that is compared, so that differences are paired.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(queries, np.full(queries, 1 / queries), size=resamples) / queries


def paired_interval(measure: Measure, weights: Float[np.ndarray, "resamples queries"], *, level: float = 0.95) -> Interval:
    """Percentile bootstrap (Efron & Tibshirani 1993, section 13.3) of `measure`, which takes weights or None (as is).

    Assignments stay as they were made on the whole batch; what is resampled are the queries they are judged on.
    """
    resampled = np.asarray(measure(weights))
    # A least cost is infinite where a quality is never reached; between infinities nothing can be interpolated.
    below, above = ("linear", "linear") if np.isfinite(resampled).all() else ("lower", "higher")
    low, high = np.quantile(resampled, (1 - level) / 2, method=below), np.quantile(resampled, (1 + level) / 2, method=above)
    return Interval(value=float(measure(None)), low=float(low), high=float(high))


def curve_measure(measure: Callable[..., float], curves: Sequence[Curve]) -> Measure:
    """`measure(cost, quality, cost, quality, ...)` of several curves' mean points, for `paired_interval`: any measure, called
    once per resample. For AIQ `aiq_gain` is faster.
    """

    def of(weights):
        parts = [part for curve in curves for part in curve.means(weights)]
        if weights is None:
            return measure(*parts)
        return np.array([measure(*(part[row] for part in parts)) for row in range(len(weights))])

    return of


def aiq_gain(
    curve: Curve,
    base: Curve,
    weights: Float[np.ndarray, "resamples queries"],
    *,
    low: float,
    high: float,
    convention: str = "paper",
    level: float = 0.95,
) -> Interval:
    """AIQ of `curve` less that of `base` over the mean costs from `low` to `high`, paired."""

    def of(weights):
        (cost, quality), (cost0, quality0) = curve.means(weights), base.means(weights)
        if weights is None:
            return aiq(cost, quality, low, high, convention=convention) - aiq(cost0, quality0, low, high, convention=convention)
        return aiqs(cost, quality, low, high, convention=convention) - aiqs(cost0, quality0, low, high, convention=convention)

    return paired_interval(of, weights, level=level)


def mean_difference(one: Float[np.ndarray, " queries"], other: Float[np.ndarray, " queries"] | float = 0.0) -> Measure:
    """mean(one) - mean(other), query by query, for `paired_interval`; of one thing alone, its mean."""
    difference = np.asarray(one - other)
    return lambda weights: difference.mean() if weights is None else weights @ difference


def overrun(realised_usd: Float[np.ndarray, " queries"], expected_usd: Float[np.ndarray, " queries"] | float) -> Measure:
    """Realised cost over what was expected, or over the budget, less 1: +0.1 = ten percent too dear; for `paired_interval`."""
    expected = np.broadcast_to(np.asarray(expected_usd, float), realised_usd.shape)

    def of(weights):
        if weights is None:
            return realised_usd.mean() / expected.mean() - 1
        return (weights @ realised_usd) / (weights @ expected) - 1

    return of
