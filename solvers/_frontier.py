"""All budgets at once: the whole curve of value against cost, and what the next dollar buys at every point of it.

For every query the upper hull of its (cost, value) points is walked from the cheapest choice on; each step of the walk has an
efficiency, value per dollar, that falls along it. Taken in the order of efficiency over all queries, the steps trace the
value of the linear relaxation at every budget (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section 11.2);
the points between steps are assignments, each the best for what it costs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from solvers.assignment import Assignment, assignment
from solvers.choices import best_of
from solvers.dual import dual_bound
from solvers.problem import BUDGET_TOLERANCE, InfeasibleBudget, Problem, ProblemError


@dataclass(frozen=True, eq=False)
class Frontier:
    """The concave curve from the cheapest assignment to the one of most value."""

    problem: Problem
    cost_usd: Float[np.ndarray, " points"]
    """Rising; what the assignment at every point costs."""
    value: Float[np.ndarray, " points"]
    """What it is worth."""
    multiplier: Float[np.ndarray, " points"]
    """Falling; value per dollar of the step after every point, 0 after the last."""
    query: Int[np.ndarray, " steps"]
    choice: Int[np.ndarray, " steps"]
    """Step k, from point k to point k + 1, gives `query[k]` the choice `choice[k]`."""

    def __len__(self) -> int:
        return len(self.cost_usd)

    @overload
    def value_at(self, budget_usd: float) -> float: ...
    @overload
    def value_at(self, budget_usd: Float[np.ndarray, " budgets"]) -> Float[np.ndarray, " budgets"]: ...
    def value_at(self, budget_usd):
        """Of the linear relaxation: no assignment within the budget is worth more, but for rounding; NaN below the least."""
        found = np.interp(budget_usd, self.cost_usd, self.value, left=np.nan)
        return float(found) if np.isscalar(budget_usd) else found

    def multiplier_at(self, budget_usd: float) -> float:
        """Value that the next dollar buys."""
        return float(self.multiplier[self._point(budget_usd)])

    def assignment(self, budget_usd: float) -> Assignment:
        """The last point within the budget, with a bound for that budget. Raises `InfeasibleBudget`."""
        started = time.perf_counter()
        point = self._point(budget_usd)
        problem = replace(self.problem, budget_usd=budget_usd)
        while True:
            choice = problem.cheapest.copy()
            # Where a query takes several steps, the last one stays.
            choice[self.query[:point]] = self.choice[:point]
            if point == 0 or problem.fits(problem.totals(choice)[1]):
                break
            point -= 1  # running sums are rounded
        multiplier = float(self.multiplier[point])
        return assignment(
            problem,
            choice,
            bound=dual_bound(problem, multiplier),
            price=multiplier,
            status="optimal" if point == len(self.query) else "feasible",
            seconds=time.perf_counter() - started,
            solver="frontier",
        )

    def _point(self, budget_usd: float) -> int:
        if not budget_usd * (1 + BUDGET_TOLERANCE) >= self.problem.least_cost:
            raise InfeasibleBudget(budget_usd, self.problem.least_cost)
        point = np.searchsorted(self.cost_usd, budget_usd * (1 + BUDGET_TOLERANCE), side="right") - 1
        return max(int(point), 0)


def frontier(problem: Problem) -> Frontier:
    """Value and price at every budget of `problem`, whose own budget or minimum value plays no part.

    Raises `ProblemError` for a problem with capacities: with them one query's step is no longer its own.
    """
    if problem.capacity is not None:
        raise ProblemError("frontier knows no capacity: leave it out, or solve for one budget after the other")
    problem = replace(problem, budget_usd=None, minimum_value=None)
    walks = [_walk(problem.cheapest[rows], rows.start, value, cost) for rows, value, cost in problem.chunks()]
    query, choice, slope, value, cost = (np.concatenate(parts) for parts in zip(*walks, strict=True))
    order = np.argsort(-slope, kind="stable")
    least_value, least_cost = problem.totals(problem.cheapest)
    return Frontier(
        problem=problem,
        cost_usd=np.cumsum(np.append(least_cost, cost[order])),
        value=np.cumsum(np.append(least_value, value[order])),
        multiplier=np.append(slope[order], 0.0),
        query=query[order],
        choice=choice[order],
    )


def _walk(
    at: Int[np.ndarray, " rows"], first: int, value: Float[np.ndarray, "rows choices"], cost: Float[np.ndarray, "#rows choices"]
) -> tuple[np.ndarray, ...]:
    """The steps of every query along its upper hull, from the cheapest choice: query, choice, slope, gain and extra cost."""
    rows = np.arange(len(value))
    cost = np.broadcast_to(cost, value.shape)
    limit = np.full(len(value), np.inf)
    steps = []
    while rows.size:
        each = np.arange(len(rows))
        gain, extra = value[rows] - value[rows, at][:, None], cost[rows] - cost[rows, at][:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slope = np.where((gain > 0) & (extra > 0), gain / extra, -np.inf)
        # Of several choices on one edge the farthest: what lies between is never better.
        to = best_of(slope, extra)
        going = np.flatnonzero(slope[each, to] > 0)
        rows, each, to = rows[going], each[going], to[going]
        # A hull bends one way only; rounding must not turn the steps of a query around.
        limit = np.minimum(limit[going], slope[each, to])
        steps.append((first + rows, to, limit, gain[each, to], extra[each, to]))
        at = to
    return tuple(np.concatenate(parts) for parts in zip(*steps, strict=True))
