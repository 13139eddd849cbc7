"""Budgeted assignment of queries to models, and the choice of models to serve. Knows nothing of language models."""

from solvers._exact import exact
from solvers._frontier import Frontier, frontier
from solvers._lagrangian import at_price, lagrangian
from solvers._solve import SOLVERS, check_solver, solve
from solvers.assignment import Assignment
from solvers.dual import PROVED
from solvers.greedy import greedy_ratio
from solvers.problem import InfeasibleBudget, InfeasibleProblem, InfeasibleValue, Problem, ProblemError
from solvers.subset import Universe, build_universe

__all__ = [
    "PROVED",
    "SOLVERS",
    "Assignment",
    "Frontier",
    "InfeasibleBudget",
    "InfeasibleProblem",
    "InfeasibleValue",
    "Problem",
    "ProblemError",
    "Universe",
    "at_price",
    "build_universe",
    "check_solver",
    "exact",
    "frontier",
    "greedy_ratio",
    "lagrangian",
    "solve",
]
