"""Problem and Assignment: what every solver takes and what every solver returns.

    maximise   sum_j value[j, x_j]    subject to   sum_j cost_usd[j, x_j] <= budget_usd,   x_j in {1..M}

a multiple-choice knapsack problem (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", chapter 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

BUDGET_TOLERANCE = 1e-12
"""A budget holds up to this relative excess, so that ten times 0.1 fits into 1."""
UNANSWERED = -1


class ProblemError(ValueError):
    """Input that is not a problem: misshapen, not finite, negative or empty; the message lists all that is wrong."""


class InfeasibleProblem(ProblemError):
    """No assignment meets the constraints; the message says what would work."""


class InfeasibleBudget(InfeasibleProblem):
    """The budget is below the cheapest assignment; `least_budget_usd` is accepted when passed back."""

    def __init__(self, budget_usd: float, least_budget_usd: float):
        self.budget_usd, self.least_budget_usd = budget_usd, least_budget_usd
        super().__init__(
            f"budget_usd={budget_usd!r} is below the cheapest assignment, which costs {least_budget_usd!r}: "
            f"give at least budget_usd={least_budget_usd!r}, or allow unanswered queries"
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """Which model answers which query, for the most value within a budget; checked once, here.

    Raises `ProblemError` listing everything that is wrong, and `InfeasibleBudget` with the least budget that works.
    """

    value: Float[np.ndarray, "queries models"]
    """What an answer is worth; its sum over the queries is maximised. Finite."""
    cost_usd: Float[np.ndarray, "queries models"]
    """Dollars per answer, finite and >= 0; `(models,)` is accepted where every query costs the same."""
    budget_usd: float
    """Dollars for all queries together."""
    available: Bool[np.ndarray, "queries models"] | None = field(default=None, kw_only=True)
    """Which models may answer which query; cells outside are never read, so they may be NaN."""
    allow_unanswered: bool = field(default=False, kw_only=True)
    """Adds the choice -1, value 0 and cost 0, to every query."""

    def __post_init__(self) -> None:
        value = np.asarray(self.value, np.float64)
        cost = np.asarray(self.cost_usd, np.float64)
        problems = []
        if value.ndim != 2 or 0 in value.shape:
            problems.append(f"value has shape {value.shape}, expected (queries, models) with at least one of each")
        elif cost.shape not in (value.shape, value.shape[1:]):
            problems.append(f"cost_usd has shape {cost.shape}, expected {value.shape} or {value.shape[1:]}, as value says")
        available = None if self.available is None else np.asarray(self.available)
        if available is not None and (available.shape != value.shape or available.dtype != bool):
            problems.append(f"available is {available.dtype} of shape {available.shape}, expected bool of {value.shape}")
        if not math.isfinite(self.budget_usd) or self.budget_usd < 0:
            problems.append(f"budget_usd={self.budget_usd!r} must be finite and >= 0 dollars")
        if problems:
            raise ProblemError("; ".join(problems))
        cost = np.broadcast_to(cost, value.shape)
        read = np.ones_like(value, bool) if available is None else available
        for name, array, wrong, rule in (
            ("value", value, ~np.isfinite(value) & read, "must be finite"),
            ("cost_usd", cost, ~(np.isfinite(cost) & (cost >= 0)) & read, "must be finite and >= 0 dollars"),
        ):
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                problems.append(f"{name}[{row}, {column}]={array[row, column]} {rule} ({int(wrong.sum())} such cells)")
        stranded = np.flatnonzero(~read.any(axis=1))
        if stranded.size and not self.allow_unanswered:
            problems.append(f"no model is available for query {stranded[0]} ({stranded.size} such queries)")
        if problems:
            raise ProblemError("; ".join(problems))
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "cost_usd", cost)
        object.__setattr__(self, "available", available)
        object.__setattr__(self, "budget_usd", float(self.budget_usd))
        if self.least_cost_usd > self.spendable_usd:
            raise InfeasibleBudget(self.budget_usd, self.least_cost_usd)

    @property
    def spendable_usd(self) -> float:
        return self.budget_usd * (1 + BUDGET_TOLERANCE)

    @cached_property
    def choices(self) -> tuple[Float[np.ndarray, "queries choices"], Float[np.ndarray, "queries choices"]]:
        """Value and cost of every choice: the models (-inf where not available), then, if allowed, no answer at all."""
        value, cost = self.value, self.cost_usd
        if self.available is not None:
            value, cost = np.where(self.available, value, -np.inf), np.where(self.available, cost, 0.0)
        if self.allow_unanswered:
            nothing = np.zeros((len(value), 1))
            value, cost = np.concatenate([value, nothing], axis=1), np.concatenate([cost, nothing], axis=1)
        return value, cost

    @cached_property
    def magnitude(self) -> float:
        """The largest absolute value of every query, summed: what rounding of values is measured against."""
        value = self.choices[0]
        return math.fsum(np.abs(np.where(np.isneginf(value), 0.0, value)).max(axis=1))

    @cached_property
    def cheapest(self) -> Int[np.ndarray, " queries"]:
        """The cheapest choice of every query, the most valuable one among equals."""
        value, cost = self.choices
        cost = np.where(np.isneginf(value), np.inf, cost)
        return best_of(-cost, value)

    @cached_property
    def least_cost_usd(self) -> float:
        """What the cheapest assignment costs, summed exactly."""
        return math.fsum(self.choices[1][np.arange(len(self.value)), self.cheapest])

    def totals(self, choice: Int[np.ndarray, " queries"]) -> tuple[float, float]:
        """Value and cost of an assignment, summed exactly; `choice` counts the columns of `choices`."""
        value, cost = self.choices
        rows = np.arange(len(value))
        return math.fsum(value[rows, choice]), math.fsum(cost[rows, choice])

    def fits(self, cost_usd: float) -> bool:
        return cost_usd <= self.spendable_usd


@dataclass(frozen=True, eq=False)
class Assignment:
    """One model per query, what it is worth, what it costs, and how far from the best it can be."""

    choice: Int[np.ndarray, " queries"]
    """Column of the model, -1 = unanswered; int32."""
    value: float
    cost_usd: float
    bound: float
    """Proved: no assignment of this problem is worth more."""
    multiplier: float
    """The price of value at which this was found: value per further dollar."""
    status: str
    """`optimal`: proved on the problem as given, within `gap`; `feasible`: within the budget."""
    seconds: float
    solver: str

    @property
    def gap(self) -> float:
        """The most value that a better assignment could add."""
        return max(0.0, self.bound - self.value)

    @property
    def relative_gap(self) -> float:
        return self.gap / abs(self.bound) if self.bound else 0.0

    @property
    def unanswered(self) -> int:
        return int((self.choice == UNANSWERED).sum())

    def __str__(self) -> str:
        lost = f", {self.unanswered} unanswered" if self.unanswered else ""
        return (
            f"{self.solver}: value {self.value:.6g} for {self.cost_usd:.6g} dollars on {len(self.choice):,} queries{lost}; "
            f"{self.status}, at most {self.relative_gap:.2g} below the best; {self.seconds:.3g} s"
        )


def assignment(
    problem: Problem,
    choice: Int[np.ndarray, " queries"],
    *,
    bound: float,
    multiplier: float,
    status: str,
    seconds: float,
    solver: str,
) -> Assignment:
    """The Assignment of `choice`, columns of `problem.choices`, its sums exact."""
    value, cost_usd = problem.totals(choice)
    models = problem.value.shape[1]
    return Assignment(
        choice=np.where(choice == models, UNANSWERED, choice).astype(np.int32),
        value=value,
        cost_usd=cost_usd,
        bound=max(bound, value),
        multiplier=multiplier,
        status=status,
        seconds=seconds,
        solver=solver,
    )


def best_of(
    first: Float[np.ndarray, "queries choices"], then: Float[np.ndarray, "queries choices"]
) -> Int[np.ndarray, " queries"]:
    """Per query the choice with the largest `first`; among equals the largest `then`, then the lower index."""
    best = first.max(axis=1, keepdims=True)
    return np.argmax(np.where(first == best, then, -np.inf), axis=1)
