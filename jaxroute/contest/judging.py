"""One router in a contest: its assignments over growing budgets, and every measure of them with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.contest.rows import Contest
from jaxroute.evaluation import (
    Account,
    Curve,
    Interval,
    LeaderboardGains,
    Reliability,
    account,
    aiq,
    aiqs,
    apgr_measure,
    brier,
    cost_quality_curve,
    cpt,
    curve_of,
    deployable_curve,
    domain_gains,
    hull_quality,
    hulls,
    least_cost,
    llmrouterbench_gains,
    log_loss,
    outcome,
    overrun,
    paired_interval,
    reliability,
    routerarena_score,
    shuffled_gains,
)
from solvers import Assignment, Problem

Solver = Callable[[Problem], Assignment]


@dataclass(frozen=True, eq=False)
class Entry:
    """A router as it enters: what it would assign, before anything is measured."""

    name: str
    caption: str
    curve: Curve
    """Over the budgets from the cheapest to the dearest assignment, judged on the test rows."""
    note: str = ""
    encoder: str = ""
    """What it reads prompts with; empty where nothing."""
    estimates: Float[np.ndarray, "queries models"] | None = None
    """Of the test rows; None where a router has no estimates but hindsight."""
    solver: Solver | None = None
    fit_seconds: float | None = None
    estimate_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """A router with its measures; what it has no estimates, or the table no columns, for is None."""

    entry: Entry
    aiq: float
    areas: Float[np.ndarray, " resamples"]
    """AIQ in every resample."""
    gain: Interval
    """AIQ over the zero router's."""
    gain_at: Interval
    """Quality over the zero router's at the contest's `cost_at`, both on their hulls."""
    quality_at: float
    cost_of_best: float
    """Least mean dollars at which the hull reaches the quality of the best single model; infinite where it never does."""
    shuffled: tuple[float, float] | None = None
    """AIQ over the zero router's where the choices belong to other queries: mean and 95th percentile."""
    deployed: Interval | None = None
    """AIQ over the zero router's where the price is fixed on one half of the queries and every query of the other half is
    routed on its own, and the other way round."""
    overrun: Interval | None = None
    """Realised cost over the budget less 1, at `cost_at`."""
    account: Account | None = None
    """Who answers at `cost_at`, at which cost."""
    choice_at: Assignment | None = None
    arena: float | None = None
    """RouterArena's score at `cost_at`."""
    leaderboard: LeaderboardGains | None = None
    """LLMRouterBench's gains at `cost_at`."""
    log_loss: float | None = None
    brier: float | None = None
    reliability: Reliability | None = None
    apgr: Interval | None = None
    """RouteLLM's, where there are two models."""
    cpt: tuple[float, float] | None = None
    """Least share of strong calls that recovers half, and four fifths, of the gap."""

    @property
    def name(self) -> str:
        return self.entry.name


def enter(
    contest: Contest,
    name: str,
    caption: str,
    estimates: Float[np.ndarray, "queries models"],
    solver: Solver,
    *,
    budgets: int,
    note: str = "",
    encoder: str = "",
    fit_seconds: float | None = None,
    estimate_seconds: float | None = None,
) -> Entry:
    """A router that gives estimates; expected costs are the training rows' means."""
    curve = cost_quality_curve(
        contest.test, estimates, points=budgets, expected_cost_usd=contest.expected_cost_usd, solver=solver, progress=name
    )
    return Entry(name, caption, curve, note, encoder, estimates, solver, fit_seconds, estimate_seconds)


def judge(contest: Contest, entry: Entry, *, shuffles: int) -> Judged:
    """Every measure that the entry and the table allow."""
    low, high = contest.costs
    cost, quality = entry.curve.means()
    zero = contest.zero_router.means()
    area = aiq(cost, quality, low, high)
    areas = aiqs(*entry.curve.means(contest.weights), low, high)
    gain = difference(area - aiq(*zero, low, high), areas - contest.zero_areas)
    at = contest.cost_at
    quality_at = float(hull_quality(cost, quality, at))
    gains_at = heights(contest, entry.curve, at) - heights(contest, contest.zero_router, at)
    gain_at = difference(quality_at - float(hull_quality(*zero, at)), gains_at)
    found = Judged(entry, area, areas, gain, gain_at, quality_at, least_cost(cost, quality, float(zero[1].max())))
    if entry.estimates is None or entry.solver is None:
        return found
    return Judged(**{**vars(found), **_of_estimates(contest, entry, entry.estimates, entry.solver, shuffles)})


