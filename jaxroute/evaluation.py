"""What an assignment really achieved, and how whole cost-quality curves compare.

Curves and their areas follow RouterBench (Hu et al. 2024, arXiv:2403.12031), section 3: interpolation between outcomes,
the non-decreasing convex hull, and AIQ, the hull's mean over a range of costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jaxroute.errors import TableError
from jaxroute.table import RoutingTable
from solvers import Assignment, Problem, lagrangian

BUDGETS = 101


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a way of answering really achieved and cost, query by query; an unanswered query counts 0 and 0."""

    quality: Float[np.ndarray, " queries"]
    cost_usd: Float[np.ndarray, " queries"]

    @property
    def mean_quality(self) -> float:
        return float(self.quality.mean())

    @property
    def mean_cost_usd(self) -> float:
        return float(self.cost_usd.mean())


@dataclass(frozen=True, eq=False)
class Curve:
    """Outcomes of the same queries over growing budgets, `(points, queries)`."""

    quality: Float[np.ndarray, "points queries"]
    cost_usd: Float[np.ndarray, "points queries"]
    budgets_usd: Float[np.ndarray, " points"] | None = None
    """Dollars per query that each point was allowed; None where points are not made by budgets."""

    def means(
        self, weights: Float[np.ndarray, "*resamples queries"] | None = None
    ) -> tuple[Float[np.ndarray, "*resamples points"], Float[np.ndarray, "*resamples points"]]:
        """Mean cost and mean quality of every point, under resampling weights that sum to 1 where given."""
        if weights is None:
            return self.cost_usd.mean(axis=1), self.quality.mean(axis=1)
        return weights @ self.cost_usd.T, weights @ self.quality.T


def outcome(table: RoutingTable, choice: Int[np.ndarray, " queries"] | Assignment) -> Outcome:
    """True quality and true cost of a choice of models (-1 = unanswered).

    Raises `TableError` if a chosen model was never run on its query: evaluate on `table.complete()`.
    """
    chosen = choice.choice if isinstance(choice, Assignment) else np.asarray(choice)
    if chosen.shape != (len(table),):
        raise TableError(f"choice has shape {chosen.shape}, the table {len(table)} queries")
    if chosen.size and not (chosen.min() >= -1 and chosen.max() < len(table.models)):
        raise TableError(
            f"choice lies between {chosen.min()} and {chosen.max()}, the table has models 0 to {len(table.models) - 1}"
        )
    answered = chosen >= 0
    rows = np.arange(len(table))
    quality = np.where(answered, table.quality[rows, chosen], 0.0)
    cost = np.where(answered, table.cost_usd[rows, chosen], 0.0)
    if np.isnan(quality).any():
        raise TableError(f"{np.isnan(quality).sum()} chosen models were never run on their query: drop those queries first")
    return Outcome(quality=quality, cost_usd=cost)


def cost_quality_curve(
    table: RoutingTable,
    estimates: Float[np.ndarray, "queries models"],
    *,
    points: int = BUDGETS,
    expected_cost_usd: Float[np.ndarray, "..."] | None = None,
    solver: Callable[[Problem], Assignment] = lagrangian,
    progress: str | None = None,
) -> Curve:
    """Assignments of the estimates at evenly spaced budgets, with their true quality and cost.

    The budgets run from the cheapest to the dearest assignment of the estimates. What an answer will cost is taken as
    `expected_cost_usd`, `(models,)` or `(queries, models)`; by default as each model's mean cost in the table, which is
    what is known before any model runs. `progress` names a progress bar.
    """
    cost = table.mean_cost_usd() if expected_cost_usd is None else expected_cost_usd
    cost = np.broadcast_to(cost, estimates.shape)
    budgets = np.linspace(cost.min(axis=1).sum(), cost.max(axis=1).sum(), points)
    found = [
        outcome(table, solver(Problem(estimates, cost, budget)))
        for budget in tqdm(budgets, desc=progress, unit=" budgets", delay=1, disable=progress is None)
    ]
    return Curve(
        quality=np.stack([one.quality for one in found]),
        cost_usd=np.stack([one.cost_usd for one in found]),
        budgets_usd=budgets / len(table),
    )


