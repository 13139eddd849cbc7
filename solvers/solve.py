"""One door to all solvers, by name."""

from __future__ import annotations

from collections.abc import Callable

from solvers.assignment import Assignment
from solvers.exact import exact
from solvers.greedy import greedy_ratio
from solvers.lagrangian import lagrangian
from solvers.problem import Problem, ProblemError

SOLVERS: dict[str, Callable[..., Assignment]] = {
    "greedy_ratio": greedy_ratio,
    "lagrangian": lagrangian,
    "exact": exact,
}
EXACT_QUERIES = 20_000
"""Up to here `exact` proves optimality in seconds; beyond, the Lagrangian's bound is closer than estimates are good."""


def solve(problem: Problem, solver: str = "auto", **options: float) -> Assignment:
    """Assign with the named solver; `auto` takes `exact` up to 20,000 queries and `lagrangian` beyond.

    `options` go to the solver. Raises `ProblemError` for an unknown name.
    """
    if solver == "auto":
        solver = "exact" if len(problem.value) <= EXACT_QUERIES else "lagrangian"
    if solver not in SOLVERS:
        raise ProblemError(f"solver={solver!r} must be one of auto, {', '.join(SOLVERS)}")
    return SOLVERS[solver](problem, **options)
