"""The best set of models to serve, as maximum coverage in OR-Tools CP-SAT; for small pools.

The best quality of a set on one query is a sum of steps down its sorted qualities q(1) >= q(2) >= ...,

    max_{i in U} q[j, i] = sum_k (q(k) - q(k+1)) * [U meets the k best models of query j]

so graded qualities are weighted coverage too (Cornuejols, Nemhauser & Wolsey 1980, "A canonical representation of simple
plant location problems"). Equal sets of models are merged over all queries, of which a small pool leaves few:

    maximise  sum_s weight[s] y[s]   subject to   y[s] <= sum_{i in s} x[i],   sum_i cost[i] x[i] <= budget,   x, y in {0, 1}
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from solvers.cp_sat import load_cp_sat, new_solver
from solvers.subset.limits import Limits

UNITS = 2**40
"""Weights are counted in units of their sum over this number."""
COST_UNITS = 2**30
"""Costs are counted in units of the budget over this number."""
BLOCK = 4_096
"""Queries whose qualities are sorted together."""


def best_cover(
    quality: Float[np.ndarray, "queries models"], limits: Limits, start: list[int], max_seconds: float
) -> tuple[list[int], float]:
    """The best set found, beginning with the set `start`, and a bound on the mean quality of all sets within the limits.

    Weights are rounded up and costs down, so that the solver's bound holds; a set that only rounding let in is not returned.
    """
    queries, models = quality.shape
    sets, weights = _cover(quality)
    unit = 1.0 if np.array_equal(weights, np.rint(weights)) else float(weights.sum()) / UNITS
    cp_model = load_cp_sat()
    program = cp_model.CpModel()
    serve = [program.new_bool_var("") for _ in range(models)]
    for model in range(models):
        program.add_hint(serve[model], model in start)
    _add_limits(program, serve, limits)
    met: list[Any] = []
    for members in sets:
        met.append(program.new_bool_var(""))
        program.add_bool_or([serve[model] for model in np.flatnonzero(members)]).only_enforce_if(met[-1])
    program.maximize(cp_model.LinearExpr.weighted_sum(met, [math.ceil(weight / unit) for weight in weights]))
    solver = new_solver(max_seconds)
    status = solver.solve(program)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return start, math.inf
    bound = solver.best_objective_bound * unit * (1 + 1e-12) / queries
    found = [model for model in range(models) if solver.boolean_value(serve[model])]
    within = limits.allows(0.0, math.fsum(limits.cost[found]))
    return (found if within else start), bound


def _add_limits(program: Any, serve: list[Any], limits: Limits) -> None:
    """x[i] = 1 for required models, x[i] = 0 for banned ones, and sum_i cost[i] x[i] <= budget."""
    for model in limits.required:
        program.add(serve[model] == 1)
    for model in limits.banned:
        program.add(serve[model] == 0)
    if limits.budget <= 0:
        for model in np.flatnonzero(limits.cost > 0):
            program.add(serve[model] == 0)
        return
    unit = limits.budget / COST_UNITS if limits.cost_matters else 1.0
    # What costs more than the budget counts as twice it: large enough, and small enough for integers.
    costs = [math.floor(cost / unit) for cost in np.minimum(limits.cost, 2 * limits.budget)]
    most = math.ceil(limits.budget / unit) + limits.cost_matters
    program.add(load_cp_sat().LinearExpr.weighted_sum(serve, costs) <= most)


def _cover(quality: Float[np.ndarray, "queries models"]) -> tuple[Bool[np.ndarray, "sets models"], Float[np.ndarray, " sets"]]:
    """The different sets of the k best models, and the sum of the steps that each is worth."""
    models = quality.shape[1]
    weight_of: dict[bytes, float] = {}
    for start in range(0, len(quality), BLOCK):
        rows = quality[start : start + BLOCK]
        order = np.argsort(-rows, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, order, axis=1)
        steps = ordered - np.pad(ordered[:, 1:], ((0, 0), (0, 1)))
        members = np.zeros_like(rows, bool)
        for rank in range(models):
            np.put_along_axis(members, order[:, rank : rank + 1], True, axis=1)
            worth = np.flatnonzero(steps[:, rank] > 0)
            packed = np.packbits(members[worth], axis=1)
            different, place = np.unique(packed, axis=0, return_inverse=True)
            sums = np.bincount(place.ravel(), weights=steps[worth, rank], minlength=len(different))
            for key, total in zip(different, sums, strict=True):
                weight_of[key.tobytes()] = weight_of.get(key.tobytes(), 0.0) + float(total)
    packed = np.frombuffer(b"".join(weight_of), np.uint8).reshape(-1, -(-models // 8))
    sets = np.unpackbits(packed, axis=1, count=models).astype(bool)
    return sets, np.array(list(weight_of.values()))
