"""What a router would have saved on these queries: against always the best model, and against the best fixed mix of models.

The router is taken where it reaches the quality of the best model of the training rows at the least cost. That point of its
curve is found on one half of the test queries and judged on the other half, and the other way round, so that no outcome chooses
the point that it is judged at. What the router itself costs is added to what its answers cost.

A fixed mix, the zero router, reads no prompt; what it costs to reach the router's quality is what the router saves. A router
helps where that saving's interval lies above 0 and shuffled choices hardly ever do as well, with p < 0.05 divided by the number
of routers that were tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxroute.contest.judging import Judged
from jaxroute.contest.rows import Contest
from jaxroute.evaluation import SHUFFLES, Curve, Interval, curve_of, shuffled_means
from jaxroute.evaluation.bootstrap import interval_of
from jaxroute.evaluation.verdicts import SIGNIFICANT

NO_ROUTERS = ("best_single", "zero_router", "random", "oracle")
"""What is compared with, and is not on offer."""
POWER = 0.8
DETECTED = (1.959964 + 0.841621) ** 2
"""(z of a two-sided error of 5 percent + z of POWER) squared: n = DETECTED (standard deviation / difference)^2."""

ROUNDING = 1e-12
"""Dollars that are none."""


@dataclass(frozen=True)
class RouterPrice:
    """What a router itself costs."""

    router_usd: float = 0.0
    """Dollars per prompt, whatever it reads."""
    router_usd_per_hour: float = 0.0
    """Dollars per hour of the machine that it runs on, for the seconds that its estimates took here."""


@dataclass(frozen=True)
class Saving:
    """One router at the quality of the best model; dollars are per query, and net of what the router costs."""

    router: str
    cost_usd: float
    """The router's, with its own costs."""
    own_usd: float
    """Of these, what the router itself costs."""
    quality: float
    best_model: str
    """That was best on the training rows."""
    best_cost_usd: float
    over_best: Interval
    """Dollars saved against always asking it."""
    quality_over_best: Interval
    over_mix: Interval
    """Dollars saved against the cheapest mix that is as good."""
    quality_over_mix: Interval
    """Quality over the mix of the same cost."""
    p_value: float
    """How often shuffled choices are as far above the mix."""
    estimate_seconds: float | None
    """Per prompt; None where it was not measured."""
    always: str | None
    """The model that it asks for all of these queries; None where it asks several."""
    waits_seconds: float | None
    """What the chosen models take per answer less what the best one takes, where the table has latencies."""


@dataclass(frozen=True)
class Savings:
    """Every router that could be deployed, and whether any of them helps."""

    found: list[Saving]
    queries: int

    def helps(self, one: Saving) -> bool:
        """Whether it saves something that luck does not, given how many were tried."""
        return one.over_mix.low > 0 and one.p_value < SIGNIFICANT / len(self.found)

    @property
    def best(self) -> Saving:
        """The one that saves the most against the mix, of those that help where any does."""
        helping = [one for one in self.found if self.helps(one)] or self.found
        return max(helping, key=lambda one: one.over_mix.value)

    def further_outcomes(self) -> tuple[float, int] | None:
        """A gain in quality over the mix, and how many further test queries would show it in POWER of all cases.

        The gain is the one that was seen; where that is not above 0, the largest that the interval leaves open. None where that
        is not above 0 either.
        """
        closest = max(self.found, key=lambda one: one.quality_over_mix.value)
        over = closest.quality_over_mix
        gain = over.value if over.value > 0 else over.high
        if gain <= 1e-9:
            return None
        error = (over.high - over.low) / (2 * 1.959964)
        return gain, max(0, math.ceil(self.queries * (DETECTED * (error / gain) ** 2 - 1)))


def savings(contest: Contest, judged: Sequence[Judged], price: RouterPrice, *, shuffles: int = SHUFFLES) -> Savings | None:
    """Of every router with estimates; None where all models cost the same, or none was judged."""
    offered = [one for one in judged if one.entry.estimated is not None and one.name.split(":")[0] not in NO_ROUTERS]
    if contest.same_cost or not offered:
        return None
    return Savings([_saving(contest, one, price, shuffles) for one in offered], len(contest.test))


