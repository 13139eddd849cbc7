"""One door to all solvers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from solvers._exact import exact
from solvers._greedy import check_known, greedy_ratio
from solvers._lagrangian import lagrangian
from solvers.assignment import Assignment
from solvers.errors import ProblemError, shown
from solvers.problem import Problem

SOLVERS: dict[str, Callable[..., Assignment]] = {
    "greedy_ratio": greedy_ratio,
    "lagrangian": lagrangian,
    "exact": exact,
}
"""The solvers by name: each takes a `Problem` and its own options, and returns an `Assignment`."""
EXACT_QUERIES = 20_000
"""Up to here `exact` proves optimality in seconds; beyond, the Lagrangian's gap is far below the error of any estimates."""


def solve(problem: Problem, solver: str = "auto", **options: Any) -> Assignment:
    """Assign with the solver of this name: `greedy_ratio`, `lagrangian` or `exact`.

    `auto` takes `exact` up to 20,000 queries and `lagrangian` beyond; the `reason` of the `Assignment` names the choice.
    `options` are passed to the solver; with `auto` they are those of `exact`, such as `max_seconds`, for where it is taken.
    Raises `ProblemError` for an unknown name, and as the solver does.
    """
    check_solver(problem, solver)
    if solver != "auto":
        return SOLVERS[solver](problem, **options)
    few = len(problem) <= EXACT_QUERIES
    found = exact(problem, **options) if few else lagrangian(problem)
    why = "up to" if few else "more than"
    return found.changed(reason=f"taken since {len(problem):,} queries are {why} {EXACT_QUERIES:,}")


def check_solver(problem: Problem, solver: str) -> None:
    """Check before any work that `solve` accepts this solver for this problem.

    Raises `ProblemError` for an unknown name, and for constraints that the solver does not consider.
    """
    if solver not in ("auto", *SOLVERS):
        raise ProblemError(f"solver={shown(solver)} must be one of auto, {', '.join(SOLVERS)}")
    if solver == "greedy_ratio":
        check_known(problem)
