"""Paired bootstrap: how far a difference could be luck of which queries were asked.

The queries are drawn once, as weights `(resamples, queries)`, and every mean of every resample is then one matrix product:
weights @ quality.T gives 1,000 resamples of 14,000 queries x 101 points in a tenth of a second. The hulls of all resamples are
then found together (`hulls`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

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
    undefined: int = 0
    """Resamples in which the measure says nothing, left out of the interval."""

    @property
    def tie(self) -> bool:
        """Whether no difference at all lies within the interval."""
        return not (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        return self.in_points

    @property
    def in_points(self) -> str:
        """The number and its interval, in percent points."""
        return f"{100 * self.value:+z.1f} ({100 * self.low:+z.1f} to {100 * self.high:+z.1f}){self.left_out}"

    @property
    def left_out(self) -> str:
        """In words, how many resamples are; empty where none is."""
        return f", {self.undefined:,} undefined resamples left out" if self.undefined else ""


def bootstrap_weights(
    queries: int, *, resamples: int = 1000, seed: int = 0, questions: Int[np.ndarray, " queries"] | None = None
) -> Float[np.ndarray, "resamples queries"]:
    """How often each query is drawn, divided by the number drawn: means of a resample are weighted sums.

    Drawn once and used for everything that is compared, so that differences are paired. `questions` numbers the distinct
    questions: rows that repeat one say nothing new, and are drawn together.
    """
    generator = np.random.default_rng(seed)
    if questions is None:
        return generator.multinomial(queries, np.full(queries, 1 / queries), size=resamples) / queries
    distinct, place = np.unique(questions, return_inverse=True)
    drawn = generator.multinomial(len(distinct), np.full(len(distinct), 1 / len(distinct)), size=resamples)[:, place]
    return drawn / drawn.sum(axis=1, keepdims=True)


def paired_interval(measure: Measure, weights: Float[np.ndarray, "resamples queries"], *, level: float = 0.95) -> Interval:
    """Percentile bootstrap (Efron & Tibshirani 1993, section 13.3) of `measure`, which takes weights or None (as is).

    Assignments stay as they were made on the whole batch; what is resampled are the queries they are judged on. Resamples in
    which the measure is NaN are left out and counted.
    """
    return interval_of(float(measure(None)), np.asarray(measure(weights)), level=level)


def interval_of(value: float, resampled: Float[np.ndarray, " resamples"], *, level: float = 0.95) -> Interval:
    """The same of a number that is known in all queries and in every resample."""
    defined = resampled[~np.isnan(resampled)]
    undefined = len(resampled) - len(defined)
    if not len(defined):
        return Interval(value, np.nan, np.nan, undefined)
    # A least cost is infinite where a quality is never reached; between infinities nothing can be interpolated.
    below, above = ("linear", "linear") if np.isfinite(defined).all() else ("lower", "higher")
    low, high = np.quantile(defined, (1 - level) / 2, method=below), np.quantile(defined, (1 + level) / 2, method=above)
    return Interval(value, float(low), float(high), undefined)


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
    """Realised cost over what was expected, or over the budget, less 1: +0.1 = ten percent more; for `paired_interval`.

    NaN where nothing was expected to be spent.
    """
    expected = np.broadcast_to(np.asarray(expected_usd, float), realised_usd.shape)

    def of(weights):
        realised, planned = (one.mean() if weights is None else weights @ one for one in (realised_usd, expected))
        return np.divide(realised, planned, out=np.full(np.shape(planned), np.nan), where=planned > 0) - 1

    return of
