"""All budgets at once: the whole curve of value against cost, and what the next dollar buys at every point of it.

For every query the upper hull of its (cost, value) points is walked from the cheapest choice on. Each step of the walk has an
efficiency, value per dollar, that falls along it. Taken in the order of efficiency over all queries, the steps trace the
value of the linear relaxation at every budget (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section 11.2);
the points between steps are assignments, each the best for what it costs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from solvers.assignment import Assignment, proved
from solvers.choices import best_of
from solvers.dual import dual_bound
from solvers.errors import InfeasibleBudget, ProblemError
from solvers.inputs import at_least, floats, no_type_check
from solvers.mixing import shuffled
from solvers.problem import BUDGET_TOLERANCE, Problem


@dataclass(frozen=True, eq=False)
class Frontier:
    """The concave curve from the cheapest assignment to the one of most value: one point per assignment, a step between two."""

    problem: Problem
    """The problem, without its budget or minimum value."""
    cost_usd: Float[np.ndarray, " points"]
    """Dollars that the assignment at every point costs; rising."""
    value: Float[np.ndarray, " points"]
    """Its value."""
    multiplier: Float[np.ndarray, " points"]
    """Value per dollar of the step after every point; falling, 0 after the last."""
    query: Int[np.ndarray, " steps"]
    """The query that changes in every step; there is one point more than there are steps."""
    choice: Int[np.ndarray, " steps"]
    """The choice that the query changes to: step k, from point k to point k + 1, gives `query[k]` the choice `choice[k]`."""

    def __len__(self) -> int:
        """The number of points."""
        return len(self.cost_usd)

    @overload
    def value_at(self, budget_usd: float) -> float: ...
    @overload
    def value_at(self, budget_usd: Float[np.ndarray, " budgets"]) -> Float[np.ndarray, " budgets"]: ...
    @no_type_check
    def value_at(self, budget_usd: float | Float[np.ndarray, " budgets"]) -> float | Float[np.ndarray, " budgets"]:
        """The value of the linear relaxation at a budget in dollars, or at each of an array of budgets.

        No assignment within the budget is worth more, except for rounding. NaN below the cheapest assignment. Raises
        `ProblemError` for what is no number.
        """
        budgets = floats("budget_usd", budget_usd, instead="pass its data")
        found = np.interp(budgets, self.cost_usd, self.value, left=np.nan)
        return float(found) if np.isscalar(budget_usd) else found

    @no_type_check
    def multiplier_at(self, budget_usd: float) -> float:
        """Value that the next dollar buys at a budget in dollars. Raises `InfeasibleBudget` below the cheapest assignment."""
        return float(self.multiplier[self._point(at_least("budget_usd", budget_usd, 0, finite=False))])

    @no_type_check
    def assignment(self, budget_usd: float) -> Assignment:
        """The assignment at the last point within a budget in dollars, with a proved bound for that budget.

        Raises `InfeasibleBudget` below the cheapest assignment, and `ProblemError` for what is no budget.
        """
        started = time.perf_counter()
        point = self._point(at_least("budget_usd", budget_usd, 0))
        problem = self.problem.within(budget_usd)
        choice = self._choice_at(point)
        # Running sums are rounded, so the point can be a few steps too far.
        while point > 0 and not problem.fits(problem.totals(choice)[1]):
            point -= 1
            choice = self._choice_at(point)
        multiplier = float(self.multiplier[point])
        return proved(
            problem,
            choice,
            bound=lambda: dual_bound(problem, multiplier),
            multiplier=multiplier,
            status="optimal" if point == len(self.query) else "feasible",
            seconds=time.perf_counter() - started,
            solver="frontier",
        )

    def _choice_at(self, point: int) -> Int[np.ndarray, " queries"]:
        choice = self.problem.cheapest.copy()
        # Where a query takes several steps, the last one counts.
        choice[self.query[:point]] = self.choice[:point]
        return choice

    def _point(self, budget_usd: float) -> int:
        if not budget_usd * (1 + BUDGET_TOLERANCE) >= self.problem.least_cost:
            raise InfeasibleBudget(budget_usd, self.problem.least_cost)
        point = np.searchsorted(self.cost_usd, budget_usd * (1 + BUDGET_TOLERANCE), side="right") - 1
        return max(int(point), 0)


def frontier(problem: Problem) -> Frontier:
    """The most value at every budget, and what the next dollar buys there; for a chart, or for many budgets at once.

    The budget or minimum value of `problem` plays no part. The points are the breakpoints of the linear relaxation; the best
    assignment at a budget between two of them is worth at most the value of one query more (Kellerer, Pferschy & Pisinger
    2004, "Knapsack Problems", section 11.2).

    Returns a `Frontier`. Raises `ProblemError` for a problem with capacities, under which the steps of one query depend on the
    others.
    """
    if problem.capacity is not None:
        raise ProblemError("frontier knows no capacity: leave it out, or solve for one budget after the other")
    problem = problem.within(None)
    walks = [_walk(problem.cheapest[rows], rows.start, value, cost) for rows, value, cost in problem.chunks()]
    query, choice, slope, value, cost = (np.concatenate(parts) for parts in zip(*walks, strict=True))
    order = _falling(slope, query, len(problem))
    least_value, least_cost = problem.cheapest_value, problem.least_cost
    return Frontier(
        problem=problem,
        cost_usd=np.cumsum(np.append(least_cost, cost[order])),
        value=np.cumsum(np.append(least_value, value[order])),
        multiplier=np.append(slope[order], 0.0),
        query=query[order],
        choice=choice[order],
    )


def _falling(slope: Float[np.ndarray, " steps"], query: Int[np.ndarray, " steps"], queries: int) -> Int[np.ndarray, " steps"]:
    """Steps by falling slope; equal ones in an order of the queries that is drawn, those of one query as it walks."""
    order = np.argsort(-slope, kind="stable")
    ordered = slope[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return order
    drawn = np.argsort(shuffled(queries)[query], kind="stable")
    return drawn[np.argsort(-slope[drawn], kind="stable")]


def _walk(
    at: Int[np.ndarray, " rows"], first: int, value: Float[np.ndarray, "rows choices"], cost: Float[np.ndarray, "#rows choices"]
) -> tuple[np.ndarray, ...]:
    """The steps of every query along its upper hull, from the choice `at`: query, choice, slope, gain and extra cost."""
    rows = np.arange(len(value))
    cost = np.broadcast_to(cost, value.shape)
    limit = np.full(len(value), np.inf)
    steps: list[tuple[np.ndarray, ...]] = []
    while rows.size:
        each = np.arange(len(rows))
        gain, extra = value[rows] - value[rows, at][:, None], cost[rows] - cost[rows, at][:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slope = np.where((gain > 0) & (extra > 0), gain / extra, -np.inf)
        # Of several choices on one edge the farthest: those between are never better.
        to = best_of(slope, extra)
        further = np.flatnonzero(slope[each, to] > 0)
        rows, each, to = rows[further], each[further], to[further]
        # A hull bends one way only; rounding must not turn the steps of a query around.
        limit = np.minimum(limit[further], slope[each, to])
        steps.append((first + rows, to, limit, gain[each, to], extra[each, to]))
        at = to
    return tuple(np.concatenate(parts) for parts in zip(*steps, strict=True))
