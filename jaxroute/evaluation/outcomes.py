"""What an assignment really achieved: outcomes, and curves of them over growing budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm.auto import tqdm

from jaxroute.data.shrinkage import shrunk_means
from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
from jaxroute.evaluation.hulls import hull
from solvers import Assignment, Frontier, Problem, frontier, lagrangian

BUDGETS = 201
"""Points of a curve."""


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
    choice: Int[np.ndarray, "points queries"] | None = None
    """The model that answers (-1 = unanswered); None where one query may take several, as in a cascade."""

    def means(
        self, weights: Float[np.ndarray, "*resamples queries"] | None = None
    ) -> tuple[Float[np.ndarray, "*resamples points"], Float[np.ndarray, "*resamples points"]]:
        """Mean cost and mean quality of every point, under resampling weights that sum to 1 where given."""
        if weights is None:
            return self.cost_usd.mean(axis=1), self.quality.mean(axis=1)
        return weights @ self.cost_usd.T, weights @ self.quality.T

    def select(self, queries: Int[np.ndarray, " chosen"] | Bool[np.ndarray, " queries"]) -> Curve:
        """The same points, judged on some of the queries: say those of one task."""
        choice = None if self.choice is None else self.choice[:, queries]
        return replace(self, quality=self.quality[:, queries], cost_usd=self.cost_usd[:, queries], choice=choice)


def outcome(table: RoutingTable, choice: Int[np.ndarray, " queries"] | Assignment) -> Outcome:
    """True quality and true cost of a choice of models (-1 = unanswered).

    Raises `TableError` if a chosen model was never run on its query: evaluate on `table.complete()`.
    """
    chosen = checked_choice(table, choice)
    answered = chosen >= 0
    rows = np.arange(len(table))
    quality = np.where(answered, table.quality[rows, chosen], 0.0)
    cost = np.where(answered, table.cost_usd[rows, chosen], 0.0)
    if np.isnan(quality).any():
        raise TableError(f"{np.isnan(quality).sum()} chosen models were never run on their query: drop those queries first")
    return Outcome(quality=quality, cost_usd=cost)


def checked_choice(table: RoutingTable, choice: Int[np.ndarray, " queries"] | Assignment) -> Int[np.ndarray, " queries"]:
    """One model of the table, or -1, for every query of the table; raises `TableError` otherwise."""
    chosen = choice.choice if isinstance(choice, Assignment) else np.asarray(choice)
    if chosen.shape != (len(table),):
        raise TableError(f"choice has shape {chosen.shape}, the table {len(table)} queries")
    if chosen.size and not (chosen.min() >= -1 and chosen.max() < len(table.models)):
        raise TableError(
            f"choice lies between {chosen.min()} and {chosen.max()}, the table has models 0 to {len(table.models) - 1}"
        )
    return chosen


def cost_quality_curve(
    table: RoutingTable,
    estimates: Float[np.ndarray, "queries models"],
    *,
    points: int = BUDGETS,
    expected_cost_usd: Float[np.ndarray, "..."] | None = None,
    solver: Callable[[Problem], Assignment] = lagrangian,
    progress: str | None = None,
) -> Curve:
    """Assignments of the estimates from the cheapest to the most valuable one, with their true quality and cost.

    What an answer will cost is taken as `expected_cost_usd`, `(models,)` or `(queries, models)`; by default as each model's
    mean cost in the table, which is what is known before any model runs. The budgets are at most `points` of those at which one
    more query changes its model, all of which one pass over the price finds (`solvers.frontier`), as `spread` picks them.
    `progress` names a progress bar.
    """
    cost = table.mean_cost_usd() if expected_cost_usd is None else expected_cost_usd
    mixed = _mixed(len(table))
    problem = Problem(estimates[mixed], np.broadcast_to(cost, estimates.shape)[mixed])
    every = frontier(problem)
    chosen = spread(every.cost_usd, every.value, points)
    budgets = every.cost_usd[chosen]
    choice = np.empty((len(chosen), len(table)), np.int32)
    if solver is lagrangian:
        # Between two breakpoints nothing is left for it to find.
        choice[:, mixed] = _at_points(every, chosen)
    else:
        each = tqdm(budgets, desc=progress, unit=" budgets", delay=1, disable=progress is None)
        choice[:, mixed] = [solver(problem.within(float(budget))).choice for budget in each]
    return curve_of(table, choice, budgets / len(table))


def assign(
    estimates: Float[np.ndarray, "queries models"],
    expected_cost_usd: Float[np.ndarray, "..."],
    budget_usd: float,
    solver: Callable[[Problem], Assignment] = lagrangian,
) -> Assignment:
    """One assignment, made as those of `cost_quality_curve` are; the budget is for all queries together."""
    mixed = _mixed(len(estimates))
    found = solver(Problem(estimates[mixed], np.broadcast_to(expected_cost_usd, estimates.shape)[mixed], budget_usd))
    choice = np.empty_like(found.choice)
    choice[mixed] = found.choice
    return found.changed(choice=choice)


def spread(
    cost_usd: Float[np.ndarray, " breakpoints"], value: Float[np.ndarray, " breakpoints"], points: int
) -> Int[np.ndarray, " points"]:
    """At most `points` positions on a rising concave curve, both ends among them, evenly along cost and value together.

    With cost and value as shares of their ranges, neighbours are 2 / (points - 1) apart in the sum of both, so that the lines
    between them miss less than 1 / (points - 1) of the area, most of which 101 even budgets miss where the curve is steep.
    """
    along = _share(cost_usd) + _share(value)
    wanted = np.linspace(0, along[-1], points)
    return np.unique(np.searchsorted(along, wanted * (1 - 1e-12)))


def _share(rising: Float[np.ndarray, " breakpoints"]) -> Float[np.ndarray, " breakpoints"]:
    width = rising[-1] - rising[0]
    return (rising - rising[0]) / width if width > 0 else np.zeros_like(rising)


def _mixed(queries: int) -> Int[np.ndarray, " queries"]:
    """An order that has nothing to do with the file's: of queries with equal estimates, the first are upgraded first.

    Where a file is sorted by domain, its own order would be knowledge that no router has.
    """
    return np.random.default_rng(0).permutation(queries)


def _at_points(every: Frontier, chosen: Int[np.ndarray, " points"]) -> Int[np.ndarray, "points queries"]:
    """The assignments at some points of a frontier, step by step."""
    choice = np.empty((len(chosen), len(every.problem)), np.int32)
    now, done = every.problem.cheapest.copy(), 0
    for place, point in enumerate(chosen):
        # Where a query takes several steps, the last one stays.
        now[every.query[done:point]] = every.choice[done:point]
        choice[place], done = now, point
    return choice


def curve_of(
    table: RoutingTable,
    choices: list[Assignment] | Int[np.ndarray, "points queries"],
    budgets_usd: Float[np.ndarray, " points"] | None = None,
) -> Curve:
    """The outcomes of several choices of models as one curve; budgets are dollars per query."""
    chosen = np.stack([checked_choice(table, one) for one in choices])
    found = [outcome(table, one) for one in chosen]
    return Curve(
        quality=np.stack([one.quality for one in found]),
        cost_usd=np.stack([one.cost_usd for one in found]),
        budgets_usd=budgets_usd,
        choice=chosen,
    )


def single_models(table: RoutingTable, columns: Sequence[int] | None = None) -> Curve:
    """Every query to one model: one point per model. Its hull on the test rows is RouterBench's zero router, in hindsight."""
    chosen = np.arange(len(table.models)) if columns is None else np.asarray(columns, int)
    choice = np.tile(chosen.astype(np.int32)[:, None], (1, len(table)))
    return Curve(quality=table.quality.T[chosen], cost_usd=table.cost_usd.T[chosen], choice=choice)


def zero_router(train: RoutingTable, test: RoutingTable) -> Curve:
    """What reads no prompt: a share of the queries to one model, the rest to another (RouterBench, section 3).

    The models are the corners of the training rows' hull, judged on the test rows. Corners that were chosen on the test rows
    would be those that luck favoured there, an opponent that nobody can deploy: where models are equally good it beats a router
    that knows nothing by 1 to 4 points (300 and 100 rows).
    """
    cost, quality = train.mean_cost_usd(), shrunk_means(train.quality)
    corners = zip(*hull(cost, quality), strict=True)
    return single_models(test, [int(np.flatnonzero((cost == x) & (quality == y))[0]) for x, y in corners])
