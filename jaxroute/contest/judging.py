"""One router in a contest: its assignments over growing budgets, and every measure of them with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.contest.rows import Contest
from jaxroute.evaluation import (
    SHUFFLES,
    Account,
    Curve,
    Gain,
    Interval,
    LeaderboardGains,
    Reliability,
    account,
    aiq,
    aiq_gain,
    aiqs,
    apgr_measure,
    assign,
    brier,
    cost_quality_curve,
    cpt,
    curve_of,
    deployable_curve,
    domain_gains,
    gain_of,
    least_cost,
    llmrouterbench_gains,
    log_loss,
    outcome,
    overrun,
    paired_interval,
    reliability,
    routerarena_score,
)
from solvers import Assignment, Problem

Solver = Callable[[Problem], Assignment]


@dataclass(frozen=True, eq=False)
class Estimated:
    """What a router expects of the test rows, and what makes assignments of it."""

    quality: Float[np.ndarray, "queries models"]
    """Larger is better, in whatever unit the router has."""
    expected_cost_usd: Float[np.ndarray, "queries models"]
    """Dollars per answer."""
    solver: Solver


@dataclass(frozen=True, eq=False)
class Entry:
    """A router as it enters: what it would assign, before anything is measured."""

    name: str
    caption: str
    curve: Curve
    """Over the budgets from the cheapest to the most valuable assignment, judged on the test rows."""
    note: str = ""
    encoder: str = ""
    """What it reads prompts with; empty where nothing."""
    estimated: Estimated | None = None
    """None where a router has no estimates but hindsight."""
    fit_seconds: float | None = None
    estimate_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class HullArea:
    """RouterBench's AIQ, for comparison with the papers: a hull over points of the test rows, biased upwards."""

    aiq: float
    gain: Interval
    """Over the hull of the single models, RouterBench's zero router."""
    shuffled: tuple[float, float] | None
    """The gain where the choices belong to other queries: mean and 95th percentile."""
    cost_of_best: float
    """Least mean dollars at which the hull reaches the quality of the best single model; infinite where it never does."""


@dataclass(frozen=True, eq=False)
class AtBudget:
    """One assignment, at the contest's `cost_at`."""

    choice: Assignment
    account: Account
    """Who answers, at which cost."""
    overrun: Interval
    """Realised cost over the budget less 1."""
    leaderboard: LeaderboardGains
    """LLMRouterBench's."""
    arena: float | None
    """RouterArena's score; None where nothing was spent."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Of estimates that lie in [0, 1]."""

    log_loss: float
    brier: float
    reliability: Reliability


@dataclass(frozen=True, eq=False)
class Pair:
    """RouteLLM's measures, where there are two models and the one that was better in training is the better one."""

    apgr: Interval
    cpt: tuple[float, float]
    """Least share of strong calls that recovers half, and four fifths, of the gap."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A router with its measures; what it has no estimates, or the table no columns, for is None."""

    entry: Entry
    area: float
    """Mean height of its curve over the range of costs."""
    gain: Gain
    """The same over the zero router's: the verdict."""
    quality_at: float
    """Height of its curve at `cost_at`."""
    gain_at: Gain
    """The same over the zero router's."""
    hull: HullArea
    deployed: Gain | None
    """As `gain`, where the price is fixed on one half of the queries and every query of the other half is routed on its own,
    and the other way round."""
    at: AtBudget | None
    calibration: Calibration | None
    pair: Pair | None

    @property
    def name(self) -> str:
        return self.entry.name


def enter(
    contest: Contest,
    name: str,
    caption: str,
    quality: Float[np.ndarray, "queries models"],
    solver: Solver,
    *,
    budgets: int,
    expected_cost_usd: Float[np.ndarray, "queries models"] | None = None,
    note: str = "",
    encoder: str = "",
    fit_seconds: float | None = None,
    estimate_seconds: float | None = None,
) -> Entry:
    """A router with its estimates of the test rows; without expected costs, an answer is expected to cost the training mean."""
    known = contest.expected_cost_usd if expected_cost_usd is None else expected_cost_usd
    estimated = Estimated(quality, np.broadcast_to(known, quality.shape), solver)
    curve = cost_quality_curve(
        contest.test, quality, points=budgets, expected_cost_usd=estimated.expected_cost_usd, solver=solver, progress=name
    )
    return Entry(name, caption, curve, note, encoder, estimated, fit_seconds, estimate_seconds)


