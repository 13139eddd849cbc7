"""Drift: alarms that a model answers otherwise than estimated, or that prompts are no longer like those of training.

Every alarm is a bet against "nothing has changed". While that holds, the wealth of the better is expected not to grow, so the
chance that it ever exceeds 1 / alpha, over a stream of any length, is at most alpha (Ville's inequality; Shafer & Vovk 2019,
"Game-Theoretic Foundations for Probability and Finance", section 2). One test per model and one for the prompts share alpha
evenly, so that the chance of any false alarm is at most alpha in all.

Since nobody knows when a change would come, the stake is spread over all moments of entry, w_t = u(t) - u(t + 1) with
u(t) = 1 / log2(t + 1), and over bets b whose factors f_b(t) have a mean of at most 1 before outcome t is known:

    S_b(t) = (S_b(t - 1) + w_t) f_b(t),    wealth(t) = mean_b S_b(t) + u(t + 1)

(a mixture of e-processes with different beginnings; Shin, Ramdas & Rinaldo 2023, "E-detectors", section 2.)

A model, with r = quality - estimate of its rated answers: f = 1 - lambda (r + tolerance) bets on worse, f = 1 + lambda (r -
tolerance) on better. The null is that the mean of r, given the past, stays within +- tolerance: estimates are never exact.

The prompts, by their p-values: these fall into bins. With n calibration prompts, of which bin b holds k_b of the n + 1 places,
and s_b of t earlier prompts of the stream in it, the next one is in it with probability (k_b + s_b) / (n + 1 + t) exactly, as
long as prompts are drawn like the calibration prompts (Polya's urn; conformal test martingales: Vovk, Gammerman & Shafer 2005,
section 7.1). Bets are that a share of the prompts is of a new kind, which lies in the lowest bins, or in the highest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxroute.errors import OutputError

ALPHA = 0.05
TOLERANCE = 0.01
STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Lambda of the bets on a model."""
EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
"""Upper ends of the bins of p-values."""
SHARES = (0.01, 0.03, 0.1, 0.3, 0.8)
"""Of prompts of a new kind, as they are bet on."""
LOW = (0.01, 0.05, 0.2)
HIGH = (0.8, 0.95)
PROMPTS = "prompts"
MOST_LOG = 500.0
"""Wealth beyond which nothing more is counted."""


@dataclass
class Wealth:
    """The stake on several bets, spread over all moments of entry."""

    bets: int
    seen: int = 0
    """Outcomes so far."""
    log_stakes: Float[np.ndarray, " bets"] = field(default_factory=lambda: np.empty(0))
    """Logarithms of S."""

    def __post_init__(self) -> None:
        if not len(self.log_stakes):
            self.log_stakes = np.full(self.bets, -np.inf)

    def bet(self, factors: Float[np.ndarray, " bets"]) -> None:
        """The next outcome multiplies the bets by these."""
        self.seen += 1
        entering = math.log(_unspent(self.seen) - _unspent(self.seen + 1))
        with np.errstate(divide="ignore"):
            grown = np.logaddexp(self.log_stakes, entering) + np.log(np.maximum(factors, 0.0))
        self.log_stakes = np.minimum(grown, MOST_LOG)

    @property
    def value(self) -> float:
        """What a stake of 1 has become."""
        return float(np.exp(self.log_stakes).mean()) + _unspent(self.seen + 1)


def _unspent(moment: int) -> float:
    return 1 / math.log2(moment + 1)


@dataclass
class ModelWatch:
    """Whether one model's answers are as good as estimated: `see` every rated one."""

    tolerance: float = TOLERANCE
    """How far the mean of quality - estimate may lie from 0 without an alarm."""
    worse: Wealth = field(default_factory=lambda: Wealth(len(STAKES)))
    better: Wealth = field(default_factory=lambda: Wealth(len(STAKES)))

    def see(self, quality: float, estimate: float) -> None:
        """Both in [0, 1]."""
        difference = quality - min(max(estimate, 0.0), 1.0)
        stakes = np.array(STAKES) / (1 + self.tolerance)
        self.worse.bet(1 - stakes * (difference + self.tolerance))
        self.better.bet(1 + stakes * (difference - self.tolerance))

    @property
    def value(self) -> float:
        """Of a stake of 1, half on either."""
        return (self.worse.value + self.better.value) / 2

    @property
    def direction(self) -> str:
        """What the greater part of the wealth comes from."""
        return "worse" if self.worse.value >= self.better.value else "better"


@dataclass
class PromptWatch:
    """Whether prompts are like those of training: `see` every p-value against `calibration` prompts."""

    calibration: int
    counts: Float[np.ndarray, " bins"] = field(default_factory=lambda: np.zeros(len(EDGES)))
    """Prompts of the stream by bin."""
    wealth: Wealth = field(default_factory=lambda: Wealth((len(LOW) + len(HIGH)) * len(SHARES)))

    def see(self, p_value: float) -> None:
        """Of the next prompt, in (0, 1]."""
        places = self._places()
        expected = (places + self.counts) / (places.sum() + self.counts.sum())
        bin_number = int(np.searchsorted(self._ends(), self._rank(p_value)))
        factors = [
            1 - share + (share * chosen[bin_number] / mass if (mass := float(expected[chosen].sum())) > 0 else share)
            for chosen in _kinds()
            for share in SHARES
        ]
        self.counts[bin_number] += 1
        self.wealth.bet(np.array(factors))

    @property
    def value(self) -> float:
        """Of a stake of 1."""
        return self.wealth.value

    @property
    def direction(self) -> str:
        """Where the greatest part of the wealth comes from."""
        best = int(np.argmax(self.wealth.log_stakes)) // len(SHARES)
        return "unfamiliar" if best < len(LOW) else "narrow"

    def _rank(self, p_value: float) -> int:
        """From 1 to n + 1: the place of the prompt's distance among those of the calibration prompts."""
        return min(max(round(p_value * (self.calibration + 1)), 1), self.calibration + 1)

    def _ends(self) -> Float[np.ndarray, " bins"]:
        return np.floor(np.array(EDGES) * (self.calibration + 1) + 1e-9)

    def _places(self) -> Float[np.ndarray, " bins"]:
        return np.diff(self._ends(), prepend=0.0)


