"""One price for all queries: near-optimal assignments of any size, with a proof.

The price is the Lagrangian dual's (`dual.py`); the choices that go with it leave a little of the budget, which then buys the
upgrades that lose least against the price.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.assignment import Assignment, assignment
from solvers.choices import Choices, Part, best_of
from solvers.dual import PROVED, Dual, dual_bound, search
from solvers.grid import round_down
from solvers.problem import Problem, ProblemError

CANDIDATES = 4_096
"""Queries among which the rest of the budget is spent."""
MOST_LOOKS = 4
"""Times that all queries are searched for something that the rest of the budget still buys."""


def lagrangian(problem: Problem) -> Assignment:
    """A near-optimal assignment and its proved bound; `optimal` where the bound closes to within rounding."""
    started = time.perf_counter()
    dual = search(problem, problem.cheapest)
    choice = fill(problem, dual.choice, dual)
    value, _ = problem.totals(choice)
    bound = round_down(dual.bound, problem.steps, problem.magnitude)
    closed = bound - value <= PROVED * problem.magnitude
    return assignment(
        problem,
        choice,
        bound=bound,
        price=dual.price,
        tolls=dual.tolls,
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
    roomy = Problem(value, cost_usd, available=available)
    choice = roomy.best_at(price)
    problem = replace(roomy, budget_usd=roomy.totals(choice)[1])
    return assignment(
        problem,
        choice,
        bound=dual_bound(problem, price),
        price=price,
        status="optimal",
        seconds=time.perf_counter() - started,
        solver="at_price",
    )


def fill(problem: Choices, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """Spend what `choice` leaves of the budget, and of the places, on the upgrades that lose least at the dual's price.

    The queries whose upgrades lose least are looked at first; where nothing fits among them any more, all are looked at
    again, a few times.
    """
    for _ in range(MOST_LOOKS):
        rows = _cheapest_upgrades(problem, choice, dual)
        if not rows.size:
            break
        part = problem.part(rows, choice)
        choice = part.whole(_fill(part, choice[rows], dual))
    return choice


def _cheapest_upgrades(problem: Choices, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " rows"]:
    """The queries, at most CANDIDATES, with an upgrade that fits and loses least."""
    left = problem.limit - problem.totals(choice)[1]
    values, costs = problem.picked(choice)
    full = problem.spare(choice) <= 0
    loss = np.full(len(problem), np.inf)
    for rows, value, cost in problem.chunks():
        allowed = (value > values[rows, None]) & (cost - costs[rows, None] <= left)
        if problem.places is not None:
            allowed &= ~full
        offering = np.flatnonzero(allowed.any(axis=1))
        if offering.size:
            worth = dual.reduced(value, cost)
            best = np.where(allowed, worth, -np.inf)[offering].max(axis=1)
            place = rows.start + offering
            loss[place] = worth[offering, choice[place]] - best
    offering = np.flatnonzero(loss < np.inf)
    if len(offering) > CANDIDATES:
        offering = np.sort(offering[np.argpartition(loss[offering], CANDIDATES)[:CANDIDATES]])
    return offering


def _fill(problem: Part, choice: Int[np.ndarray, " queries"], dual: Dual) -> Int[np.ndarray, " queries"]:
    """In rounds: every query offers its best upgrade that still fits; the offers are taken in order until the first that
    does not fit any more. Every round takes at least one, and every taken one adds value.
    """
    value, cost = problem.choices
    rows = np.arange(len(value))
    choice = choice.copy()
    worth = dual.reduced(value, cost)
    while True:
        spare = problem.spare(choice)
        left = problem.limit - problem.totals(choice)[1]
        gain = value - value[rows, choice][:, None]
        extra = cost - cost[rows, choice][:, None]
        allowed = (gain > 0) & (extra <= left) & (spare > 0)
        offering = np.flatnonzero(allowed.any(axis=1))
        if not offering.size:
            return choice
        upgrade = best_of(np.where(allowed, worth, -np.inf)[offering], gain[offering])
        loss = worth[offering, choice[offering]] - worth[offering, upgrade]
        order = np.argsort(loss, kind="stable")
        offering, upgrade = offering[order], upgrade[order]
        taken = int(np.searchsorted(np.maximum.accumulate(np.cumsum(extra[offering, upgrade])), left, side="right"))
        crowded = np.flatnonzero(_turn(upgrade) >= spare[upgrade])
        taken = min(taken, int(crowded[0])) if crowded.size else taken
        while taken:
            tried = choice.copy()
            tried[offering[:taken]] = upgrade[:taken]
            if problem.fits(problem.totals(tried)[1]):
                break
            taken -= 1  # the running sum is not exact
        if not taken:
            return choice
        choice = tried


def _turn(upgrade: Int[np.ndarray, " offers"]) -> Int[np.ndarray, " offers"]:
    """How many earlier offers name the same model."""
    order = np.argsort(upgrade, kind="stable")
    ordered = upgrade[order]
    turn = np.empty(len(upgrade), np.int64)
    turn[order] = np.arange(len(upgrade)) - np.searchsorted(ordered, ordered)
    return turn
