"""The models worth serving: a small set out of a big pool, chosen by what it can answer together.

    maximise  S(U) = mean_j max_{i in U} quality[j, i]   subject to  |U| <= size

S is monotone and submodular (Routoo, arXiv:2401.13979, section 3.4), so greedy reaches at least 1 - 1/e of the best
(Nemhauser, Wolsey & Fisher 1978, theorem 4.2). A bound on the best that is usually much closer follows from any chosen set: no
set of `size` models can add to it more than the `size` largest single gains (the same paper, section 4).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from ortools.sat.python import cp_model

from solvers.problem import ProblemError

METHODS = ("lazy", "greedy", "exact")


@dataclass(frozen=True)
class Universe:
    """Chosen columns of `quality`, in the order of choice."""

    models: list[int]
    value_by_size: list[float]
    """S of the first 1, 2, ... models."""
    bound: float
    """Proved: no set of the wanted size has a larger S."""
    evaluations: int
    """How many gains were computed."""


def build_universe(
    quality: Float[np.ndarray, "queries models"], size: int, method: str = "lazy", max_seconds: float = 60.0
) -> Universe:
    """Choose `size` models, fewer where no further one adds anything; NaN (never run) counts as 0.

    `lazy` and `greedy` choose the same models in the same order, ties going to the lower index; `exact` solves the integer
    programme with OR-Tools within `max_seconds`, for small pools. Raises `ProblemError` for bad input.
    """
    quality = np.asarray(quality, np.float64)
    problems = []
    if quality.ndim != 2 or 0 in quality.shape:
        problems.append(f"quality has shape {quality.shape}, expected (queries, models) with at least one of each")
    elif np.isinf(quality).any() or (quality < 0).any():
        problems.append("quality must be >= 0 and finite, or NaN where a model was never run")
    if size < 1:
        problems.append(f"size={size} must be at least 1")
    if method not in METHODS:
        problems.append(f"method={method!r} must be one of {', '.join(METHODS)}")
    if problems:
        raise ProblemError("; ".join(problems))
    quality = np.nan_to_num(quality)
    size = min(size, quality.shape[1])
    if method == "exact":
        return _exact(quality, size, max_seconds)
    return _greedy(quality, size, lazy=method == "lazy")


def _greedy(quality: Float[np.ndarray, "queries models"], size: int, *, lazy: bool) -> Universe:
    """Take the model with the largest gain; `lazy` trusts an old gain as an upper bound until it comes first (Minoux 1978)."""
    queries, models = quality.shape
    covered = np.zeros(queries)
    evaluations = 0

    def gain(model: int) -> float:
        nonlocal evaluations
        evaluations += 1
        return float(np.maximum(quality[:, model] - covered, 0.0).sum())

    # (-gain, model): equal gains go to the lower index. `fresh` is how many models were chosen when it was computed.
    heap = [(-gain(model), model, 0) for model in range(models)]
    heapq.heapify(heap)
    chosen: list[int] = []
    values: list[float] = []
    bound = sum(sorted((-entry[0] for entry in heap), reverse=True)[:size])
    while len(chosen) < size:
        if lazy:
            while heap[0][2] != len(chosen):
                _, model, _ = heap[0]
                heapq.heapreplace(heap, (-gain(model), model, len(chosen)))
        elif chosen:
            heap = [(-gain(model), model, len(chosen)) for _, model, _ in heap]
            heapq.heapify(heap)
        best, model, _ = heapq.heappop(heap)
        if best == 0:
            bound = min(bound, covered.sum())
            break
        chosen.append(model)
        covered = np.maximum(covered, quality[:, model])
        values.append(float(covered.sum() / queries))
        # Old gains only overstate, so they bound as well as new ones, if less closely.
        bound = min(bound, covered.sum() + sum(sorted((-entry[0] for entry in heap), reverse=True)[:size]))
    bound = float(max(bound * (1 + 1e-12), covered.sum()) / queries)
    return Universe(models=chosen, value_by_size=values, bound=bound, evaluations=evaluations)


def _exact(quality: Float[np.ndarray, "queries models"], size: int, max_seconds: float) -> Universe:
    """Facility location: sum_j sum_i quality[j, i] y[j, i], y[j, i] <= x[i], sum_i y[j, i] <= 1, sum_i x[i] <= size.

    Qualities are counted in units of 2^-30 of the largest, rounded up, so that the solver's bound holds.
    """
    queries, models = quality.shape
    unit = (quality.max() or 1.0) / 2**30
    program = cp_model.CpModel()
    serve = [program.new_bool_var("") for _ in range(models)]
    program.add(sum(serve) <= size)
    terms, weights = [], []
    for row in range(queries):
        answers = []
        for model in np.flatnonzero(quality[row] > 0):
            answer = program.new_bool_var("")
            program.add_implication(answer, serve[model])
            answers.append(answer)
            terms.append(answer)
            weights.append(int(np.ceil(quality[row, model] / unit)))
        program.add_at_most_one(answers)
    program.maximize(cp_model.LinearExpr.weighted_sum(terms, weights))
    start = _greedy(quality, size, lazy=True)
    for model in range(models):
        program.add_hint(serve[model], model in start.models)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max_seconds
    solver.parameters.random_seed = 0
    status = solver.solve(program)
    found = start.models
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        found = [model for model in range(models) if solver.boolean_value(serve[model])]
    # The order of choice, and the value after each, are greedy's within the set.
    ordered = _greedy(quality[:, found], len(found), lazy=True)
    if start.value_by_size and (not ordered.value_by_size or ordered.value_by_size[-1] < start.value_by_size[-1]):
        found, ordered = list(range(models)), start
    value = ordered.value_by_size[-1] if ordered.value_by_size else 0.0
    bound = start.bound
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        bound = min(start.bound, solver.best_objective_bound * unit * (1 + 1e-12) / queries)
    return Universe(
        models=[found[model] for model in ordered.models],
        value_by_size=ordered.value_by_size,
        bound=max(bound, value),
        evaluations=start.evaluations,
    )