def _kinds() -> list[np.ndarray]:
    """The bins in which prompts of a new kind are bet to lie."""
    edges = np.array(EDGES)
    return [edges <= end for end in LOW] + [edges > end for end in HIGH]


@dataclass(frozen=True)
class Alarm:
    """A change that is certain but for an error probability of alpha."""

    name: str
    """The model's, or `prompts`."""
    direction: str
    """`worse` or `better` than estimated; `unfamiliar` prompts, or `narrow`: all like few of training."""
    value: float
    """The wealth: at least 1 / alpha times the number of tests."""
    seen: int
    """Outcomes until then, the one of the alarm among them."""

    def __str__(self) -> str:
        if self.name == PROMPTS:
            what = {
                "unfamiliar": "more prompts than usual are unlike the training prompts",
                "narrow": "prompts are all like few of the training prompts",
            }[self.direction]
            return (
                f"{what} (noticed after {self.seen:,}): grade 10 to 100 answers of every model to recent prompts and adapt the "
                "estimates with `jaxroute extend --shift`, or train again with them"
            )
        return (
            f"{self.name} answers {self.direction} than estimated (noticed after {self.seen:,} rated answers): draw questions "
            "with `jaxroute probes`, ask it again and give its outcomes to `jaxroute extend`"
        )


class DriftWatch:
    """All tests of one estimator: every model's, and the prompts' where the estimator has p-values."""

    def __init__(
        self, models: Sequence[str], calibration: int | None = None, *, alpha: float = ALPHA, tolerance: float = TOLERANCE
    ) -> None:
        if not 0 < alpha < 1:
            raise OutputError(f"alpha={alpha} must be above 0 and below 1, the chance of any false alarm")
        if not 0 <= tolerance < 1:
            raise OutputError(f"tolerance={tolerance} must be from 0 to below 1")
        self.alpha, self.tolerance = alpha, tolerance
        self.models = {model: ModelWatch(tolerance) for model in models}
        self.prompts = None if not calibration else PromptWatch(calibration)
        self.alarms: dict[str, Alarm] = {}
        """The first of each name; one stays until the estimator is another."""

    @property
    def threshold(self) -> float:
        """The wealth that raises an alarm."""
        return (len(self.models) + (self.prompts is not None)) / self.alpha

    def outcome(self, model: str, quality: float, estimate: float) -> Alarm | None:
        """An answer was rated; returns an alarm that this raises. Models that are not watched are passed over."""
        watch = self.models.get(model)
        if watch is None or not (math.isfinite(quality) and math.isfinite(estimate)):
            return None
        watch.see(quality, estimate)
        return self._raised(model, watch, watch.worse.seen)

    def prompt(self, p_value: float) -> Alarm | None:
        """A prompt has come; returns an alarm that this raises."""
        if self.prompts is None:
            return None
        self.prompts.see(p_value)
        return self._raised(PROMPTS, self.prompts, self.prompts.wealth.seen)

    def as_json(self) -> dict[str, Any]:
        """All that `restored` needs."""
        return {
            "models": {name: [_written(one.worse), _written(one.better)] for name, one in self.models.items()},
            "prompts": None
            if self.prompts is None
            else {"counts": self.prompts.counts.tolist(), "wealth": _written(self.prompts.wealth)},
            "alarms": {name: [one.direction, one.value, one.seen] for name, one in self.alarms.items()},
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """What `as_json` wrote of a watch of the same models. Raises `ValueError` where it is not that."""
        try:
            for name, (worse, better) in content["models"].items():
                if name in self.models:
                    self.models[name].worse = _read(worse, len(STAKES))
                    self.models[name].better = _read(better, len(STAKES))
            if self.prompts is not None and (stored := content["prompts"]) is not None:
                counts = np.array(stored["counts"], np.float64)
                if counts.shape != (len(EDGES),) or not (counts >= 0).all():
                    raise ValueError("counts")
                self.prompts.counts, self.prompts.wealth = counts, _read(stored["wealth"], self.prompts.wealth.bets)
            self.alarms = {name: Alarm(name, str(a), float(b), int(c)) for name, (a, b, c) in content["alarms"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"it holds no state of alarms ({error!r})") from error

    def _raised(self, name: str, watch: ModelWatch | PromptWatch, seen: int) -> Alarm | None:
        if name in self.alarms or watch.value < self.threshold:
            return None
        self.alarms[name] = Alarm(name, watch.direction, watch.value, seen)
        return self.alarms[name]


def _written(wealth: Wealth) -> list[Any]:
    # JSON knows no infinity: a bet that is lost for ever, or has not begun, is null.
    return [wealth.seen, [None if value == -np.inf else float(value) for value in wealth.log_stakes]]


def _read(stored: Any, bets: int) -> Wealth:
    seen, stakes = stored
    values = np.array([-np.inf if value is None else float(value) for value in stakes])
    if len(values) != bets or seen < 0 or not (values <= MOST_LOG).all():
        raise ValueError("stakes")
    return Wealth(bets, int(seen), values)
