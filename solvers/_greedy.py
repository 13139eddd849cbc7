"""Routoo's cost-aware selector: first come, first served, by value per dollar.

Query after query takes the model with the largest

    value[j, i] / cost_usd[j, i]^alpha

among those that the rest of the budget pays for (Routoo, arXiv:2401.13979, section 3.3). Ties go to the cheaper model.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from solvers.assignment import Assignment, proved
from solvers.choices import Answers, best_of
from solvers.dual import Dual, search
from solvers.errors import ProblemError
from solvers.inputs import at_least, no_type_check, switch
from solvers.problem import UNANSWERED, Problem
from solvers.sums import RunningSum, exact_parts

IN_DOUBT = -2
ROUNDING = 8 * sys.float_info.epsilon
SHORTEST, LONGEST = 64, 2**15
"""Queries that are tried at once: doubled where all went well, quartered where the budget changed a choice."""


@no_type_check
def greedy_ratio(problem: Problem, alpha: float = 1.0, reserve: bool = True) -> Assignment:
    """Routoo's published selector (arXiv:2401.13979, section 3.3), or with `reserve` one that answers every query.

    Query after query takes the model with the largest value / cost_usd^alpha among those that the rest of the budget pays for;
    ties go to the cheaper model. The result depends on the order of the queries.

    `alpha` >= 0 weighs the cost: 0 takes the best model while the money lasts. `reserve=False` is the paper to the letter: a
    query for which nothing fits is left unanswered, and the bound is that of the problem with `allow_unanswered`.
    `reserve=True` keeps the cost of the cheapest answer for every query still to come.

    Returns an `Assignment` of status `feasible`, whose bound is the Lagrangian's, computed when it is read. Raises
    `ProblemError` for an `alpha` that is negative or not finite, and for a problem with a capacity or a minimum value, which
    the selector does not consider.
    """
    alpha, reserve = at_least("alpha", alpha, 0), switch("reserve", reserve)
    check_known(problem)
    started = time.perf_counter()
    found = _select(problem, alpha, reserve)
    judged = _Judged(problem, reserve)
    return proved(
        problem,
        found.choice,
        totals=found.totals,
        bound=lambda: judged.dual.bound,
        multiplier=lambda: judged.dual.multiplier,
        status="feasible",
        seconds=time.perf_counter() - started,
        solver=f"greedy_ratio(alpha={alpha:g}, reserve={reserve})",
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the result is compared with, once somebody asks for its bound."""

    problem: Problem
    reserve: bool

    @cached_property
    def dual(self) -> Dual:
        """The Lagrangian dual; of the problem in which queries may stay unanswered, if that is what the selector did."""
        known = self.problem if self.reserve else replace(self.problem, allow_unanswered=True)
        return search(known, known.cheapest)


def check_known(problem: Problem) -> None:
    """Raise `ProblemError` for constraints that the selector does not consider."""
    for name in ("capacity", "minimum_value"):
        if getattr(problem, name) is not None:
            raise ProblemError(f"greedy_ratio knows no {name}: leave it out, or use lagrangian or exact")


def _select(problem: Problem, alpha: float, reserve: bool) -> Answers:
    """The choices of one query after the other, computed for a block of queries at a time.

    What is left of the budget, less what is reserved, only ever falls. So a choice that is made for what is left at the start
    of a block is also the choice at its own turn if it still fits then: a choice that was preferred to it and did not fit,
    fits even less later. A block is taken up to the first query whose choice no longer fits. Sums are rounded here; where that
    could decide, the query is chosen alone, with exact sums.
    """
    kept = problem.picked(problem.cheapest)[1] if reserve else np.zeros(0)
    choice = np.empty(len(problem), np.int32)
    values, costs = RunningSum(), RunningSum()
    spent = exact_parts(kept)
    length, starved = LONGEST, False
    for chunk, value, cost in problem.chunks():
        if starved and not reserve and cost.min() > problem.limit * (1 + ROUNDING) - math.fsum(spent):
            choice[chunk] = UNANSWERED
            continue
        ratio = _ratio(problem, value, cost, alpha)
        usual = best_of(ratio, -cost)
        # What a choice takes of what is left: its cost, or what it costs above the answer that was reserved.
        need = np.broadcast_to(cost - kept[chunk, None] if reserve else cost, value.shape)
        if problem.available is not None:
            need = np.where(np.isneginf(value), np.inf, need)
        cost = np.broadcast_to(cost, value.shape)
        start = 0
        while start < len(value):
            left = problem.limit - math.fsum(spent)
            # That of `left` itself, and of the running sums of a block, which count as long as they are within it.
            rounding = ROUNDING * problem.limit + ROUNDING * length * max(left, 0.0)
            if starved and need[start:].min() > left + rounding:
                # Nothing fits any more.
                choice[chunk.start + start : chunk.stop] = UNANSWERED
                break
            block = slice(start, start + length)
            picks = _picks(ratio[block], cost[block], need[block], usual[block], left, rounding)
            takes = np.where(picks < 0, 0.0, need[block][np.arange(len(picks)), np.maximum(picks, 0)])
            before = left - np.append(0.0, np.cumsum(takes)[:-1])
            certain = (picks != IN_DOUBT) & ((takes <= before - rounding) | (takes == 0))
            taken = len(picks) if certain.all() else int(certain.argmin())
            if taken == 0:
                freed = exact_parts(np.array([*spent, *-kept[chunk.start + start : chunk.start + start + 1]]))
                picks = np.array([_pick_exactly(problem, ratio[start], value[start], cost[start], freed)])
                taken = 1
            picks = picks[:taken]
            starved = bool(picks[-1] == UNANSWERED)
            done = np.flatnonzero(picks != UNANSWERED)
            answered = slice(chunk.start + start, chunk.start + start + taken)
            spent = exact_parts(np.concatenate([spent, cost[start + done, picks[done]], -kept[answered]]))
            choice[answered] = picks
            length = min(2 * length, LONGEST) if taken == length else max(length // 4, SHORTEST)
            start += taken
        answered = np.flatnonzero(choice[chunk] != UNANSWERED)
        column = choice[chunk][answered]
        values.add(value[answered, column])
        costs.add(cost[answered, column])
    return Answers(choice, (values.parts(), costs.parts()))


def _ratio(
    problem: Problem, value: Float[np.ndarray, "block choices"], cost: Float[np.ndarray, "#block choices"], alpha: float
) -> Float[np.ndarray, "block choices"]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = value / (cost if alpha == 1 else cost**alpha)
        # The sum of finite ratios is finite or overflows, which costs no more than a second look.
        finite = math.isfinite(ratio.sum())
    if not finite:
        # A free answer is worth any price if it is worth anything: value / 0 = inf, and 0 / 0 counts as 0.
        ratio = np.nan_to_num(ratio, nan=0.0, posinf=np.inf, neginf=np.finfo(np.float64).min)
    if problem.allow_unanswered:
        # No answer is never preferred: it is taken when nothing else fits.
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
    rounding: float,
) -> Int[np.ndarray, " block"]:
    """The best choice that fits into `left`; UNANSWERED where none does, IN_DOUBT where rounding might decide."""
    picks = usual.copy()
    row = np.arange(len(picks))
    other = np.flatnonzero(need[row, usual] > left - rounding)
    if other.size:
        needs = need[other]
        fits = (needs <= left - rounding) | (needs == 0)
        found = best_of(np.where(fits, ratio[other], -np.inf), np.where(fits, -cost[other], -np.inf))
        found[~fits.any(axis=1)] = UNANSWERED
        found[(~fits & (needs <= left + rounding)).any(axis=1)] = IN_DOUBT
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