def in_words(contest: Contest, found: Savings) -> str:
    """The answer for whoever pays, in a few lines."""
    one, scale = found.best, contest.scale
    lines = ["\nwould a router save money on these queries?"]
    if not any(found.helps(each) for each in found.found):
        tried = f"of {len(found.found)} routers none is" if len(found.found) > 1 else "the one that was tried is not"
        lines.append(f"no router helps here: {tried} shown to be better than a fixed mix of models; the best, {one.router}:")
    else:
        lines.append(f"yes, {one.router} does:")
    own = f", {_usd(one.own_usd * scale)} of them its own" if one.own_usd else ""
    lines += [
        f"  {100 * one.quality:.1f} points for {_usd(one.cost_usd * scale)} {contest.unit}{own}; always {one.best_model} "
        f"{100 * (one.quality - one.quality_over_best.value):.1f} for {_usd(one.best_cost_usd * scale)}",
        f"  against always {one.best_model}: {_saves(one.over_best, scale)}, "
        f"{abs(one.over_best.value) / one.best_cost_usd if one.best_cost_usd else 0:.0%}; quality "
        f"{one.quality_over_best.in_points}",
        f"  against the cheapest mix as good as it: {_saves(one.over_mix, scale)}; quality at the same cost "
        f"{one.quality_over_mix.in_points}, p {one.p_value:.3f}",
    ]
    if one.estimate_seconds is not None:
        waits = ""
        if one.waits_seconds is not None:
            total = one.waits_seconds + one.estimate_seconds
            waits = f"; with its answers {abs(total):.2g} s {'slower' if total > 0 else 'faster'} than always {one.best_model}"
        lines.append(f"  the router takes {1000 * one.estimate_seconds:.3g} ms per prompt here, many at a time{waits}")
    if not any(found.helps(each) for each in found.found):
        needed = found.further_outcomes()
        if needed is None and one.always is not None:
            lines.append(
                f"  it asks {one.always} for every query here, as a fixed choice would: further test queries would not change "
                "that, more outcomes to learn from might"
            )
        elif needed is None:
            lines.append("  its interval leaves no gain open: more outcomes would not change that")
        else:
            gain, further = needed
            lines.append(
                f"  if its true gain over a mix were {100 * gain:.2f} points, about {further:,} further test queries would "
                f"show it in {POWER:.0%} of all cases"
            )
    return "\n".join(lines)


def numbers(found: Savings) -> dict[str, float | str]:
    """Everything by name, for result.json; dollars are per query."""
    result: dict[str, float | str] = {"router_helps": "yes" if any(map(found.helps, found.found)) else "no"}
    for one in found.found:
        result |= {f"{one.router} saving_{name}": getattr(one, name) for name in ("cost_usd", "own_usd", "quality", "p_value")}
        for name in ("over_best", "quality_over_best", "over_mix", "quality_over_mix"):
            interval: Interval = getattr(one, name)
            result |= {f"{one.router} saving_{name}{end}": value for end, value in _ends(interval)}
    if result["router_helps"] == "no" and (needed := found.further_outcomes()) is not None:
        result |= {"further_queries": needed[1], "further_queries_for_gain": needed[0]}
    return result


