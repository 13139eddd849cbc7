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
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from solvers.capacity import share
from solvers.choices import Choices
from solvers.errors import InfeasibleBudget, InfeasibleCapacity, InfeasibleProblem, InfeasibleValue, ProblemError, shown
from solvers.inputs import array, floats, no_type_check, number, switch, together
from solvers.survey import LARGEST, survey

BUDGET_TOLERANCE = 1e-12
"""A budget holds up to this relative excess, so that ten times 0.1 fits into 1; a minimum value likewise."""
UNANSWERED = -1
NO_LIMIT = sys.float_info.max / 4


@runtime_checkable
class Table(Protocol):
    """Numbers that are read a few rows at a time and are no array, such as a dataset in a file; float32 or float64."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


@no_type_check
@dataclass(frozen=True, eq=False)
class Problem(Choices):
    """Which model answers which query: the most value within a budget, or the least cost for a minimum value.

    A budget holds when the costs, summed exactly, are at most `budget_usd * (1 + 1e-12)`, so that ten times 0.1 fits into 1; a
    minimum value has the same tolerance. Lists are accepted for arrays, and numbers of any kind for floats.

    Raises `ProblemError`, which lists everything that is wrong, and `InfeasibleProblem` where no assignment meets the
    constraints: `InfeasibleBudget` names the least budget, `InfeasibleValue` the most value, `InfeasibleCapacity` capacities
    that would do.
    """

    value: Float[np.ndarray, "queries models"] | Table
    """What an answer is worth, `(queries, models)`, finite; its sum over the queries is what counts. float32 or float64 is used
    as it is, also an `np.memmap`, or anything that has `shape`, `dtype` and slices of queries, such as a dataset in a file;
    other numbers are copied to float64."""
    cost_usd: Float[np.ndarray, "queries models"] | Table
    """Dollars per answer, `(queries, models)`, finite and >= 0; `(models,)` where every query costs the same."""
    budget_usd: float | None = None
    """Dollars for all queries together; None = no limit."""
    minimum_value: float | None = field(default=None, kw_only=True)
    """In place of a budget: the value that all answers must have together, at the least cost."""
    available: Bool[np.ndarray, "queries models"] | None = field(default=None, kw_only=True)
    """Which models may answer which query, bool `(queries, models)`. Other cells of `value` and `cost_usd` are never read, so
    they may be NaN."""
    capacity: Integer[np.ndarray, " models"] | None = field(default=None, kw_only=True)
    """The largest number of queries per model, whole numbers `(models,)`."""
    allow_unanswered: bool = field(default=False, kw_only=True)
    """Adds the choice -1, with value 0 and cost 0, to every query."""

    cheapest: Int[np.ndarray, " queries"] = field(init=False, repr=False)
    """Of the standard form, `(queries,)`: the choices of least cost, for every query the most valuable one among equals."""
    least_cost: float = field(init=False, repr=False)
    """What they cost, summed exactly: the least budget in dollars; with a minimum value, minus the most value."""
    cheapest_value: float = field(init=False, repr=False)
    """Of the standard form, what they are worth, summed exactly."""

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        for name, converted in _converted(self).items():
            put(name, converted)
        together(_misshapen(self))
        if not _outside_memory(self.cost_usd):
            put("cost_usd", np.broadcast_to(np.asarray(self.cost_usd), self.value.shape))
        put("limit", _limit(self))
        put("places", _places(self))
        _survey(self)
        _check_limit(self)

    def __len__(self) -> int:
        return self.value.shape[0]

    @property
    def width(self) -> int:
        return self.value.shape[1] + self.allow_unanswered

    @property
    def one_cost_per_model(self) -> bool:
        """Whether costs are spread over the queries, so that they need to be read for one of them only."""
        spread = getattr(self.cost_usd, "strides", (1,))[0] == 0
        return spread and self.available is None and self.minimum_value is None

    def within(self, budget_usd: float | None) -> Problem:
        """The same problem with another budget and no minimum value, without reading its cells again.

        Raises `ProblemError` for what is no budget, and `InfeasibleBudget`.
        """
        if self.minimum_value is not None:
            return replace(self, budget_usd=budget_usd, minimum_value=None)
        changed = copy(self)
        put = partial(object.__setattr__, changed)
        put("budget_usd", None if budget_usd is None else number("budget_usd", budget_usd))
        together(_misshapen(changed))
        put("limit", _limit(changed))
        _check_limit(changed)
        return changed

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


def _converted(problem: Problem) -> dict[str, Any]:
    """The fields as they are kept: arrays, floats and a bool. Raises `ProblemError` for those that cannot be."""
    found: dict[str, Any] = {}
    problems: list[str] = []

    def convert(name: str, kind: Any, **options: str) -> None:
        value = getattr(problem, name)
        if value is None and name not in ("value", "cost_usd", "allow_unanswered"):
            return
        try:
            found[name] = value if kind is floats and _outside_memory(value) else kind(name, value, **options)
        except ProblemError as error:
            problems.append(str(error))

    for name in ("value", "cost_usd"):
        convert(name, floats, instead="pass its data, and as available where its mask is not set")
    for name in ("available", "capacity"):
        convert(name, array, instead="pass an array without a mask")
    for name in ("budget_usd", "minimum_value"):
        convert(name, number)
    convert("allow_unanswered", switch)
    together(problems)
    return found


def _outside_memory(value: object) -> TypeGuard[Table]:
    """Whether this has the shape of a table but is no array, such as a dataset in a file."""
    is_float = str(getattr(value, "dtype", "")) in ("float32", "float64")
    return is_float and len(getattr(value, "shape", ())) == 2 and not hasattr(value, "__dlpack__")


def _misshapen(problem: Problem) -> list[str]:
    """What is wrong about shapes and limits."""
    shape, problems = tuple(problem.value.shape), list[str]()
    if len(shape) != 2 or 0 in shape:
        problems.append(f"value has shape {shape}, expected (queries, models) with at least one of each")
    elif problem.cost_usd.shape not in (shape, shape[1:]):
        problems.append(f"cost_usd has shape {problem.cost_usd.shape}, expected {shape} or {shape[1:]}, as value has it")
    available, capacity = problem.available, problem.capacity
    if available is not None and (available.shape != shape or available.dtype != bool):
        problems.append(f"available is {available.dtype} of shape {available.shape}, expected bool of {shape}")
    if capacity is not None and (capacity.shape != shape[1:] or capacity.dtype.kind not in "iu" or (capacity < 0).any()):
        problems.append(f"capacity={shown(capacity.tolist())} must be {shape[-1]} whole numbers >= 0, one per model")
    budget, minimum = problem.budget_usd, problem.minimum_value
    if budget is not None and minimum is not None:
        problems.append(f"budget_usd={budget!r} and minimum_value={minimum!r}: give one of them")
    if budget is not None and (not math.isfinite(budget) or budget < 0):
        problems.append(f"budget_usd={budget!r} must be finite and >= 0 dollars")
    if minimum is not None and not abs(minimum) <= LARGEST:
        problems.append(f"minimum_value={minimum!r} must be finite")
    return problems


def _limit(problem: Problem) -> float:
    """What the standard form's costs may add up to, tolerance included."""
    if problem.minimum_value is not None:
        return BUDGET_TOLERANCE * abs(problem.minimum_value) - problem.minimum_value
    return NO_LIMIT if problem.budget_usd is None else min(problem.budget_usd * (1 + BUDGET_TOLERANCE), NO_LIMIT)


