"""Problem and Assignment: what every solver takes and what every solver returns.

    maximise   sum_j value[j, x_j]    subject to   sum_j cost_usd[j, x_j] <= budget_usd,   x_j in {1..M}

a multiple-choice knapsack problem (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", chapter 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.choices import Choices, best_of, exact_sum

BUDGET_TOLERANCE = 1e-12
"""A budget holds up to this relative excess, so that ten times 0.1 fits into 1."""
UNANSWERED = -1
LARGEST = 1e200
"""Larger numbers are no values and no dollars, and their sums would overflow; NaN is not within it either."""


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
class Problem(Choices):
    """Which model answers which query, for the most value within a budget; checked once, here.

    Raises `ProblemError` listing everything that is wrong, and `InfeasibleBudget` with the least budget that works.
    """

    value: Float[np.ndarray, "queries models"]
    """What an answer is worth; its sum over the queries is maximised. Finite. float32 or float64, also an `np.memmap`."""
    cost_usd: Float[np.ndarray, "queries models"]
    """Dollars per answer, finite and >= 0; `(models,)` is accepted where every query costs the same."""
    budget_usd: float
    """Dollars for all queries together."""
    available: Bool[np.ndarray, "queries models"] | None = field(default=None, kw_only=True)
    """Which models may answer which query; cells outside are never read, so they may be NaN."""
    allow_unanswered: bool = field(default=False, kw_only=True)
    """Adds the choice -1, value 0 and cost 0, to every query."""

    cheapest: Int[np.ndarray, " queries"] = field(init=False, repr=False)
    """The cheapest choice of every query, the most valuable one among equals."""
    least_cost_usd: float = field(init=False, repr=False)
    """What the cheapest assignment costs, summed exactly."""

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        try:
            for name in ("value", "cost_usd"):
                put(name, _as_float(getattr(self, name)))
            put("budget_usd", float(self.budget_usd))
        except (TypeError, ValueError) as error:
            raise ProblemError(f"value, cost_usd and budget_usd={self.budget_usd!r} must be numbers: {error}") from error
        put("available", None if self.available is None else np.asanyarray(self.available))
        if problems := self._shape_problems():
            raise ProblemError("; ".join(problems))
        put("cost_usd", np.broadcast_to(self.cost_usd, self.value.shape))
        put("spendable_usd", self.budget_usd * (1 + BUDGET_TOLERANCE))
        _check_cells(self)
        _survey(self)
        if self.least_cost_usd > self.spendable_usd:
            raise InfeasibleBudget(self.budget_usd, self.least_cost_usd)

    def _shape_problems(self) -> list[str]:
        value, cost, available, problems = self.value, self.cost_usd, self.available, []
        if value.ndim != 2 or 0 in value.shape:
            problems.append(f"value has shape {value.shape}, expected (queries, models) with at least one of each")
        elif cost.shape not in (value.shape, value.shape[1:]):
            problems.append(f"cost_usd has shape {cost.shape}, expected {value.shape} or {value.shape[1:]}, as value says")
        if available is not None and (available.shape != value.shape or available.dtype != bool):
            problems.append(f"available is {available.dtype} of shape {available.shape}, expected bool of {value.shape}")
        if not math.isfinite(self.budget_usd) or self.budget_usd < 0:
            problems.append(f"budget_usd={self.budget_usd!r} must be finite and >= 0 dollars")
        return problems

    def __len__(self) -> int:
        return len(self.value)

    @property
    def width(self) -> int:
        return self.value.shape[1] + self.allow_unanswered

    @property
    def one_cost_per_model(self) -> bool:
        """Costs are spread over the queries, and need to be read for one of them only."""
        return self.cost_usd.strides[0] == 0 and self.available is None

    def read(self, rows: slice) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "#rows choices"]]:
        value = np.ascontiguousarray(self.value[rows], np.float64)
        cost = np.ascontiguousarray(self.cost_usd[:1] if self.one_cost_per_model else self.cost_usd[rows], np.float64)
        if self.available is not None:
            usable = self.available[rows]
            value, cost = np.where(usable, value, -np.inf), np.where(usable, cost, 0.0)
        if self.allow_unanswered:
            value, cost = np.pad(value, ((0, 0), (0, 1))), np.pad(cost, ((0, 0), (0, 1)))
        return value, cost


def _as_float(array) -> np.ndarray:
    """float32 and float64 as they are, memory-mapped ones too; anything else as float64."""
    array = np.asanyarray(array)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"its dtype is {array.dtype}")
    return array.astype(np.float64)


def _check_cells(problem: Problem) -> None:
    """Raise `ProblemError` for what is not finite or negative; cells that are not available are not looked at."""
    problems = []
    for name, rule in (("value", "must be finite"), ("cost_usd", "must be finite and >= 0 dollars")):
        first, count = None, 0
        for rows in problem.slices():
            array = problem.cost_usd[:1] if name == "cost_usd" and problem.one_cost_per_model else getattr(problem, name)[rows]
            # As float64: in float32 the limit itself would be infinite.
            right = np.abs(array) <= np.float64(LARGEST)
            if name == "cost_usd":
                right &= array >= 0
            if problem.available is not None:
                right |= ~problem.available[rows]
            if not right.all():
                row, column = np.argwhere(~right)[0]
                first = first or f"{name}[{rows.start + row}, {column}]={array[row, column]} {rule}"
                count += int((~right).sum()) * (rows.stop - rows.start) // len(right)
        if first:
            problems.append(f"{first} ({count} such cells)")
    if problem.available is not None and not problem.allow_unanswered:
        stranded = np.flatnonzero(~problem.available.any(axis=1))
        if stranded.size:
            told = f"no model is available for query {stranded[0]} ({stranded.size} such queries)"
            if not problems:
                raise InfeasibleProblem(f"{told}: make one available, or allow unanswered queries")
            problems.append(told)
    if problems:
        raise ProblemError("; ".join(problems))


def _survey(problem: Problem) -> None:
    """One reading of everything: which is the cheapest assignment, and how large are the numbers?"""
    cheapest = np.empty(len(problem), np.int32)
    costs = np.empty(len(problem))
    magnitude, dearest = [], []
    for rows, value, cost in problem.chunks():
        closed = np.isneginf(value) if problem.available is not None else None
        row = np.arange(len(value))
        if problem.one_cost_per_model:
            columns = np.flatnonzero(cost[0] == cost.min())
            cheapest[rows] = columns[value[:, columns].argmax(axis=1)]
        else:
            cheapest[rows] = best_of(-cost if closed is None else np.where(closed, -np.inf, -cost), value)
        cost = np.broadcast_to(cost, value.shape)
        costs[rows] = cost[row, cheapest[rows]]
        sizes = value if closed is None else np.where(closed, 0.0, value)
        # argmax is several times faster than max along the short axis.
        largest, least = sizes[row, sizes.argmax(axis=1)], sizes[row, sizes.argmin(axis=1)]
        magnitude.append(float(np.maximum(np.abs(largest), np.abs(least)).sum()))
        dearest.append(cost[0].max() * len(row) if problem.one_cost_per_model else cost[row, cost.argmax(axis=1)].sum())
    put = partial(object.__setattr__, problem)
    put("cheapest", cheapest)
    put("least_cost_usd", exact_sum(costs))
    put("magnitude", math.fsum(magnitude))
    put("dearest_usd", math.fsum(dearest))


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
