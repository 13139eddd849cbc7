"""The best set of models to serve, as an integer programme in OR-Tools CP-SAT; for small pools."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from ortools.sat.python import cp_model

from solvers.coverage import Limits

UNITS = 2**30
"""Quality is counted in this part of the largest, cost in this part of the budget."""


def best_cover(
    quality: Float[np.ndarray, "queries models"], limits: Limits, start: list[int], max_seconds: float
) -> tuple[list[int], float]:
    """The best set found, and a bound on the mean quality of all.

    Facility location: maximise sum_j sum_i quality[j, i] y[j, i] with y[j, i] <= x[i], sum_i y[j, i] <= 1 and
    sum_i cost[i] x[i] <= budget. Qualities are rounded up and costs down, so that the solver's bound holds; a set that only
    rounding let in is not returned.
    """
    queries, models = quality.shape
    unit = (quality.max() or 1.0) / UNITS
    program = cp_model.CpModel()
    serve = [program.new_bool_var("") for _ in range(models)]
    for model in range(models):
        program.add_hint(serve[model], model in start)
    for model in limits.required:
        program.add(serve[model] == 1)
    for model in limits.banned:
        program.add(serve[model] == 0)
    if limits.budget > 0:
        cost_unit = limits.budget / UNITS if limits.cost_matters else 1.0
        # What costs more than the budget counts as twice it: large enough, and small enough for integers.
        weights = [math.floor(cost / cost_unit) for cost in np.minimum(limits.cost, 2 * limits.budget)]
        most = math.ceil(limits.budget / cost_unit) + limits.cost_matters
        program.add(cp_model.LinearExpr.weighted_sum(serve, weights) <= most)
    else:
        for model in np.flatnonzero(limits.cost > 0):
            program.add(serve[model] == 0)
    terms, gains = [], []
    for row in range(queries):
        answers = []
        for model in np.flatnonzero(quality[row] > 0):
            answer = program.new_bool_var("")
            program.add_implication(answer, serve[model])
            answers.append(answer)
            terms.append(answer)
            gains.append(math.ceil(quality[row, model] / unit))
        program.add_at_most_one(answers)
    program.maximize(cp_model.LinearExpr.weighted_sum(terms, gains))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max_seconds
    solver.parameters.random_seed = 0
    # With it, OR-Tools 9.15 removes solutions and proves too little (google/or-tools#5293).
    solver.parameters.presolve_inclusion_work_limit = 0
    status = solver.solve(program)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return start, math.inf
    bound = solver.best_objective_bound * unit * (1 + 1e-12) / queries
    found = [model for model in range(models) if solver.boolean_value(serve[model])]
    within = limits.allows(0.0, math.fsum(limits.cost[found]))
    return (found if within else start), bound
