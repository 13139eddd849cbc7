"""What an assignment really achieved: outcomes, and curves of them over growing budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm.auto import tqdm

from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
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
    """Assignments of the estimates at evenly spaced budgets, with their true quality and cost.

    The budgets run from the cheapest to the dearest assignment of the estimates. What an answer will cost is taken as
    `expected_cost_usd`, `(models,)` or `(queries, models)`; by default as each model's mean cost in the table, which is
    what is known before any model runs. `progress` names a progress bar.
    """
    cost = table.mean_cost_usd() if expected_cost_usd is None else expected_cost_usd
    cost = np.broadcast_to(cost, estimates.shape)
    budgets = np.linspace(cost.min(axis=1).sum(), cost.max(axis=1).sum(), points)
    each = tqdm(budgets, desc=progress, unit=" budgets", delay=1, disable=progress is None)
    return curve_of(table, [solver(Problem(estimates, cost, budget)) for budget in each], budgets / len(table))


def curve_of(
    table: RoutingTable,
    choices: list[Assignment] | Int[np.ndarray, "points queries"],
    budgets_usd: Float[np.ndarray, " points"] | None = None,
) -> Curve:
    """The outcomes of several choices of models as one curve; budgets are dollars per query."""
    found = [outcome(table, one) for one in choices]
    return Curve(
        quality=np.stack([one.quality for one in found]),
        cost_usd=np.stack([one.cost_usd for one in found]),
        budgets_usd=budgets_usd,
        choice=np.stack([checked_choice(table, one) for one in choices]),
    )


def single_models(table: RoutingTable) -> Curve:
    """Every query to one model: one point per model. Its hull is RouterBench's zero router."""
    choice = np.tile(np.arange(len(table.models), dtype=np.int32)[:, None], (1, len(table)))
    return Curve(quality=table.quality.T, cost_usd=table.cost_usd.T, choice=choice)
