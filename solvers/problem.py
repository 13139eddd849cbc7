"""Problem: what every solver takes; checked once, when it is built.

    maximise   sum_j value[j, x_j]    subject to   sum_j cost_usd[j, x_j] <= budget_usd,   x_j in {1..M}

a multiple-choice knapsack problem (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", chapter 11). A minimum value
with the cost minimised is the same program with the parts exchanged,

    maximise   sum_j -cost_usd[j, x_j]    subject to   sum_j -value[j, x_j] <= -minimum_value,

and `Problem.read` presents it that way, so that solvers know one form only.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.capacity import share
from solvers.choices import Choices, best_of
from solvers.grid import find_steps

BUDGET_TOLERANCE = 1e-12
"""A budget holds up to this relative excess, so that ten times 0.1 fits into 1; a minimum value likewise."""
UNANSWERED = -1
LARGEST = 1e200
"""Larger numbers are no values and no dollars, and their sums would overflow; NaN is not within it either."""
NO_LIMIT = sys.float_info.max / 4


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


class InfeasibleValue(InfeasibleProblem):
    """No assignment is worth the minimum; `most_value` is accepted when passed back."""

    def __init__(self, minimum_value: float, most_value: float):
        self.minimum_value, self.most_value = minimum_value, most_value
        super().__init__(
            f"minimum_value={minimum_value!r} is above the most valuable assignment, which is worth {most_value!r}: "
            f"give at most minimum_value={most_value!r}"
        )


@dataclass(frozen=True, eq=False)
class Problem(Choices):
    """Which model answers which query: the most value within a budget, or the least cost for a minimum value.

    Raises `ProblemError` listing everything that is wrong, and `InfeasibleProblem` with what would work: `InfeasibleBudget`
    names the least budget, `InfeasibleValue` the most value.
    """

    value: Float[np.ndarray, "queries models"]
    """What an answer is worth; its sum over the queries is what counts. Finite. float32 or float64, also an `np.memmap`, or
    anything with `shape`, `dtype` and slices of queries, read again and again, such as a dataset in a file."""
    cost_usd: Float[np.ndarray, "queries models"]
    """Dollars per answer, finite and >= 0; `(models,)` is accepted where every query costs the same."""
    budget_usd: float | None = None
    """Dollars for all queries together; None = no limit."""
    minimum_value: float | None = field(default=None, kw_only=True)
    """Instead of a budget: what the answers must be worth together, at the least cost."""
    available: Bool[np.ndarray, "queries models"] | None = field(default=None, kw_only=True)
    """Which models may answer which query; cells outside are never read, so they may be NaN."""
    capacity: Int[np.ndarray, " models"] | None = field(default=None, kw_only=True)
    """The largest number of queries per model."""
    allow_unanswered: bool = field(default=False, kw_only=True)
    """Adds the choice -1, value 0 and cost 0, to every query."""

    cheapest: Int[np.ndarray, " queries"] = field(init=False, repr=False)
    """Of the standard form: the choices of least cost, of every query the most valuable one among equals."""
    least_cost: float = field(init=False, repr=False)
    """What they cost, summed exactly: the least budget, or minus the most value."""

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        try:
            for name in ("value", "cost_usd"):
                put(name, _as_float(getattr(self, name)))
            for name in ("budget_usd", "minimum_value"):
                put(name, None if getattr(self, name) is None else float(getattr(self, name)))
        except (TypeError, ValueError) as error:
            raise ProblemError(
                f"value, cost_usd, budget_usd={self.budget_usd!r} and minimum_value={self.minimum_value!r} must be numbers: "
                f"{error}"
            ) from error
        for name in ("available", "capacity"):
            try:
                put(name, None if getattr(self, name) is None else np.asanyarray(getattr(self, name)))
            except ValueError as error:
                raise ProblemError(f"{name} is no array: {error}") from error
        if problems := self._misshapen():
            raise ProblemError("; ".join(problems))
        if isinstance(self.cost_usd, np.ndarray):
            put("cost_usd", np.broadcast_to(self.cost_usd, self.value.shape))
        put("places", None)
        if self.capacity is not None:
            limited = np.minimum(self.capacity, len(self)).astype(np.int64)
            put("places", np.append(limited, len(self)) if self.allow_unanswered else limited)
        put("limit", self._limit())
        _check_cells(self)
        _survey(self)
        if self.least_cost > self.limit:
            if self.minimum_value is not None:
                raise InfeasibleValue(self.minimum_value, -self.least_cost)
            assert self.budget_usd is not None
            raise InfeasibleBudget(self.budget_usd, self.least_cost)

    def _misshapen(self) -> list[str]:
        value, cost, available, capacity, problems = self.value, self.cost_usd, self.available, self.capacity, []
        if len(value.shape) != 2 or 0 in value.shape:
            problems.append(f"value has shape {value.shape}, expected (queries, models) with at least one of each")
        elif cost.shape not in (value.shape, value.shape[1:]):
            problems.append(f"cost_usd has shape {cost.shape}, expected {value.shape} or {value.shape[1:]}, as value says")
        if available is not None and (available.shape != value.shape or available.dtype != bool):
            problems.append(f"available is {available.dtype} of shape {available.shape}, expected bool of {value.shape}")
        if capacity is not None and (
            capacity.shape != value.shape[1:] or capacity.dtype.kind not in "iu" or (capacity < 0).any()
        ):
            problems.append(f"capacity={capacity.tolist()} must be {value.shape[-1]} whole numbers >= 0, one per model")
        if self.budget_usd is not None and self.minimum_value is not None:
            problems.append(f"budget_usd={self.budget_usd!r} and minimum_value={self.minimum_value!r}: give one of them")
        if self.budget_usd is not None and (not math.isfinite(self.budget_usd) or self.budget_usd < 0):
            problems.append(f"budget_usd={self.budget_usd!r} must be finite and >= 0 dollars")
        if not isinstance(self.allow_unanswered, bool | np.bool_):
            problems.append(f"allow_unanswered={self.allow_unanswered!r} must be True or False")
        if self.minimum_value is not None and not abs(self.minimum_value) <= LARGEST:
            problems.append(f"minimum_value={self.minimum_value!r} must be finite")
        return problems

    def _limit(self) -> float:
        if self.minimum_value is not None:
            return BUDGET_TOLERANCE * abs(self.minimum_value) - self.minimum_value
        return NO_LIMIT if self.budget_usd is None else min(self.budget_usd * (1 + BUDGET_TOLERANCE), NO_LIMIT)

    def __len__(self) -> int:
        return self.value.shape[0]

    @property
    def width(self) -> int:
        return self.value.shape[1] + self.allow_unanswered

    @property
    def one_cost_per_model(self) -> bool:
        """Costs are spread over the queries, and need to be read for one of them only."""
        spread = isinstance(self.cost_usd, np.ndarray) and self.cost_usd.strides[0] == 0
        return spread and self.available is None and self.minimum_value is None

    def read(self, rows: slice) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "#rows choices"]]:
        """In the standard form: with a minimum value, minus the dollars and minus the value."""
        value = np.ascontiguousarray(self.value[rows], np.float64)
        cost = np.ascontiguousarray(self.cost_usd[:1] if self.one_cost_per_model else self.cost_usd[rows], np.float64)
        if self.minimum_value is not None:
            value, cost = -cost, -value
        if self.available is not None:
            usable = self.available[rows]
            value, cost = np.where(usable, value, -np.inf), np.where(usable, cost, 0.0)
        if self.allow_unanswered:
            value, cost = np.pad(value, ((0, 0), (0, 1))), np.pad(cost, ((0, 0), (0, 1)))
        return value, cost


def _as_float(array):
    """float32 and float64 as they are, memory-mapped ones too; anything else as float64."""
    if _outside_memory(array):
        return array
    array = np.asanyarray(array)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"its dtype is {array.dtype}")
    return array.astype(np.float64)


def _outside_memory(array) -> bool:
    """Such as a dataset in a file: has the shape of a table, but is no array."""
    floats = str(getattr(array, "dtype", "")) in ("float32", "float64")
    return floats and len(getattr(array, "shape", ())) == 2 and not hasattr(array, "__dlpack__")


def _check_cells(problem: Problem) -> None:
    """Raise `ProblemError` for what is not finite or negative; cells that are not available are not looked at."""
    problems = []
    for name, rule in (("value", "must be finite"), ("cost_usd", "must be finite and >= 0 dollars")):
        first, count = None, 0
        spread = name == "cost_usd" and problem.one_cost_per_model
        for rows in [slice(0, 1)] if spread else problem.slices():
            array = np.asarray(getattr(problem, name)[rows])
            # As float64: in float32 the limit itself would be infinite.
            right = np.abs(array) <= np.float64(LARGEST)
            if name == "cost_usd":
                right &= array >= 0
            if problem.available is not None:
                right |= ~problem.available[rows]
            if not right.all():
                row, column = np.argwhere(~right)[0]
                first = first or f"{name}[{rows.start + row}, {column}]={array[row, column]} {rule}"
                count += int((~right).sum()) * (len(problem) if spread else 1)
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
    """One reading of everything: which is the cheapest assignment, how large are the numbers, and are they on a grid?"""
    cheapest = np.empty(len(problem), np.int32)
    magnitude, dearest, steps = [], [], 1
    for rows, value, cost in problem.chunks():
        closed = np.isneginf(value) if problem.available is not None else None
        row = np.arange(len(value))
        if problem.one_cost_per_model:
            columns = np.flatnonzero(cost[0] == cost.min())
            cheapest[rows] = columns[value[:, columns].argmax(axis=1)]
        else:
            cheapest[rows] = best_of(-cost if closed is None else np.where(closed, -np.inf, -cost), value)
        cost = np.abs(np.broadcast_to(cost[:1] if problem.one_cost_per_model else cost, value.shape))
        sizes = value if closed is None else np.where(closed, 0.0, value)
        steps = steps and find_steps(sizes, steps)
        # argmax is several times faster than max along the short axis.
        largest, least = sizes[row, sizes.argmax(axis=1)], sizes[row, sizes.argmin(axis=1)]
        magnitude.append(float(np.maximum(np.abs(largest), np.abs(least)).sum()))
        dearest.append(cost[0].max() * len(row) if problem.one_cost_per_model else cost[row, cost.argmax(axis=1)].sum())
    put = partial(object.__setattr__, problem)
    if (problem.spare(cheapest) < 0).any():
        shared = share(problem, math.inf)
        if shared.left_over.size:
            raise InfeasibleProblem(_too_little_room(problem, shared.left_over))
        cheapest = shared.choice
    put("cheapest", cheapest)
    put("magnitude", math.fsum(magnitude))
    put("dearest", math.fsum(dearest))
    put("steps", steps)
    put("least_cost", problem.totals(cheapest)[1])


def _too_little_room(problem: Problem, left_over: Int[np.ndarray, " left"]) -> str:
    """Which capacity would do: every query that is left takes its cheapest model."""
    assert problem.places is not None and problem.capacity is not None
    more = np.zeros(problem.width, np.int64)
    for query in left_over:
        value, cost = problem.read(slice(query, query + 1))
        more[np.where(np.isneginf(value[0]), np.inf, cost[0]).argmin()] += 1
    works = (problem.places + more)[: len(problem.capacity)].tolist()
    return (
        f"capacity={problem.capacity.tolist()} leaves {left_over.size} of {len(problem)} queries without a place, such as "
        f"query {left_over[0]}: capacity={works} would do, or allow unanswered queries"
    )
