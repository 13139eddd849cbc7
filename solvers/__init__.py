"""Budgeted assignment of queries to models, and the choice of models to serve. Knows nothing of language models."""

from solvers.exact import exact
from solvers.greedy import greedy_ratio
from solvers.lagrangian import lagrangian
from solvers.problem import Assignment, InfeasibleBudget, InfeasibleProblem, Problem, ProblemError
from solvers.universe import Universe, build_universe

__all__ = [
    "Assignment",
    "InfeasibleBudget",
    "InfeasibleProblem",
    "Problem",
    "ProblemError",
    "Universe",
    "build_universe",
    "exact",
    "greedy_ratio",
    "lagrangian",
]
