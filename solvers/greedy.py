"""Routoo's cost-aware selector: first come, first served, by value per dollar.

Query after query takes the model with the largest

    value[j, i] / cost[j, i]^alpha

among those that the rest of the budget pays for (Routoo, arXiv:2401.13979, section 3.3). Ties go to the cheaper model.
"""

from __future__ import annotations

import math
import time

import numpy as np
from jaxtyping import Float, Int

from solvers.assignment import Assignment, assignment
from solvers.choices import best_of, exact_parts
from solvers.dual import search
from solvers.problem import UNANSWERED, Problem, ProblemError

IN_DOUBT = -2
SHORTEST, LONGEST = 64, 2**15
"""Queries that are tried at once: doubled where all went well, quartered where the budget changed a choice."""


def greedy_ratio(problem: Problem, alpha: float = 1.0, reserve: bool = True) -> Assignment:
    """The published selector, or with `reserve` one that answers everything.

    `reserve=False` is the paper to the letter: it depends on the order of the queries, and one that fits nowhere is left
    unanswered; its bound is that of the problem with `allow_unanswered`. `reserve=True` keeps the cheapest answer for
    every query still to come. Raises `ProblemError` for an `alpha` that is negative or not finite, and for a problem with
    capacities or a minimum value, of which it knows nothing.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ProblemError(f"alpha={alpha!r} must be finite and >= 0")
    check_known(problem)
    started = time.perf_counter()
    choice = _select(problem, alpha, reserve)
    seconds = time.perf_counter() - started
    judged = problem
    if not reserve:
        judged = Problem(
            problem.value, problem.cost_usd, problem.budget_usd, available=problem.available, allow_unanswered=True
        )
        choice = np.where(choice == UNANSWERED, problem.value.shape[1], choice)
    dual = search(judged, judged.cheapest)
    return assignment(
        judged,
        choice,
        bound=dual.bound,
        price=dual.price,
        status="feasible",
        seconds=seconds,
        solver=f"greedy_ratio(alpha={alpha:g}, reserve={reserve})",
    )


def check_known(problem: Problem) -> None:
    """Raise `ProblemError` for constraints that the selector knows nothing of."""
    for name in ("capacity", "minimum_value"):
        if getattr(problem, name) is not None:
            raise ProblemError(f"greedy_ratio knows no {name}: leave it out, or use lagrangian or exact")


def _select(problem: Problem, alpha: float, reserve: bool) -> Int[np.ndarray, " queries"]:
    """One query after the other, many at a time.

    What is left of the budget, less what is reserved, only ever falls. So a choice that is made for what is left at the start
    of a block is the choice at its own turn as well if it still fits then: what was preferred to it and did not fit fits
    even less. A block is taken up to the first query whose choice does not. Sums are rounded here; where that could
    decide, the query is chosen alone, with exact sums.
    """
    kept = problem.picked(problem.cheapest)[1] if reserve else np.zeros(len(problem))
    doubt = 8 * np.finfo(np.float64).eps * len(problem) * problem.limit
    choice = np.empty(len(problem), np.int64)
    spent = exact_parts(kept)
    length = LONGEST
    for chunk, value, cost in problem.chunks():
        ratio = _ratio(problem, value, cost, alpha)
        usual = best_of(ratio, -cost)
        # What a choice takes of what is left: its cost, or what it costs more than the answer that was reserved.
        need = np.broadcast_to(cost - kept[chunk, None] if reserve else cost, value.shape)
        if problem.available is not None:
            need = np.where(np.isneginf(value), np.inf, need)
        cost = np.broadcast_to(cost, value.shape)
        start = 0
        while start < len(value):
            left = problem.limit - math.fsum(spent)
            if not reserve and need[start:].min() > left + doubt:
                # Nothing fits any more.
                choice[chunk.start + start : chunk.stop] = UNANSWERED
                break
            block = slice(start, start + length)
            picks = _picks(ratio[block], cost[block], need[block], usual[block], left, doubt)
            takes = np.where(picks < 0, 0.0, need[block][np.arange(len(picks)), picks])
            before = left - np.append(0.0, np.cumsum(takes)[:-1])
            certain = (picks != IN_DOUBT) & ((takes <= before - doubt) | (takes == 0))
            taken = len(picks) if certain.all() else int(certain.argmin())
            if taken == 0:
                freed = exact_parts(np.array([*spent, -kept[chunk.start + start]]))
                picks = np.array([_pick_exactly(problem, ratio[start], value[start], cost[start], freed)])
                taken = 1
            picks = picks[:taken]
            done = np.flatnonzero(picks != UNANSWERED)
            answered = slice(chunk.start + start, chunk.start + start + taken)
            spent = exact_parts(np.concatenate([spent, cost[start + done, picks[done]], -kept[answered]]))
            choice[answered] = picks
            length = min(2 * length, LONGEST) if taken == length else max(length // 4, SHORTEST)
            start += taken
    return choice


def _ratio(
    problem: Problem, value: Float[np.ndarray, "block choices"], cost: Float[np.ndarray, "#block choices"], alpha: float
) -> Float[np.ndarray, "block choices"]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = value / cost**alpha
    if not np.isfinite(ratio).all():
        # A free answer is worth any price if it is worth anything: value / 0 = inf, and 0 / 0 counts as 0.
        ratio = np.nan_to_num(ratio, nan=0.0, posinf=np.inf, neginf=np.finfo(np.float64).min)
    if problem.allow_unanswered:
        # Nobody prefers no answer: it is what is left when nothing fits.
        ratio[:, -1] = np.finfo(np.float64).min
    if problem.available is not None:
        ratio[np.isneginf(value)] = -np.inf
    return ratio


def _picks(
    ratio: Float[np.ndarray, "block choices"],
    cost: Float[np.ndarray, "block choices"],
    need: Float[np.ndarray, "block choices"],
    usual: Int[np.ndarray, " block"],
    left: float,
    doubt: float,
) -> Int[np.ndarray, " block"]:
    """The best choice that fits into `left`; UNANSWERED where none does, IN_DOUBT where rounding might decide."""
    picks = usual.copy()
    row = np.arange(len(picks))
    other = np.flatnonzero(need[row, usual] > left - doubt)
    if other.size:
        needs = need[other]
        fits = (needs <= left - doubt) | (needs == 0)
        found = best_of(np.where(fits, ratio[other], -np.inf), np.where(fits, -cost[other], -np.inf))
        found[~fits.any(axis=1)] = UNANSWERED
        found[(~fits & (needs <= left + doubt)).any(axis=1)] = IN_DOUBT
        picks[other] = found
    return picks


def _pick_exactly(
    problem: Problem,
    ratio: Float[np.ndarray, " choices"],
    value: Float[np.ndarray, " choices"],
    cost: Float[np.ndarray, " choices"],
    spent: list[float],
) -> int:
    """The best choice of one query that fits beside `spent`, summed exactly."""
    fits = np.array([math.fsum([*spent, one]) <= problem.limit for one in cost]) & ~np.isneginf(value)
    if not fits.any():
        return UNANSWERED
    return int(best_of(np.where(fits, ratio, -np.inf)[None], np.where(fits, -cost, -np.inf)[None])[0])
