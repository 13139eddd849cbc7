"""The models worth serving: a small set out of a big pool, chosen by what it can answer together.

    maximise  S(U) = mean_j max_{i in U} quality[j, i]   subject to  |U| <= size,  or  sum_{i in U} cost[i] <= budget

S is monotone and submodular (Routoo, arXiv:2401.13979, section 3.4). With a size, greedy reaches at least 1 - 1/e of the best
(Nemhauser, Wolsey & Fisher 1978, theorem 4.2); with a budget, the better of greedy by gain per dollar and the best single
model reaches (1 - 1/e) / 2 (Leskovec et al. 2007, "Cost-effective outbreak detection", theorem 3). A bound that is
usually much closer follows from any chosen set: nothing can add to it more than the largest single gains that fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from solvers.coverage import BitCoverage, Coverage, GradedCoverage, Limits
from solvers.problem import BUDGET_TOLERANCE, ProblemError
from solvers.subset_exact import best_cover

METHODS = ("lazy", "greedy", "exact")
BATCH = 16
"""Old gains that lazy greedy renews at once."""


@dataclass(frozen=True)
class Universe:
    """Chosen columns of `quality`, in the order of choice."""

    models: list[int]
    value_by_size: list[float]
    """S of the first 1, 2, ... models."""
    bound: float
    """Proved: no set within the limits has a larger S."""
    evaluations: int
    """How many gains were computed."""
    never_run: int
    """Cells of `quality` that are NaN, which counted as 0."""
    cost_usd: float | None = None
    """Of serving them all, where costs were given."""
    bound_by_size: list[float] = field(default_factory=list)
    """Proved, where a size was given: no set of at most 1, 2, ... models has a larger S, up to that size."""

    @property
    def value(self) -> float:
        return self.value_by_size[-1] if self.value_by_size else 0.0


def build_universe(
    quality: Float[np.ndarray, "queries models"],
    size: int | None = None,
    method: str = "lazy",
    *,
    budget_usd: float | None = None,
    cost_usd: Float[np.ndarray, " models"] | None = None,
    required: Sequence[int] = (),
    banned: Sequence[int] = (),
    max_seconds: float = 60.0,
) -> Universe:
    """Choose at most `size` models, or models whose `cost_usd` add up to at most `budget_usd`; fewer where none adds anything.

    `quality` is >= 0, also bool or integers; NaN (never run) counts as 0. `required` models are chosen first, `banned` ones
    never. `lazy` and `greedy` choose the same models in the same order, ties going to the lower index; `exact` solves the
    integer programme with OR-Tools within `max_seconds`, for small pools. Raises `ProblemError` for bad input.
    """
    quality = np.asarray(quality)
    _check(quality, size, method, budget_usd, cost_usd, required, banned)
    models = quality.shape[1]
    limits = Limits(
        cost=np.ones(models) if budget_usd is None else np.asarray(cost_usd, np.float64),
        budget=float(min(size or 0, models)) if budget_usd is None else float(budget_usd),
        required=list(required),
        banned=list(banned),
        cost_matters=budget_usd is not None,
    )
    never_run = int(np.isnan(quality).sum()) if quality.dtype.kind == "f" else 0
    coverage: Coverage = BitCoverage(quality) if _right_or_wrong(quality) else GradedCoverage(quality)
    found = _greedy(coverage, limits, lazy=method != "greedy")
    chosen, bound, evaluations = found.models, found.bound, found.evaluations
    if method == "exact":
        best, best_bound = best_cover(np.nan_to_num(quality.astype(np.float64)), limits, chosen, max_seconds)
        if coverage.value(best) > coverage.value(chosen):
            # The order of choice, and the value after each, are greedy's within the set.
            inside = Limits(np.ones(models), len(best), limits.required, sorted(set(range(models)) - set(best)), False)
            chosen = _greedy(coverage, inside, lazy=True).models
        bound = min(bound, best_bound)
    # No set is worth more than all models together.
    everything = coverage.value(sorted(set(range(models)) - set(limits.banned)))
    values = [coverage.value(chosen[: count + 1]) for count in range(len(chosen))]
    return Universe(
        models=chosen,
        value_by_size=values,
        bound=max(min(bound, everything), values[-1] if values else 0.0),
        evaluations=evaluations,
        never_run=never_run,
        cost_usd=None if cost_usd is None else math.fsum(np.asarray(cost_usd, np.float64)[chosen]),
        bound_by_size=[min(one, everything, bound) for one in found.bound_by_size],
    )


def _check(quality, size, method, budget_usd, cost_usd, required, banned) -> None:
    problems = []
    models = quality.shape[1] if quality.ndim == 2 else 0
    if quality.ndim != 2 or 0 in quality.shape or quality.dtype.kind not in "fiub":
        problems.append(f"quality has shape {quality.shape}, expected numbers (queries, models) with at least one of each")
    elif (quality.dtype.kind == "f" and np.isinf(quality).any()) or (quality.dtype.kind in "fi" and (quality < 0).any()):
        problems.append("quality must be >= 0 and finite, or NaN where a model was never run")
    if (size is None) == (budget_usd is None):
        problems.append(f"size={size} and budget_usd={budget_usd}: give exactly one of them")
    if size is not None and size < 1:
        problems.append(f"size={size} must be at least 1")
    if budget_usd is not None and not 0 <= budget_usd < math.inf:
        problems.append(f"budget_usd={budget_usd} must be finite and >= 0 dollars")
    if budget_usd is not None and cost_usd is None:
        problems.append("budget_usd needs cost_usd, dollars per model")
    if cost_usd is not None and models:
        cost = np.asarray(cost_usd)
        if cost.shape != (models,) or not np.isfinite(cost).all() or (cost < 0).any():
            problems.append(f"cost_usd must be {models} numbers, finite and >= 0 dollars, one per model")
        elif budget_usd is not None and math.fsum(cost[list(required)]) > budget_usd * (1 + BUDGET_TOLERANCE):
            problems.append(f"budget_usd={budget_usd} is below the {math.fsum(cost[list(required)])} of the required models")
    for name, chosen in (("required", required), ("banned", banned)):
        if models and not all(0 <= model < models for model in chosen):
            problems.append(f"{name}={list(chosen)} must be columns from 0 to {models - 1}")
    if set(required) & set(banned):
        problems.append(f"models {sorted(set(required) & set(banned))} are required and banned")
    if size is not None and len(set(required)) > size:
        problems.append(f"size={size} is less than the {len(set(required))} required models")
    if method not in METHODS:
        problems.append(f"method={method!r} must be one of {', '.join(METHODS)}")
    if problems:
        raise ProblemError("; ".join(problems))


def _right_or_wrong(quality: np.ndarray) -> bool:
    if quality.dtype == bool:
        return True
    return bool(((quality == 0) | (quality == 1) | (quality != quality)).all())


@dataclass(frozen=True)
class _Greedy:
    models: list[int]
    bound: float
    bound_by_size: list[float]
    """Of 1, 2, ... models; empty where a budget limits them."""
    evaluations: int


def _greedy(coverage: Coverage, limits: Limits, *, lazy: bool) -> _Greedy:
    """Take the model with the largest gain per cost that still fits; `lazy` trusts an old gain as an upper bound until it
    comes first (Minoux 1978), and then renews it together with the next few.
    """
    coverage.reset()
    chosen = list(dict.fromkeys(limits.required))
    for model in chosen:
        coverage.take(model)
    spent = math.fsum(limits.cost[chosen])
    open_models = np.ones(coverage.models, bool)
    open_models[[*limits.required, *limits.banned]] = False
    gains = np.zeros(coverage.models)
    candidates = np.flatnonzero(open_models)
    gains[candidates] = coverage.gains(candidates)
    evaluations = len(candidates)
    single = _best_single(coverage, limits, gains, spent) if limits.cost_matters else None
    room = limits.budget - spent
    bound = coverage.covered + _most_gain(gains, limits, room)
    by_size = _bounds(coverage, gains, limits)
    fresh = open_models.copy()
    while True:
        open_models &= np.array([limits.allows(spent, cost) for cost in limits.cost]) if limits.cost_matters else True
        if not open_models.any() or (not limits.cost_matters and len(chosen) >= limits.budget):
            break
        if not lazy and not fresh.all():
            stale = np.flatnonzero(open_models & ~fresh)
            gains[stale] = coverage.gains(stale)
            evaluations += len(stale)
            fresh[stale] = True
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(open_models & (gains > 0), gains / limits.cost, -np.inf)
        # argmax takes the lower index among equals; an old gain that is equal or higher is renewed before it is trusted.
        while not fresh[best := int(ratio.argmax())] and ratio[best] > -np.inf:
            first = np.argpartition(-ratio, min(BATCH, len(ratio) - 1))[:BATCH]
            stale = np.unique(np.append(first[~fresh[first] & (ratio[first] > -np.inf)], best))
            gains[stale] = coverage.gains(stale)
            evaluations += len(stale)
            fresh[stale] = True
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio[stale] = np.where(gains[stale] > 0, gains[stale] / limits.cost[stale], -np.inf)
        if ratio[best] == -np.inf:
            break
        chosen.append(best)
        spent = math.fsum(limits.cost[chosen])
        coverage.take(best)
        gains[best] = 0.0
        open_models[best] = False
        fresh[:] = False
        # Old gains only overstate, so they bound as well as new ones, if less closely.
        bound = min(bound, coverage.covered + _most_gain(gains, limits, room))
        by_size = np.minimum(by_size, _bounds(coverage, gains, limits))
    if single is not None and coverage.value([*limits.required, single]) > coverage.value(chosen):
        chosen = [*dict.fromkeys(limits.required), single]
    scale = (1 + 1e-12) / coverage.queries
    return _Greedy(chosen, bound * scale, (by_size * scale).tolist(), evaluations)


def _bounds(coverage: Coverage, gains: Float[np.ndarray, " models"], limits: Limits) -> Float[np.ndarray, " sizes"]:
    """No set of 1, 2, ... models, the required ones among them, covers more than what is covered and as many largest gains."""
    if limits.cost_matters:
        return np.empty(0)
    most = np.append(0.0, np.cumsum(-np.sort(-gains)))
    free = np.arange(1, int(limits.budget) + 1) - len(set(limits.required))
    return coverage.covered + most[np.clip(free, 0, len(gains))]


def _best_single(coverage: Coverage, limits: Limits, gains: Float[np.ndarray, " models"], spent: float) -> int | None:
    fits = np.array([limits.allows(spent, cost) for cost in limits.cost])
    best = int(np.where(fits, gains, -np.inf).argmax())
    return best if fits[best] and gains[best] > 0 else None


def _most_gain(gains: Float[np.ndarray, " models"], limits: Limits, room: float) -> float:
    """The fractional knapsack: the largest gains per cost, the last one in part."""
    order = np.argsort(-np.divide(gains, limits.cost, out=np.full_like(gains, np.inf), where=limits.cost > 0), kind="stable")
    gains, cost = gains[order], limits.cost[order]
    left = room * (1 + 2 * BUDGET_TOLERANCE) - (np.cumsum(cost) - cost)
    share = np.clip(np.divide(left, cost, out=np.ones_like(cost), where=cost > 0), 0.0, 1.0)
    return float(gains @ share)
