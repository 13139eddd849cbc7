"""Budgeted assignment of queries to models, and the choice of models to serve. Knows nothing of language models."""

from solvers.assignment import Assignment
from solvers.dual import PROVED
from solvers.exact import exact
from solvers.frontier import Frontier, frontier
from solvers.greedy import greedy_ratio
from solvers.lagrangian import at_price, lagrangian
from solvers.problem import InfeasibleBudget, InfeasibleProblem, InfeasibleValue, Problem, ProblemError
from solvers.solve import SOLVERS, check_solver, solve
from solvers.universe import Universe, build_universe

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
