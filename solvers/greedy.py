"""Routoo's cost-aware selector: first come, first served, by value per dollar.

Query after query takes the model with the largest

    value[j, i] / cost[j, i]^alpha

among those that the rest of the budget pays for (Routoo, arXiv:2401.13979, section 3.3). Ties go to the cheaper model.
"""

from __future__ import annotations

import math
import time

import numpy as np

from solvers.lagrangian import search
from solvers.problem import UNANSWERED, Assignment, Problem, ProblemError, assignment, best_of


def greedy_ratio(problem: Problem, alpha: float = 1.0, reserve: bool = True) -> Assignment:
    """The published selector, or with `reserve` one that answers everything.

    `reserve=False` is the paper to the letter: it depends on the order of the queries, and one that fits nowhere is left
    unanswered; its bound is that of the problem with `allow_unanswered`. `reserve=True` keeps the cheapest answer for
    every query still to come. Raises `ProblemError` for an `alpha` that is negative or not finite.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ProblemError(f"alpha={alpha!r} must be finite and >= 0")
    started = time.perf_counter()
    value, cost = problem.choices
    models = problem.value.shape[1]
    rows = np.arange(len(value))
    with np.errstate(divide="ignore", invalid="ignore"):
        # A free answer is worth any price if it is worth anything: value / 0 = inf, and 0 / 0 counts as 0.
        ratio = np.nan_to_num(value / cost**alpha, nan=0.0, posinf=np.inf, neginf=np.finfo(np.float64).min)
    if problem.allow_unanswered:
        # Nobody prefers no answer: it is what is left when nothing fits.
        ratio[:, models] = np.finfo(np.float64).min
    ratio[np.isneginf(value)] = -np.inf
    # What must be kept for the queries after each one.
    cheapest = cost[rows, problem.cheapest]
    choice = np.empty(len(value), np.int64)
    spent = _ExactSum()
    for one in cheapest if reserve else []:
        spent.add(one)
    usual = best_of(ratio, -cost)
    for query in rows:
        if reserve:
            spent.add(-cheapest[query])
        pick = usual[query]
        if math.fsum([*spent.parts, cost[query, pick]]) > problem.spendable_usd:
            fits = np.array([math.fsum([*spent.parts, one]) <= problem.spendable_usd for one in cost[query]])
            fits &= ~np.isneginf(value[query])
            if fits.any():
                pick = best_of(np.where(fits, ratio[query], -np.inf)[None], -np.where(fits, cost[query], np.inf)[None])[0]
            else:
                # With a reserve only rounding can bring us here, and the cheapest answer is paid for.
                pick = problem.cheapest[query] if reserve else UNANSWERED
        choice[query] = pick
        spent.add(cost[query, pick] if pick != UNANSWERED else 0.0)
    if reserve:
        judged = problem
    else:
        judged = Problem(
            problem.value, problem.cost_usd, problem.budget_usd, available=problem.available, allow_unanswered=True
        )
        choice = np.where(choice == UNANSWERED, models, choice)
    seconds = time.perf_counter() - started
    dual = search(judged)
    return assignment(
        judged,
        choice,
        bound=dual.bound,
        multiplier=dual.price,
        status="feasible",
        seconds=seconds,
        solver=f"greedy_ratio(alpha={alpha:g}, reserve={reserve})",
    )


class _ExactSum:
    """A running sum that loses nothing to rounding (Shewchuk 1997, as in `math.fsum`)."""

    def __init__(self) -> None:
        self.parts: list[float] = []

    def add(self, number: float) -> None:
        kept = []
        for part in self.parts:
            if abs(number) < abs(part):
                number, part = part, number
            high = number + part
            low = part - (high - number)
            if low:
                kept.append(low)
            number = high
        self.parts = [*kept, number]

    @property
    def total(self) -> float:
        return math.fsum(self.parts)