def _check_limit(problem: Problem) -> None:
    """Raise `InfeasibleProblem` where even the cheapest assignment breaks the limit."""
    if problem.least_cost > problem.limit:
        if problem.minimum_value is not None:
            raise InfeasibleValue(problem.minimum_value, -problem.least_cost)
        assert problem.budget_usd is not None
        raise InfeasibleBudget(problem.budget_usd, problem.least_cost)


def _places(problem: Problem) -> Int[np.ndarray, " choices"] | None:
    """How many queries may take each choice; any number may stay unanswered."""
    if problem.capacity is None:
        return None
    limited = np.minimum(problem.capacity, len(problem)).astype(np.int64)
    return np.append(limited, len(problem)) if problem.allow_unanswered else limited


def _check_cells(problem: Problem) -> None:
    """Raise `ProblemError` for cells that are not finite or negative; those that are not available are not looked at."""
    wrong = [_wrong_cells(problem, "value", "must be finite")]
    wrong.append(_wrong_cells(problem, "cost_usd", "must be finite and >= 0 dollars"))
    stranded = None
    if problem.available is not None and not problem.allow_unanswered:
        rows = np.flatnonzero(~problem.available.any(axis=1))
        if rows.size:
            stranded = f"no model is available for query {rows[0]} ({rows.size} such queries)"
    if stranded and not any(wrong):
        raise InfeasibleProblem(f"{stranded}: make one available, or allow unanswered queries")
    together([*wrong, stranded])


def _wrong_cells(problem: Problem, name: str, rule: str) -> str | None:
    """The first cell that breaks the rule, and how many do."""
    first, count = None, 0
    spread = name == "cost_usd" and problem.one_cost_per_model
    for rows in [slice(0, 1)] if spread else problem.slices():
        cells = np.asarray(getattr(problem, name)[rows])
        # As float64: in float32 the limit itself would be infinite.
        right = np.abs(cells) <= np.float64(LARGEST)
        if name == "cost_usd":
            right &= cells >= 0
        if problem.available is not None:
            right |= ~problem.available[rows]
        if not right.all():
            row, column = np.argwhere(~right)[0]
            first = first or f"{name}[{rows.start + row}, {column}]={cells[row, column]} {rule}"
            count += int((~right).sum()) * (len(problem) if spread else 1)
    return f"{first} ({count} such cells)" if first else None


def _survey(problem: Problem) -> None:
    """One reading of everything. Raises `ProblemError` for cells that cannot be used, after a second one that counts them."""
    found = survey(problem, problem.available, minimised=problem.minimum_value is not None)
    if found is None:
        _check_cells(problem)
        raise AssertionError("the survey rejects cells that the check accepts")
    cheapest, (value, cost) = found.cheapest, found.totals
    put = partial(object.__setattr__, problem)
    for name in ("magnitude", "cost_magnitude", "steps"):
        put(name, getattr(found, name))
    if (problem.spare(cheapest) < 0).any():
        cheapest = _cheapest_within_capacities(problem)
        value, cost = problem.totals(cheapest)
    put("cheapest", cheapest)
    put("cheapest_value", value)
    put("least_cost", cost)


def _cheapest_within_capacities(problem: Problem) -> Int[np.ndarray, " queries"]:
    """The choices of least cost. Raises `InfeasibleCapacity`, naming a place for every query at its cheapest model."""
    shared = share(problem, math.inf)
    if not shared.left_over.size:
        return shared.choice
    assert problem.places is not None and problem.capacity is not None
    more = np.zeros(problem.width, np.int64)
    for query in shared.left_over.tolist():
        value, cost = problem.read(slice(query, query + 1))
        more[np.where(np.isneginf(value), np.inf, cost)[0].argmin()] += 1
    enough = (problem.places + more)[: len(problem.capacity)]
    left_over = shared.left_over
    raise InfeasibleCapacity(problem.capacity.tolist(), enough.tolist(), len(left_over), int(left_over[0]), len(problem))
