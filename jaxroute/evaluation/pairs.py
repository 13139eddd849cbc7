"""Two models, weak and strong: quality by the share of strong calls, and what of the gap between them is recovered.

RouteLLM (Ong et al. 2024, arXiv:2406.18665), section 2.2, and its code, routellm/evals/evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.errors import TableError
from jaxroute.evaluation.bootstrap import Measure

DECILES = 10


@dataclass(frozen=True, eq=False)
class CallCurve:
    """Mean quality by the share of strong calls, from none of them to all."""

    share: Float[np.ndarray, " points"]
    quality: Float[np.ndarray, " points"]

    @property
    def weak(self) -> float:
        return float(self.quality[0])

    @property
    def strong(self) -> float:
        return float(self.quality[-1])

    @property
    def recovered(self) -> Float[np.ndarray, " points"]:
        """The performance gap recovered at every point; NaN where there is no gap."""
        gap = self.strong - self.weak
        return (self.quality - self.weak) / gap if gap else np.full(len(self.quality), np.nan)


def call_curve(
    weak: Float[np.ndarray, " queries"],
    strong: Float[np.ndarray, " queries"],
    score: Float[np.ndarray, " queries"],
    *,
    thresholds: int | None = DECILES,
) -> CallCurve:
    """Queries whose `score` lies at or above a threshold go to the strong model.

    RouteLLM's thresholds are the score's deciles (`thresholds` quantiles), none above the largest; None = every distinct score.
    """
    return _Ranked(weak, strong, score).curve(thresholds)


def apgr(
    weak: Float[np.ndarray, " queries"], strong: Float[np.ndarray, " queries"], score: Float[np.ndarray, " queries"]
) -> float:
    """RouteLLM's average performance gap recovered for one pair of models.

    The area under quality against the share of strong calls, (area - weak) / (strong - weak), by the trapezoid over the share
    that the score's deciles span, from none to all.
    """
    return float(apgr_measure(weak, strong, score)(None))


def apgr_measure(
    weak: Float[np.ndarray, " queries"], strong: Float[np.ndarray, " queries"], score: Float[np.ndarray, " queries"]
) -> Measure:
    """The same for `paired_interval`; every resample has its own deciles."""
    return _measure(weak, strong, score, DECILES, _area)


def cpt(
    weak: Float[np.ndarray, " queries"],
    strong: Float[np.ndarray, " queries"],
    score: Float[np.ndarray, " queries"],
    recovered: float,
    *,
    thresholds: int | None = None,
) -> float:
    """RouteLLM's call-performance threshold: the least share of strong calls that recovers so much of the gap (0.5 = half).

    The first crossing of the curve, which is that of its running maximum: a curve that falls again has several places with the
    same quality, and RouteLLM's code, which interpolates the share as a function of quality, then finds any of them. Between
    two thresholds the share is mixed by chance. Thresholds are every distinct score, or `thresholds` quantiles.
    """
    return float(cpt_measure(weak, strong, score, recovered, thresholds=thresholds)(None))


def cpt_measure(
    weak: Float[np.ndarray, " queries"],
    strong: Float[np.ndarray, " queries"],
    score: Float[np.ndarray, " queries"],
    recovered: float,
    *,
    thresholds: int | None = None,
) -> Measure:
    """The same for `paired_interval`; NaN in resamples where the strong model is not the better one."""
    if not 0 <= recovered <= 1:
        raise ValueError(f"recovered={recovered} must be a share of the gap, from 0 to 1")
    if not strong.mean() >= weak.mean():
        raise TableError("the strong model is worse than the weak one on these queries: name them the other way round")
    return _measure(weak, strong, score, thresholds, lambda curve: _first_crossing(curve, recovered))


def calibrated_threshold(score: Float[np.ndarray, " queries"], share: float) -> float:
    """The least threshold at or above which lies at most `share` of the scores, those of one's own prompts.

    RouteLLM calibrates its routers like that: a new prompt goes to the strong model where its score reaches the threshold, and
    as many do as wanted, as far as new prompts are like these. With equal scores it may be fewer; infinite where it is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must be a share of the calls, from 0 to 1")
    if not len(score) or not np.isfinite(score).all():
        raise TableError("calibration needs the scores of some prompts, all of them finite")
    values, count = np.unique(score, return_counts=True)
    called = np.cumsum(count[::-1])[::-1]
    fits = called <= share * len(score) * (1 + 1e-12)
    return float(values[np.argmax(fits)]) if fits.any() else np.inf


def _measure(weak, strong, score, thresholds: int | None, measure: Callable[[CallCurve], float]) -> Measure:
    if weak.mean() == strong.mean():
        raise TableError("weak and strong are equally good on these queries: there is no gap to recover")
    ranked = _Ranked(weak, strong, score)

    def of(weights):
        if weights is None:
            return measure(ranked.curve(thresholds))
        return np.array([measure(ranked.curve(thresholds, np.rint(row * len(row)).astype(np.int64))) for row in weights])

    return of


def _area(curve: CallCurve) -> float:
    return float(np.trapezoid(curve.recovered, curve.share))


def _first_crossing(curve: CallCurve, recovered: float) -> float:
    if not curve.strong > curve.weak:
        return np.nan
    place = int(np.argmax(curve.recovered >= recovered))
    if place == 0:
        return 0.0
    (low, high), (x0, x1) = curve.recovered[place - 1 : place + 1], curve.share[place - 1 : place + 1]
    return float(x0 + (x1 - x0) * (recovered - low) / (high - low))


class _Ranked:
    """The queries in the order of their score, sorted once for all resamples; a resample says how often each is drawn."""

    def __init__(self, weak, strong, score):
        if not weak.shape == strong.shape == score.shape == (len(score),):
            raise TableError(f"weak, strong and score have shapes {weak.shape}, {strong.shape}, {score.shape}; all (queries,)")
        if not (np.isfinite(score).all() and np.isfinite(weak).all() and np.isfinite(strong).all()):
            raise TableError("weak, strong and score must be finite: drop queries that a model was not run on")
        self.order = np.argsort(score, kind="stable")
        self.score = score[self.order]
        self.weak, self.gain = weak[self.order], (strong - weak)[self.order]
        self.distinct = np.flatnonzero(np.append(True, np.diff(self.score) > 0))

    def curve(self, thresholds: int | None, drawn: Int[np.ndarray, " queries"] | None = None) -> CallCurve:
        drawn = np.ones(len(self.score), np.int64) if drawn is None else drawn[self.order]
        below = np.append(0, np.cumsum(drawn))
        total = int(below[-1])
        gained = np.append(0.0, np.cumsum(drawn * self.gain))
        # From the largest threshold down; a call starts at the first of equal scores.
        first = self.distinct if thresholds is None else self._quantile_places(below[1:], total, thresholds)
        first = np.append(len(self.score), first[::-1])
        share = (total - below[first]) / total
        quality = (drawn @ self.weak + gained[-1] - gained[first]) / total
        return CallCurve(share=share, quality=quality)

    def _quantile_places(
        self, drawn_up_to: Int[np.ndarray, " queries"], total: int, thresholds: int
    ) -> Int[np.ndarray, " thresholds"]:
        """Where the scores reach the resample's quantiles, as `np.quantile` interpolates them, the largest left out."""
        wanted = np.arange(thresholds) / thresholds * (total - 1)
        lower = np.floor(wanted).astype(np.int64)
        low, high = (self.score[np.searchsorted(drawn_up_to, lower + step, side="right")] for step in (0, 1))
        return np.searchsorted(self.score, low + (high - low) * (wanted - lower), side="left")