def _saving(contest: Contest, judged: Judged, price: RouterPrice, shuffles: int) -> Saving:
    test, weights, curve = contest.test, contest.weights, judged.entry.curve
    best = int(np.nanmean(contest.train.quality, axis=0).argmax())
    choice = _reaching(contest, curve, best)
    point = curve_of(test, choice[None])
    seconds = None if judged.entry.estimate_seconds is None else judged.entry.estimate_seconds / len(test)
    own = price.router_usd + price.router_usd_per_hour / 3600 * (seconds or 0.0)
    quality, cost = point.quality[0], point.cost_usd[0] + own
    best_quality, best_cost = test.quality[:, best], test.cost_usd[:, best]
    mix_cost, mix_quality = contest.zero_router.means()
    shuffled_cost, shuffled_quality = shuffled_means(
        test, point, shuffles=shuffles, seed=contest.seed, questions=contest.questions
    )
    null = shuffled_quality[:, 0] - _mix_quality(mix_cost, mix_quality, shuffled_cost[:, 0] + own)
    gain = float(quality.mean() - _mix_quality(mix_cost, mix_quality, cost.mean()))
    drawn_cost, drawn_quality = contest.zero_router.means(weights)
    pairs = list(zip(drawn_cost, drawn_quality, weights @ quality, weights @ cost, strict=True))
    gains = np.array([q - _mix_quality(mc, mq, c) for mc, mq, q, c in pairs])
    saved = np.array([_mix_cost(mc, mq, q) - c for mc, mq, q, c in pairs])
    waits = None
    if test.latency_seconds is not None and not np.isnan(test.latency_seconds).any():
        taken = np.take_along_axis(test.latency_seconds, choice[:, None].astype(np.int64), axis=1)[:, 0]
        waits = float((taken - test.latency_seconds[:, best]).mean())
    return Saving(
        router=judged.name,
        cost_usd=float(cost.mean()),
        own_usd=own,
        quality=float(quality.mean()),
        best_model=test.models[best],
        best_cost_usd=float(best_cost.mean()),
        over_best=interval_of(float((best_cost - cost).mean()), weights @ (best_cost - cost)),
        quality_over_best=interval_of(float((quality - best_quality).mean()), weights @ (quality - best_quality)),
        over_mix=interval_of(float(_mix_cost(mix_cost, mix_quality, quality.mean()) - cost.mean()), saved),
        quality_over_mix=interval_of(gain, gains),
        p_value=float((1 + np.sum(null >= gain - 1e-12)) / (1 + len(null))),
        estimate_seconds=seconds,
        always=test.models[choice[0]] if (choice == choice[0]).all() else None,
        waits_seconds=waits,
    )


def _reaching(contest: Contest, curve: Curve, best: int) -> Int[np.ndarray, " queries"]:
    """Each half of the queries at the cheapest point of the curve that is as good as the best model on the other half."""
    assert curve.choice is not None
    number = np.random.default_rng(contest.seed).permutation(int(contest.questions.max()) + 1)
    first = number[contest.questions] % 2 == 0
    choice = np.empty(len(first), np.int32)
    for half, other in ((first, ~first), (~first, first)):
        if not half.any() or not other.any():
            half, other = first | ~first, first | ~first
        cost, quality = curve.select(other).means()
        reached = quality >= contest.test.quality[other, best].mean() - 1e-12
        point = int(np.where(reached, cost, np.inf).argmin()) if reached.any() else int(quality.argmax())
        choice[half] = curve.choice[point, half]
    return choice


def _mix_quality(cost: Float[np.ndarray, " corners"], quality: Float[np.ndarray, " corners"], at: Any) -> Any:
    """Of the mix of that mean cost; less than the cheapest model costs buys answers for a part of the queries only."""
    order = np.argsort(cost, kind="stable")
    return np.interp(at, np.append(0.0, cost[order]), np.append(0.0, quality[order]))


def _mix_cost(cost: Float[np.ndarray, " corners"], quality: Float[np.ndarray, " corners"], at: float) -> float:
    """Of the cheapest mix of that quality; where no mix is as good, of the most expensive model."""
    order = np.argsort(cost, kind="stable")
    costs, rising = np.append(0.0, cost[order]), np.maximum.accumulate(np.append(0.0, quality[order]))
    if at > rising[-1]:
        return float(costs[-1])
    place = int(np.searchsorted(rising, at))
    if place == 0:
        return 0.0
    height = rising[place] - rising[place - 1]
    return float(costs[place - 1] + (at - rising[place - 1]) / height * (costs[place] - costs[place - 1]))


def _ends(interval: Interval) -> list[tuple[str, float]]:
    return [("", interval.value), ("_low", interval.low), ("_high", interval.high)]


def _usd(dollars: float) -> str:
    return f"{dollars if abs(dollars) > ROUNDING else 0.0:.4g}"


def _saves(interval: Interval, scale: float) -> str:
    """`saves 2 (1 to 3)`; `costs 2 (1 to 3) more` where that is negative."""
    low, value, high = (one * scale for one in (interval.low, interval.value, interval.high))
    if value < -ROUNDING:
        return f"costs {_usd(-value)} ({_usd(-high)} to {_usd(-low)}) more"
    return f"saves {_usd(value)} ({_usd(low)} to {_usd(high)})"