def hull(
    cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, " corners"], Float[np.ndarray, " corners"]]:
    """The non-decreasing concave upper boundary of the points, corners only, by rising cost (Andrew 1979).

    Any point on it can be had by answering a share of the queries as one corner does and the rest as its neighbour. It
    begins at the cheapest point and ends at the best one.
    """
    order = np.lexsort((-quality, cost))
    corners: list[tuple[float, float]] = []
    for x, y in zip(cost[order], quality[order], strict=True):
        if corners and (x == corners[-1][0] or y <= corners[-1][1]):
            continue
        while len(corners) >= 2:
            (x0, y0), (x1, y1) = corners[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            corners.pop()
        corners.append((x, y))
    return tuple(np.array(corners).T)


def hull_quality(
    cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"], at: Float[np.ndarray, "..."] | float
) -> Float[np.ndarray, "..."]:
    """The hull at some costs, extended to the null router (no cost, no quality) on the left and flat to the right."""
    corners = hull(np.append(cost, 0.0), np.append(quality, 0.0))
    return np.asarray(np.interp(at, *corners))


def least_cost(cost: Float[np.ndarray, " points"], quality: Float[np.ndarray, " points"], wanted: float) -> float:
    """The least mean cost at which the hull reaches a quality; infinite where it never does."""
    x, y = hull(np.append(cost, 0.0), np.append(quality, 0.0))
    return float(np.interp(wanted, y, x)) if wanted <= y[-1] else np.inf


def aiq(
    cost: Float[np.ndarray, " points"],
    quality: Float[np.ndarray, " points"],
    low: float,
    high: float,
    *,
    convention: str = "paper",
) -> float:
    """Average improvement in quality: the mean of the hull over a range of mean costs.

    `paper`: over the shared range from `low` to `high`, divided by its width (RouterBench, section 3). `code`: over the
    range from the router's own least cost to `high`, divided by `high`, as RouterBench's published code does.
    """
    if convention not in ("paper", "code"):
        raise ValueError(f"convention={convention!r} must be 'paper' or 'code'")
    if not 0 <= low < high:
        raise ValueError(f"the range of costs from {low} to {high} is empty")
    if convention == "paper":
        start, width, corners = low, high - low, hull(np.append(cost, 0.0), np.append(quality, 0.0))
    else:
        start, width, corners = min(float(np.min(cost)), high), high, hull(cost, quality)
    # The hull is linear between corners, so the trapezoid over them and the ends is exact.
    inner = corners[0][(corners[0] > start) & (corners[0] < high)]
    places = np.concatenate([[start], inner, [high]])
    return float(np.trapezoid(np.interp(places, *corners), places) / width)


def single_models(table: RoutingTable) -> Curve:
    """Every query to one model: one point per model. Its hull is RouterBench's zero router."""
    return Curve(quality=table.quality.T, cost_usd=table.cost_usd.T)


def oracle_estimates(table: RoutingTable) -> Float[np.ndarray, "queries models"]:
    """The true quality as if it were known: assigned within budgets, no router can do better."""
    return table.quality


def prompt_length_estimates(table: RoutingTable, train: RoutingTable) -> Float[np.ndarray, "queries models"]:
    """Longer prompts to better models: each model's mean quality on `train`, spread by the rank of the prompt's length.

    The simplest router that reads a prompt. Estimates are mean + (mean - least mean) * (rank - 1/2): where budgets allow,
    the longest prompts are upgraded first.
    """
    mean = np.nanmean(train.quality, axis=0)
    rank = np.argsort(np.argsort([len(prompt) for prompt in table.prompts], kind="stable")) / len(table)
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)


def random_estimates(table: RoutingTable, train: RoutingTable, *, seed: int) -> Float[np.ndarray, "queries models"]:
    """The same with random numbers in place of the ranks: budgets are met by chance."""
    mean = np.nanmean(train.quality, axis=0)
    rank = np.random.default_rng(seed).permutation(len(table)) / len(table)
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)


def log_loss(quality: Float[np.ndarray, "queries models"], estimates: Float[np.ndarray, "queries models"]) -> float:
    """- q ln p - (1 - q) ln(1 - p) in nats, mean over the observed cells; estimates of 0 or 1 are moved by 1e-7."""
    observed = ~np.isnan(quality)
    p, q = np.clip(estimates, 1e-7, 1 - 1e-7)[observed], quality[observed]
    return float(np.mean(-q * np.log(p) - (1 - q) * np.log1p(-p)))


def apgr(
    weak: Float[np.ndarray, " queries"], strong: Float[np.ndarray, " queries"], score: Float[np.ndarray, " queries"]
) -> float:
    """RouteLLM's average performance gap recovered for one pair of models (arXiv:2406.18665, section 2.2 and its code).

    Queries whose `score` lies at or above a threshold go to the strong model, thresholds at the score's deciles, none above
    the largest. The area
    under quality against the share of strong calls, (area - weak) / (strong - weak), by the trapezoid over the share
    that the thresholds span, from none to all.
    """
    if weak.mean() == strong.mean():
        raise TableError("weak and strong are equally good on these queries: there is no gap to recover")
    thresholds = np.quantile(score, np.linspace(0, 1, 11))
    share, quality = [0.0], [float(weak.mean())]
    for threshold in thresholds[-2::-1]:
        called = score >= threshold
        share.append(float(called.mean()))
        quality.append(float(np.where(called, strong, weak).mean()))
    area = np.trapezoid(quality, share) / (share[-1] - share[0])
    return float((area - weak.mean()) / (strong.mean() - weak.mean()))


@dataclass(frozen=True)
class Interval:
    """A difference and its two-sided bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+z.1f} ({100 * self.low:+z.1f} to {100 * self.high:+z.1f})"


def bootstrap_weights(queries: int, *, resamples: int = 1000, seed: int = 0) -> Float[np.ndarray, "resamples queries"]:
    """How often each query is drawn, divided by their number: means of a resample are weighted sums.

    Drawn once and used for everything that is compared, so that differences are paired.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(queries, np.full(queries, 1 / queries), size=resamples) / queries


def paired_interval(
    measure: Callable[[Float[np.ndarray, "*resamples queries"] | None], Float[np.ndarray, "*resamples"] | float],
    weights: Float[np.ndarray, "resamples queries"],
    *,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap (Efron & Tibshirani 1993, section 13.3) of `measure`, which takes weights or None (as is).

    Assignments stay as they were made on the whole batch; what is resampled are the queries they are judged on.
    """
    resampled = np.asarray(measure(weights))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(measure(None)), low=float(low), high=float(high))


def curve_measure(
    measure: Callable[..., float], curves: Sequence[Curve]
) -> Callable[[Float[np.ndarray, "*resamples queries"] | None], Float[np.ndarray, "*resamples"] | float]:
    """`measure(cost, quality, cost, quality, ...)` of several curves' mean points, for `paired_interval`."""

    def of(weights):
        parts = [part for curve in curves for part in curve.means(weights)]
        if weights is None:
            return measure(*parts)
        return np.array([measure(*(part[row] for part in parts)) for row in range(len(weights))])

    return of
