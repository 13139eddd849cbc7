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

from solvers.choices import Choices, Part, best_of, exact_sum
from solvers.problem import BUDGET_TOLERANCE, Assignment, Problem, ProblemError, assignment

MOST_STEPS = 200
PROVED = 1e-12
"""A gap, relative to the magnitude of the values, that rounding alone explains."""
SMALL = 1_000
"""Queries that are not worth forgetting some of."""
SAMPLE = 20_000
"""Queries of the sample that a large problem's search starts from."""
GUESS_WIDTH = 1.02
"""The sample's price is off by about a hundredth; so far beyond it the other side of the budget is looked for."""
CANDIDATES = 4_096
"""Queries among which the rest of the budget is spent."""
MOST_LOOKS = 4
"""Times that all queries are searched for something that the rest of the budget still buys."""


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
    choice = roomy.best_at(price)
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


@dataclass(frozen=True)
class _Side:
    """The best assignment at a price, on one side of the budget."""

    price: float
    choice: Int[np.ndarray, " queries"]
    value: float
    cost_usd: float


def search(problem: Problem) -> Dual:
    """Minimise L over prices >= 0.

    A query whose best choice is the same at two prices has that choice at every price between them, since its value -
    price * cost is then the tangent of a convex function at both ends. So the search forgets all but the queries on which
    the two sides of the budget differ, and only its first steps read the whole problem.
    """
    dear = _side(problem, 0.0, problem.best_at(0.0))
    if problem.fits(dear.cost_usd):
        return Dual(price=0.0, bound=dear.value, choice=dear.choice)
    cheap = _side(problem, math.inf, problem.cheapest)
    best_price, best_bound = 0.0, dear.value
    guess = _guess(problem) if len(problem) > 4 * SAMPLE else 0.0
    rest: Choices = problem
    parts: list[Part] = []
    for step in range(MOST_STEPS):
        if dear.cost_usd <= cheap.cost_usd:
            break
        price = (dear.value - cheap.value) / (dear.cost_usd - cheap.cost_usd)
        if guessed := guess > 0 and step < 2:
            price = guess if step == 0 else guess * GUESS_WIDTH if dear.price == guess else guess / GUESS_WIDTH
        # The crossing alone can creep along one side; halving the bracket now and then keeps the count logarithmic.
        if halved := not guessed and step % 4 == 3 and math.isfinite(cheap.price):
            price = (dear.price + cheap.price) / 2
        if not dear.price < price < cheap.price:
            break
        found = _side(rest, price, rest.best_at(price))
        bound = price * problem.budget_usd + (found.value - price * found.cost_usd)
        if bound < best_bound:
            best_price, best_bound = price, bound
        old = cheap if problem.fits(found.cost_usd) else dear
        if old is cheap:
            cheap = found
        else:
            dear = found
        if (found.value, found.cost_usd) == (old.value, old.cost_usd) and not (guessed or halved):
            break
        undecided = np.flatnonzero(dear.choice != cheap.choice)
        if 2 * len(undecided) <= len(rest) and len(rest) > SMALL:
            rest = rest.part(undecided, cheap.choice)
            parts.append(rest)
            dear, cheap = (replace(side, choice=side.choice[undecided]) for side in (dear, cheap))
    choice = cheap.choice
    for part in reversed(parts):
        choice = part.whole(choice)
    return Dual(price=best_price, bound=dual_bound(problem, best_price), choice=choice)


def _side(problem: Choices, price: float, choice: Int[np.ndarray, " queries"]) -> _Side:
    return _Side(price, choice, *problem.totals(choice))


def _guess(problem: Problem) -> float:
    """The best price of an even sample of a large problem, with its share of the budget."""
    part = problem.part(np.linspace(0, len(problem) - 1, SAMPLE).astype(int), problem.cheapest)
    value, cost = part.choices
    usable = ~np.isneginf(value)
    least = exact_sum(part.picked(problem.cheapest[part.rows])[1])
    budget = max(problem.budget_usd * SAMPLE / len(problem), least)
    return search(Problem(np.where(usable, value, 0.0), cost, budget, available=usable)).price


def dual_bound(problem: Choices, price: float) -> float:
    """L(price), rounded outward: no assignment that fits the budget, tolerance included, is worth more."""
    best = np.empty(len(problem))
    for rows, value, cost in problem.chunks():
        reduced = value - price * cost
        best[rows] = reduced[np.arange(len(reduced)), reduced.argmax(axis=1)]
    value, cost = problem.settled
    total = exact_sum(best, value, [-price * one for one in cost], [price * problem.budget_usd])
    # Each reduced value is off by at most one rounding of the product and one of the difference.
    rounding = 2 * np.finfo(np.float64).eps * (problem.magnitude + 2 * price * problem.dearest_usd + abs(total))
    return total + rounding + 2 * BUDGET_TOLERANCE * price * problem.budget_usd


def fill(problem: Choices, choice: Int[np.ndarray, " queries"], price: float) -> Int[np.ndarray, " queries"]:
    """Spend what `choice` leaves of the budget on the upgrades that lose least against `price`.

    The queries whose upgrades lose least are looked at first; where nothing fits among them any more, all are looked at
    again, a few times.
    """
    for _ in range(MOST_LOOKS):
        rows = _cheapest_upgrades(problem, choice, price)
        if not rows.size:
            break
        part = problem.part(rows, choice)
        choice = part.whole(_fill(part, choice[rows], price))
    return choice


def _cheapest_upgrades(problem: Choices, choice: Int[np.ndarray, " queries"], price: float) -> Int[np.ndarray, " rows"]:
    """The queries, at most CANDIDATES, with an upgrade that fits and loses least."""
    left = problem.spendable_usd - problem.totals(choice)[1]
    values, costs = problem.picked(choice)
    loss = np.full(len(problem), np.inf)
    for rows, value, cost in problem.chunks():
        allowed = (value > values[rows, None]) & (cost - costs[rows, None] <= left)
        offering = np.flatnonzero(allowed.any(axis=1))
        if offering.size:
            reduced = np.where(allowed, value - price * cost, -np.inf)[offering]
            best = reduced[np.arange(len(offering)), reduced.argmax(axis=1)]
            place = rows.start + offering
            loss[place] = values[place] - price * costs[place] - best
    offering = np.flatnonzero(loss < np.inf)
    if len(offering) > CANDIDATES:
        offering = np.sort(offering[np.argpartition(loss[offering], CANDIDATES)[:CANDIDATES]])
    return offering


def _fill(problem: Part, choice: Int[np.ndarray, " queries"], price: float) -> Int[np.ndarray, " queries"]:
    """In rounds: every query offers its best upgrade that still fits; the offers are taken in order until the first that
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


def slack(problem: Choices, price: float) -> Float[np.ndarray, "queries choices"]:
    """How much every choice loses against its query's best at `price`; >= 0, infinite where not available."""
    value, cost = problem.choices
    reduced = value - price * cost
    return reduced.max(axis=1, keepdims=True) - reduced
