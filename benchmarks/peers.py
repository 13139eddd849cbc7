"""What else solves the same problems: a plain loop, CP-SAT on the full model, HiGHS, PDLP on the relaxation, apricot."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, eye_array, kron

from solvers import Problem

LARGEST_SUM = 2**40


def plain_greedy(value: list[list[float]], cost: list[list[float]], budget_usd: float, alpha: float) -> list[int]:
    """Routoo's selector as one writes it down: lists, one query after the other, -1 where nothing fits."""
    spent, choice = 0.0, []
    for values, costs in zip(value, cost):
        best, best_ratio, best_cost = -1, -math.inf, 0.0
        for model, (worth, price) in enumerate(zip(values, costs)):
            if spent + price <= budget_usd * (1 + 1e-12):
                ratio = worth / price**alpha
                if ratio > best_ratio or (ratio == best_ratio and price < best_cost):
                    best, best_ratio, best_cost = model, ratio, price
        choice.append(best)
        spent += best_cost if best >= 0 else 0.0
    return choice


def full_cp_sat(problem: Problem, max_seconds: float) -> tuple[float, float, str]:
    """Value, seconds of processor time and status of CP-SAT with a variable per cell.

    Values and costs are counted in 2^-40 of their sums.
    """
    value, cost = problem.choices
    started = time.process_time()
    value_unit, cost_unit = value.max(axis=1).sum() / LARGEST_SUM, problem.limit / LARGEST_SUM
    model = cp_model.CpModel()
    picks = [[model.new_bool_var("") for _ in row] for row in value]
    for row in picks:
        model.add_exactly_one(row)
    flat = [pick for row in picks for pick in row]
    weights = [math.ceil(one / cost_unit) for one in cost.ravel()]
    model.add(cp_model.LinearExpr.weighted_sum(flat, weights) <= LARGEST_SUM)
    model.maximize(cp_model.LinearExpr.weighted_sum(flat, [math.floor(one / value_unit) for one in value.ravel()]))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max_seconds
    status = solver.solve(model)
    choice = np.array([[solver.boolean_value(pick) for pick in row] for row in picks]).argmax(axis=1)
    return problem.totals(choice)[0], time.process_time() - started, solver.status_name(status)


def highs(problem: Problem, max_seconds: float) -> tuple[float, float, str]:
    """The same by scipy's HiGHS."""
    value, cost = problem.choices
    queries, models = value.shape
    started = time.process_time()
    each = kron(eye_array(queries), np.ones((1, models)), format="csr")
    found = milp(
        -value.ravel(),
        constraints=[LinearConstraint(each, 1, 1), LinearConstraint(csr_array(cost.reshape(1, -1)), ub=problem.limit)],
        integrality=np.ones(value.size),
        bounds=Bounds(0, 1),
        options={"time_limit": max_seconds, "mip_rel_gap": 1e-9},
    )
    choice = found.x.reshape(value.shape).argmax(axis=1) if found.x is not None else problem.cheapest
    return problem.totals(choice)[0], time.process_time() - started, "OPTIMAL" if found.status == 0 else "FEASIBLE"


def pdlp_bound(problem: Problem) -> tuple[float, float]:
    """The value of the linear relaxation by OR-Tools' PDLP, and the seconds it took to solve, building not counted."""
    value, cost = problem.choices
    solver = pywraplp.Solver.CreateSolver("PDLP")
    budget = solver.Constraint(-solver.infinity(), problem.limit)
    objective = solver.Objective()
    objective.SetMaximization()
    for values, costs in zip(value.tolist(), cost.tolist()):
        each = solver.Constraint(1, 1)
        for worth, price in zip(values, costs):
            share = solver.NumVar(0, 1, "")
            each.SetCoefficient(share, 1)
            budget.SetCoefficient(share, price)
            objective.SetCoefficient(share, worth)
    started = time.process_time()
    solver.Solve()
    return objective.Value(), time.process_time() - started


def apricot_python() -> Path | None:
    """A Python that has apricot-select: the one that APRICOT_PYTHON names, or this one; None where neither has it."""
    named = os.environ.get("APRICOT_PYTHON")
    if named:
        return Path(named)
    return Path(sys.executable) if importlib.util.find_spec("apricot") else None


def apricot_cover(python: Path, answered: np.ndarray, size: int) -> tuple[float, float]:
    """Share of the queries covered by the set that apricot-select's lazy greedy chooses, and its seconds of processor time."""
    script = Path(__file__).with_name("apricot_cover.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.npy"
        np.save(path, answered)
        run = subprocess.run([python, script, path, str(size)], capture_output=True, text=True, check=True)
    value, seconds = map(float, run.stdout.split())
    return value, seconds
