"""One price for all queries: near-optimal assignments of any size, with a proof.

Relaxing the budget with a multiplier gives, for every price >= 0, an upper bound (Fisher 1981, "The Lagrangian
relaxation method for solving integer programming problems", section 2):

    L(price) = price * budget + sum_j max_i (value[j, i] - price * cost[j, i])

L is convex and piecewise linear; its least value is the linear relaxation's. The search keeps the best assignment found
on either side of the budget and goes to where their two lines cross, which ends at the exact breakpoint. What the
cheaper side leaves of the budget then buys the upgrades that lose least against the price.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.problem import BUDGET_TOLERANCE, Assignment, Problem, ProblemError, assignment, best_of

MOST_STEPS = 200
PROVED = 1e-12
"""A gap, relative to the magnitude of the values, that rounding alone explains."""


def lagrangian(problem: Problem) -> Assignment:
    """A near-optimal assignment and its proved bound; `optimal` where the bound closes to within rounding."""
    started = time.perf_counter()
    dual = search(problem)
    choice = fill(problem, dual.choice, dual.price)
    value, _ = problem.totals(choice)
    closed = dual.bound - value <= PROVED * problem.magnitude
    return assignment(
        problem,
        choice,
        bound=dual.bound,
        multiplier=dual.price,
        status="optimal" if closed else "feasible",
        seconds=time.perf_counter() - started,
        solver="lagrangian",
    )


def at_price(
    value: Float[np.ndarray, "queries models"],
    cost_usd: Float[np.ndarray, "queries models"] | Float[np.ndarray, " models"],
    price: float,
    *,
    available: Bool[np.ndarray, "queries models"] | None = None,
) -> Assignment:
    """Every query on its own to the model with the most value - price * cost: no budget, no look at the other queries.

    It is the best assignment for the budget that it happens to need. Raises `ProblemError` for bad input.
    """
    if not (math.isfinite(price) and price >= 0):
        raise ProblemError(f"price={price!r} must be finite and >= 0, in value per dollar")
    started = time.perf_counter()
    roomy = Problem(value, cost_usd, sys.float_info.max / 2, available=available)
    values, costs = roomy.choices
    choice = best_of(values - price * costs, -costs)
    problem = replace(roomy, budget_usd=roomy.totals(choice)[1])
    return assignment(
        problem,
        choice,
        bound=dual_bound(problem, price),
        multiplier=price,
        status="optimal",
        seconds=time.perf_counter() - started,
        solver="at_price",
    )


@dataclass(frozen=True)
class Dual:
    """The best price found: a proved bound, and the assignment within the budget that goes with it."""

    price: float
    bound: float
    choice: Int[np.ndarray, " queries"]


def search(problem: Problem) -> Dual:
    """Minimise L over prices >= 0."""
    value, cost = problem.choices
    dear = best_of(value, -cost)
    dear_value, dear_cost = problem.totals(dear)
    if problem.fits(dear_cost):
        return Dual(price=0.0, bound=dear_value, choice=dear)
    cheap = problem.cheapest
    cheap_value, cheap_cost = problem.totals(cheap)
    best_price, best_bound = 0.0, dual_bound(problem, 0.0)
    # The crossing alone can creep along one side; halving the bracket now and then keeps the count logarithmic.
    low, high = 0.0, math.inf
    for step in range(MOST_STEPS):
        if dear_cost <= cheap_cost:
            break
        price = (dear_value - cheap_value) / (dear_cost - cheap_cost)
        if step % 4 == 3 and math.isfinite(high):
            price = (low + high) / 2
        if not low < price < high:
            break
        choice = best_of(value - price * cost, -cost)
        found_value, found_cost = problem.totals(choice)
        bound = dual_bound(problem, price)
        if bound < best_bound:
            best_price, best_bound = price, bound
        if problem.fits(found_cost):
            # An assignment at the best price on the inner side of the budget is the better start for filling.
            finished = found_value == cheap_value and found_cost == cheap_cost
            high, cheap, cheap_value, cheap_cost = price, choice, found_value, found_cost
        else:
            finished = found_value == dear_value and found_cost == dear_cost
            low, dear_value, dear_cost = price, found_value, found_cost
        if finished and step % 4 != 3:
            break
    return Dual(price=best_price, bound=best_bound, choice=cheap)


def dual_bound(problem: Problem, price: float) -> float:
    """L(price), rounded outward: no assignment that fits the budget, tolerance included, is worth more."""
    value, cost = problem.choices
    reduced = value - price * cost
    total = math.fsum(reduced.max(axis=1)) + price * problem.budget_usd
    # Each reduced value is off by at most one rounding of the product and one of the difference.
    largest = np.where(np.isneginf(value), 0.0, np.abs(value)).max(axis=1) + 2 * price * cost.max(axis=1)
    rounding = np.finfo(np.float64).eps * (math.fsum(largest) + abs(total))
    return total + rounding + 2 * BUDGET_TOLERANCE * price * problem.budget_usd


def fill(problem: Problem, choice: Int[np.ndarray, " queries"], price: float) -> Int[np.ndarray, " queries"]:
    """Spend what `choice` leaves of the budget on the upgrades that lose least against `price`.

    In rounds: every query offers its best upgrade that still fits; the offers are taken in order until the first that
    does not fit any more. Every round takes at least one, and every taken one adds value.
    """
    value, cost = problem.choices
    rows = np.arange(len(value))
    choice = choice.copy()
    reduced = value - price * cost
    while True:
        left = problem.spendable_usd - problem.totals(choice)[1]
        gain = value - value[rows, choice][:, None]
        extra = cost - cost[rows, choice][:, None]
        allowed = (gain > 0) & (extra <= left)
        offering = np.flatnonzero(allowed.any(axis=1))
        if not offering.size:
            return choice
        upgrade = best_of(np.where(allowed, reduced, -np.inf)[offering], gain[offering])
        loss = reduced[offering, choice[offering]] - reduced[offering, upgrade]
        order = np.argsort(loss, kind="stable")
        offering, upgrade = offering[order], upgrade[order]
        taken = int(np.searchsorted(np.maximum.accumulate(np.cumsum(extra[offering, upgrade])), left, side="right"))
        while taken:
            tried = choice.copy()
            tried[offering[:taken]] = upgrade[:taken]
            if problem.fits(problem.totals(tried)[1]):
                break
            taken -= 1  # the running sum is not exact
        if not taken:
            return choice
        choice = tried


def slack(problem: Problem, price: float) -> Float[np.ndarray, "queries choices"]:
    """How much every choice loses against its query's best at `price`; >= 0, infinite where not available."""
    value, cost = problem.choices
    reduced = value - price * cost
    return reduced.max(axis=1, keepdims=True) - reduced