def judge(contest: Contest, entry: Entry, *, shuffles: int = SHUFFLES) -> Judged:
    """Every measure that the entry and the table allow."""
    curve, zero, weights = entry.curve, contest.zero_router, contest.weights
    shuffled = contest.shuffled(curve, shuffles)
    estimated = entry.estimated
    return Judged(
        entry=entry,
        area=float(contest.areas(*curve.means())),
        gain=gain_of(contest.areas, curve, zero, weights, shuffled),
        quality_at=float(contest.heights(*curve.means())),
        gain_at=gain_of(contest.heights, curve, zero, weights, shuffled),
        hull=_hull_area(contest, curve, shuffled),
        deployed=contest.gain(_deployed(contest, curve, estimated), shuffles) if estimated else None,
        at=_at_budget(contest, estimated) if estimated else None,
        calibration=_calibration(contest, estimated) if estimated else None,
        pair=_pair(contest, estimated) if estimated else None,
    )


def gains_by_domain(contest: Contest, choice: Assignment) -> dict[str, Interval]:
    """Quality over the zero router's at the cost that the assignment really has, by the contest's groups of domains."""
    real = outcome(contest.test, choice)
    return domain_gains(real.quality, contest.zero_quality(real.mean_cost_usd), contest.groups, contest.weights)


def _hull_area(contest: Contest, curve: Curve, shuffled: tuple[np.ndarray, np.ndarray] | None) -> HullArea:
    low, high = contest.costs
    singles = contest.single_models
    cost, quality = curve.means()
    null = None if shuffled is None else aiqs(*shuffled, low, high) - aiq(*singles.means(), low, high)
    return HullArea(
        aiq=aiq(cost, quality, low, high),
        gain=aiq_gain(curve, singles, contest.weights, low=low, high=high),
        shuffled=None if null is None else (float(null.mean()), float(np.quantile(null, 0.95))),
        cost_of_best=least_cost(cost, quality, float(singles.means()[1].max())),
    )


def _at_budget(contest: Contest, estimated: Estimated) -> AtBudget:
    test, cost = contest.test, estimated.expected_cost_usd
    # The test rows' mean costs can lie a little outside of what the router expects.
    budget = float(np.clip(contest.cost_at * len(test), cost.min(axis=1).sum(), cost.max(axis=1).sum()))
    assigned = assign(estimated.quality, cost, budget, estimated.solver)
    real = outcome(test, assigned)
    return AtBudget(
        choice=assigned,
        account=account(test, assigned),
        overrun=paired_interval(overrun(real.cost_usd, budget / len(test)), contest.weights),
        leaderboard=llmrouterbench_gains(test, real),
        arena=routerarena_score(real.mean_quality, 1000 * real.mean_cost_usd) if real.mean_cost_usd > 0 else None,
    )


def _calibration(contest: Contest, estimated: Estimated) -> Calibration | None:
    quality, expected = contest.test.quality, estimated.quality
    if not (expected.min() >= 0 and expected.max() <= 1):
        return None
    return Calibration(log_loss(quality, expected), brier(quality, expected), reliability(quality, expected))


def _pair(contest: Contest, estimated: Estimated) -> Pair | None:
    if len(contest.test.models) != 2:
        return None
    known = np.nanmean(contest.train.quality, axis=0)
    weak, strong = (0, 1) if known[1] >= known[0] else (1, 0)
    weaker, stronger = contest.test.quality[:, weak], contest.test.quality[:, strong]
    if weaker.mean() >= stronger.mean():
        return None
    score = estimated.quality[:, strong] - estimated.quality[:, weak]
    half, most = (cpt(weaker, stronger, score, share) for share in (0.5, 0.8))
    return Pair(paired_interval(apgr_measure(weaker, stronger, score), contest.weights), (half, most))


def _deployed(contest: Contest, curve: Curve, estimated: Estimated) -> Curve:
    """Each half of the queries at the prices that meet the budgets on the other half; no outcome plays a part."""
    assert curve.budgets_usd is not None
    first = _halves(len(estimated.quality), contest.seed)
    choice = np.empty((len(curve.budgets_usd), len(first)), np.int32)
    for half in (first, ~first):
        found = deployable_curve(
            contest.test.select(half),
            estimated.quality[half],
            estimated.quality[~half],
            curve.budgets_usd,
            expected_cost_usd=estimated.expected_cost_usd[half],
            held_out_cost_usd=estimated.expected_cost_usd[~half],
        )
        assert found.choice is not None
        choice[:, half] = found.choice
    return curve_of(contest.test, choice)


def _halves(queries: int, seed: int) -> Bool[np.ndarray, " queries"]:
    return np.random.default_rng(seed).permutation(queries) % 2 == 0
