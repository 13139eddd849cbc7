"""One multiplier for all queries: near-optimal assignments of any size, with a proof, or the best ones at a fixed multiplier.

    x_j = argmax_i value[j, i] - multiplier * cost_usd[j, i]

The multiplier is the Lagrangian dual's (`dual.py`). The choices at it leave a little of the budget, which then buys the
upgrades that lose least (`filling.py`).
"""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Bool, Float

from solvers.assignment import Assignment, proved
from solvers.dual import PROVED, dual_bound, search
from solvers.filling import filled
from solvers.grid import round_down
from solvers.inputs import at_least, no_type_check
from solvers.problem import Problem


def lagrangian(problem: Problem) -> Assignment:
    """A near-optimal assignment of any size, with a proved bound.

    One multiplier, value per dollar, holds for all queries; it is the one that minimises the Lagrangian bound (Fisher 1981,
    "The Lagrangian relaxation method for solving integer programming problems"). The gap is at most about the value of one
    query, so that it matters less the larger the batch is.

    Returns an `Assignment` within all constraints. Its status is `optimal` where the bound closes to within rounding, else
    `feasible`. A `Problem` that was built has a solution, so this raises nothing.
    """
    started = time.perf_counter()
    dual = search(problem, problem.cheapest)
    answers = filled(problem, dual.answers, dual)
    bound = round_down(dual.bound, problem.steps, problem.magnitude)
    closed = bound - answers.totals[0] <= PROVED * problem.magnitude
    return proved(
        problem,
        answers.choice,
        totals=answers.totals,
        bound=bound,
        multiplier=dual.multiplier,
        tolls=dual.tolls,
        status="optimal" if closed else "feasible",
        seconds=time.perf_counter() - started,
        solver="lagrangian",
    )


@no_type_check
def at_price(
    value: Float[np.ndarray, "queries models"],
    cost_usd: Float[np.ndarray, "queries models"] | Float[np.ndarray, " models"],
    price: float,
    *,
    available: Bool[np.ndarray, "queries models"] | None = None,
) -> Assignment:
    """Every query by itself to the model with the largest value - price * cost_usd; the cheaper model among equals.

    There is no budget and no look at the other queries, so queries can be assigned one at a time as they arrive. The result is
    the best assignment for the dollars that it happens to cost.

    `value` `(queries, models)`, `cost_usd` in dollars `(queries, models)` or `(models,)`, and `available`, a mask
    `(queries, models)`, are those of a `Problem`. `price` is the multiplier: value per dollar, >= 0; 0 takes the best model.

    Returns an `Assignment` of status `optimal`. Raises `ProblemError` for bad input.
    """
    multiplier = at_least("price", price, 0)
    started = time.perf_counter()
    unlimited = Problem(value, cost_usd, available=available)
    best = unlimited.best_at(multiplier)
    return proved(
        unlimited,
        best.choice,
        totals=best.totals,
        bound=lambda: dual_bound(unlimited.within(best.totals[1]), multiplier),
        multiplier=multiplier,
        status="optimal",
        seconds=time.perf_counter() - started,
        solver="at_price",
    )
