"""The models worth serving: the public call, its checks, and what it returns.

    maximise  S(U) = mean_j max_{i in U} quality[j, i]   subject to  |U| <= size,  or  sum_{i in U} cost_usd[i] <= budget_usd

S is monotone and submodular (Routoo, arXiv:2401.13979, section 3.4), so greedy choice comes with a guarantee (`greedy.py`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float, Integer

from solvers.errors import ProblemError, shown
from solvers.inputs import array, at_least, no_type_check, problem_of, together, whole
from solvers.on_demand import when_read
from solvers.problem import BUDGET_TOLERANCE
from solvers.subset.bounding import Bounding, best_set
from solvers.subset.coverage import coverage_of
from solvers.subset.greedy import choose
from solvers.subset.limits import Limits
from solvers.subset.relaxation import MOST_CELLS
from solvers.subset.residual import residual_of

METHODS = ("lazy", "greedy", "exact")


@when_read("bound", "bound_by_size")
@dataclass(frozen=True)
class Universe:
    """A set of models that is worth serving, and a proof of how near to the best it is."""

    models: list[int]
    """Columns of `quality`, in the order of choice."""
    value_by_size: list[float]
    """S of the first 1, 2, ... models: the mean over the queries of the best quality among them."""
    bound: float
    """Proved: no set within the limits has a larger S."""
    evaluations: int
    """How many gains were computed."""
    never_run: int
    """Cells of `quality` that are NaN, which counted as 0."""
    cost_usd: float | None = None
    """Dollars for serving all of them, where costs were given."""
    bound_by_size: list[float] = field(default_factory=list[float])
    """Proved, where a size was given: no set of at most 1, 2, ... models has a larger S, up to that size."""

    @property
    def value(self) -> float:
        """S of the whole set; 0 for an empty one."""
        return self.value_by_size[-1] if self.value_by_size else 0.0


@no_type_check
def build_universe(
    quality: Bool[np.ndarray, "queries models"] | Integer[np.ndarray, "queries models"] | Float[np.ndarray, "queries models"],
    size: int | None = None,
    method: str = "lazy",
    *,
    budget_usd: float | None = None,
    cost_usd: Float[np.ndarray, " models"] | Integer[np.ndarray, " models"] | None = None,
    required: Sequence[int] = (),
    banned: Sequence[int] = (),
    max_seconds: float = 60.0,
) -> Universe:
    """Choose the models worth serving out of a pool: those that answer the most queries well between them.

    What is maximised is S, the mean over the queries of the best quality in the set (Routoo, arXiv:2401.13979, section 3.4).
    Fewer models are chosen where no other one adds anything.

    `quality` `(queries, models)` is finite and >= 0, also bool or integers; NaN (never run) counts as 0. Give exactly one
    limit: `size`, the largest number of models, or `budget_usd`, the most dollars that the `cost_usd` `(models,)` of serving
    them may add up to. `required` models (columns) are chosen first, `banned` ones never.

    `method` `lazy` and `greedy` choose the same models in the same order, ties going to the lower column; lazy is faster. With
    a size they reach at least 1 - 1/e of the best set, with a budget half of that. `exact` finds the best set by branch and
    bound within `max_seconds`, for pools of up to some dozens of models.

    Returns a `Universe` with a proved bound, that of the linear relaxation for pools of up to 250,000 cells, computed when it
    is read. Raises `ProblemError`, which lists everything that is wrong.
    """
    quality = array("quality", quality, instead="pass quality.filled(np.nan), where NaN means never run")
    cost: np.ndarray | None = None if cost_usd is None else array("cost_usd", cost_usd, instead="give the cost of every model")
    required, banned = _columns("required", required), _columns("banned", banned)
    together(_problems(quality, size, method, budget_usd, cost, required, banned, max_seconds))
    models = int(quality.shape[1])
    limits = Limits(
        cost=np.ones(models) if budget_usd is None or cost is None else cost.astype(np.float64),
        budget=float(min(size or 0, models)) if budget_usd is None else float(budget_usd),
        required=required,
        banned=banned,
        cost_matters=budget_usd is not None,
    )
    coverage = coverage_of(quality)
    found = choose(coverage, limits, lazy=method != "greedy")
    chosen, least = found.models, math.inf
    if method == "exact":
        best, least = best_set(residual_of(quality, limits), chosen, coverage.queries, max_seconds)
        if coverage.value(best) > coverage.value(chosen):
            # The order of choice, and the value after each model, are greedy's within the set.
            others = sorted(set(range(models)) - set(best))
            inside = Limits(np.ones(models), float(len(best)), limits.required, others, cost_matters=False)
            chosen = choose(coverage, inside, lazy=True).models
    # No set is worth more than all models together.
    everything = coverage.value(sorted(set(range(models)) - set(limits.banned)))
    values = [coverage.value(chosen[: count + 1]) for count in range(len(chosen))]
    bounds = Bounding(
        simple=min(found.bound, least, everything),
        simple_by_size=[min(one, everything) for one in found.bound_by_size],
        values=values,
        required=len(required),
        pool=residual_of(quality, limits) if quality.size <= MOST_CELLS else None,
        queries=len(quality),
    )
    return Universe(
        models=chosen,
        value_by_size=values,
        bound=cast(float, lambda: bounds.bound),
        evaluations=found.evaluations,
        never_run=int(np.isnan(quality).sum()) if quality.dtype.kind == "f" else 0,
        cost_usd=None if cost is None else math.fsum(cost.astype(np.float64)[chosen]),
        bound_by_size=cast("list[float]", lambda: bounds.by_size),
    )


def _columns(name: str, columns: Any) -> list[int]:
    """`columns` as ints, each once. Raises `ProblemError` for what is no list of whole numbers."""
    try:
        return list(dict.fromkeys(int(operator.index(column)) for column in columns))
    except TypeError as error:
        raise ProblemError(f"{name}={shown(columns)} must be a list of columns, whole numbers") from error


def _problems(
    quality: np.ndarray,
    size: Any,
    method: object,
    budget_usd: Any,
    cost_usd: np.ndarray | None,
    required: list[int],
    banned: list[int],
    max_seconds: object,
) -> Iterator[str | None]:
    """Everything that is wrong."""
    yield _quality_problem(quality)
    models = quality.shape[1] if quality.ndim == 2 else 0
    if (size is None) == (budget_usd is None):
        yield f"size={shown(size)} and budget_usd={shown(budget_usd)}: give exactly one of them"
    for name, columns in (("required", required), ("banned", banned)):
        if models and not all(0 <= column < models for column in columns):
            yield f"{name}={shown(columns)} must be columns from 0 to {models - 1}"
    if both := sorted(set(required) & set(banned)):
        yield f"models {shown(both)} are required and banned"
    if size is not None:
        yield (wrong := problem_of(whole, "size", size, 1))
        if not wrong and len(required) > size:
            yield f"size={size} is less than the {len(required)} required models"
    if cost_usd is not None and models and not _are_costs(cost_usd, models):
        yield f"cost_usd must be {models} numbers, finite and >= 0 dollars, one per model"
    if budget_usd is not None:
        yield (wrong := problem_of(at_least, "budget_usd", budget_usd, 0))
        if cost_usd is None:
            yield "budget_usd needs cost_usd, dollars per model"
        elif not wrong and _are_costs(cost_usd, models) and all(0 <= column < models for column in required):
            least = math.fsum(cost_usd[required].tolist())
            if least > float(budget_usd) * (1 + BUDGET_TOLERANCE):
                yield f"budget_usd={budget_usd!r} is below the {least!r} of the required models"
    yield problem_of(at_least, "max_seconds", max_seconds, 0, finite=False, above=True)
    if method not in METHODS:
        yield f"method={shown(method)} must be one of {', '.join(METHODS)}"


def _quality_problem(quality: np.ndarray) -> str | None:
    kind = quality.dtype.kind
    if quality.ndim != 2 or 0 in quality.shape or kind not in "fiub":
        wanted = "expected numbers (queries, models) with at least one of each"
        return f"quality has shape {quality.shape} of {quality.dtype}, {wanted}"
    if (kind == "f" and np.isinf(quality).any()) or (kind in "fi" and (quality < 0).any()):
        return "quality must be >= 0 and finite, or NaN where a model was never run"
    return None


def _are_costs(cost_usd: np.ndarray, models: int) -> bool:
    return bool(
        cost_usd.shape == (models,) and cost_usd.dtype.kind in "fiub" and (np.isfinite(cost_usd) & (cost_usd >= 0)).all()
    )