def difference(value: float, resampled: Float[np.ndarray, " resamples"]) -> Interval:
    """A number of all queries with the interval of its resamples."""
    return paired_interval(lambda weights: value if weights is None else resampled, np.empty((0, 0)))


def heights(contest: Contest, curve: Curve, at: Float[np.ndarray, " costs"] | float) -> Float[np.ndarray, "resamples *costs"]:
    """The hull, extended to the null router, at some mean costs in every resample."""
    cost, quality = curve.means(contest.weights)
    null = np.zeros((len(cost), 1))
    x, y = hulls(np.append(cost, null, axis=1), np.append(quality, null, axis=1))
    return np.array([np.interp(at, *corners) for corners in zip(x, y, strict=True)])


def _of_estimates(
    contest: Contest, entry: Entry, estimates: Float[np.ndarray, "queries models"], solver: Solver, shuffles: int
) -> Mapping[str, object]:
    test, (low, high) = contest.test, contest.costs
    null = shuffled_gains(test, entry.curve, low=low, high=high, shuffles=shuffles, seed=contest.seed)
    deployed = _deployed(contest, entry, estimates)
    areas = aiqs(*deployed.means(contest.weights), low, high)
    zero = aiq(*contest.zero_router.means(), low, high)
    cost = np.broadcast_to(contest.expected_cost_usd, estimates.shape)
    # The test rows' means can lie a little outside of what the training rows' allow.
    budget = float(np.clip(contest.cost_at * len(test), cost.min(axis=1).sum(), cost.max(axis=1).sum()))
    assigned = solver(Problem(estimates, cost, budget))
    real = outcome(test, assigned)
    measures: dict[str, object] = {
        "shuffled": (float(null.mean()), float(np.quantile(null, 0.95))),
        "deployed": difference(aiq(*deployed.means(), low, high) - zero, areas - contest.zero_areas),
        "overrun": paired_interval(overrun(real.cost_usd, budget / len(test)), contest.weights),
        "account": account(test, assigned),
        "choice_at": assigned,
        "leaderboard": llmrouterbench_gains(test, real),
    }
    if real.mean_cost_usd > 0:
        measures["arena"] = routerarena_score(real.mean_quality, 1000 * real.mean_cost_usd)
    if estimates.min() >= 0 and estimates.max() <= 1:
        measures["log_loss"] = log_loss(test.quality, estimates)
        measures["brier"] = brier(test.quality, estimates)
        measures["reliability"] = reliability(test.quality, estimates)
    if len(test.models) == 2:
        measures |= _of_pair(contest, estimates)
    return measures


def _deployed(contest: Contest, entry: Entry, estimates: Float[np.ndarray, "queries models"]) -> Curve:
    """Each half of the queries at the prices that meet the budgets on the other half."""
    assert entry.curve.budgets_usd is not None
    first = _halves(len(estimates), contest.seed)
    choice = np.empty((len(entry.curve.budgets_usd), len(estimates)), np.int32)
    for half in (first, ~first):
        found = deployable_curve(
            contest.test.select(half),
            estimates[half],
            estimates[~half],
            entry.curve.budgets_usd,
            expected_cost_usd=contest.expected_cost_usd,
        )
        assert found.choice is not None
        choice[:, half] = found.choice
    return curve_of(contest.test, choice)


def _halves(queries: int, seed: int) -> Bool[np.ndarray, " queries"]:
    return np.random.default_rng(seed).permutation(queries) % 2 == 0


def _of_pair(contest: Contest, estimates: Float[np.ndarray, "queries 2"]) -> Mapping[str, object]:
    mean = contest.test.quality.mean(axis=0)
    weak, strong = (0, 1) if mean[1] >= mean[0] else (1, 0)
    if mean[weak] == mean[strong]:
        return {}
    quality = contest.test.quality
    measure = partial(apgr_measure, quality[:, weak], quality[:, strong])
    score = estimates[:, strong] - estimates[:, weak]
    return {
        "apgr": paired_interval(measure(score), contest.weights),
        "cpt": tuple(cpt(quality[:, weak], quality[:, strong], score, share) for share in (0.5, 0.8)),
    }


def gains_by_domain(contest: Contest, choice: Assignment) -> dict[str, Interval]:
    """Quality over the zero router's at the cost that the assignment really has, by the contest's groups of domains."""
    real = outcome(contest.test, choice)
    return domain_gains(real.quality, contest.zero_quality(real.mean_cost_usd), contest.groups, contest.weights)
