"""One door to all solvers, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from solvers._exact import exact
from solvers._lagrangian import lagrangian
from solvers.assignment import Assignment
from solvers.greedy import check_known, greedy_ratio
from solvers.problem import Problem, ProblemError

SOLVERS: dict[str, Callable[..., Assignment]] = {
    "greedy_ratio": greedy_ratio,
    "lagrangian": lagrangian,
    "exact": exact,
}
EXACT_QUERIES = 20_000
"""Up to here `exact` proves optimality in seconds; beyond, the Lagrangian's bound is closer than estimates are good."""


def solve(problem: Problem, solver: str = "auto", **options: Any) -> Assignment:
    """Assign with the named solver; `auto` takes `exact` up to 20,000 queries and `lagrangian` beyond, and says so.

    `options` go to the solver. Raises `ProblemError` for an unknown name.
    """
    check_solver(problem, solver)
    if solver != "auto":
        return SOLVERS[solver](problem, **options)
    few = len(problem) <= EXACT_QUERIES
    found = (exact if few else lagrangian)(problem, **options)
    why = "up to" if few else "more than"
    return replace(found, reason=f"taken since {len(problem):,} queries are {why} {EXACT_QUERIES:,}")


def check_solver(problem: Problem, solver: str) -> None:
    """Raise the `ProblemError` that `solve` would: an unknown name, or constraints of which that solver knows nothing."""
    if solver not in ("auto", *SOLVERS):
        raise ProblemError(f"solver={solver!r} must be one of auto, {', '.join(SOLVERS)}")
    if solver == "greedy_ratio":
        check_known(problem)
