"""The best assignment near a price, by dynamic programming over the queries whose second choice loses least.

At a price every query has a best choice; another one loses its slack >= 0. An assignment that starts from the best choices
and swaps some has lost, against the Lagrangian bound,

    sum of the slacks of its swaps  +  price * (budget - its cost)

Queries are taken in the order of their least slack. A state is a set of swaps so far, known by its cost and its loss; it is
dropped when another state is no dearer and worth at least as much, or when its loss, together with the least slack still
to come, exceeds that of the best assignment known. When no state is left, that assignment is proved best (Pisinger 1995,
"A minimal algorithm for the multiple-choice knapsack problem").
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Choices
from solvers.dual import Dual, slack_rounding

MOST_STATES = 20_000


@dataclass(frozen=True)
class CoreSearch:
    """The best assignment found, and whether it is proved that none is better."""

    choice: Int[np.ndarray, " queries"]
    complete: bool


def search_core(
    problem: Choices,
    dual: Dual,
    incumbent: Int[np.ndarray, " queries"],
    *,
    most_states: int = MOST_STATES,
    max_seconds: float = math.inf,
) -> CoreSearch:
    """Improve `incumbent`, which fits the budget, until nothing better exists, or states or seconds become too many.

    Beyond `most_states` the states with the largest loss are given up, and with them the proof.
    """
    started = time.perf_counter()
    value, cost = problem.choices
    rows = np.arange(len(value))
    losses, price = dual.slack(problem), dual.price
    base = np.argmin(np.where(losses == 0, cost, np.inf), axis=1)
    base_value, base_cost = problem.totals(base)
    # Sums of costs are rounded; a state that breaks the budget by no more than that is looked at exactly.
    room = problem.limit - base_cost + 4 * np.finfo(np.float64).eps * (abs(problem.limit) + abs(base_cost))
    # What rounding can add up to; a loss that is larger by no more than this counts as equal.
    doubt = slack_rounding(problem, price, incumbent)
    known = base_value + price * room - problem.totals(incumbent)[0]

    swapped = losses.copy()
    swapped[rows, base] = np.inf
    least = swapped.min(axis=1)
    order = np.argsort(least, kind="stable")

    costs, lost = np.zeros(1), np.zeros(1)
    steps: list[tuple[int, np.ndarray, np.ndarray]] = []
    complete = True
    for query in order:
        if not len(costs) or least[query] > known + doubt:
            break
        if time.perf_counter() - started > max_seconds:
            return CoreSearch(choice=incumbent, complete=False)
        swaps = np.flatnonzero(swapped[query] <= known + doubt)
        extra = np.append(0.0, cost[query, swaps] - cost[query, base[query]])
        parents = np.tile(np.arange(len(costs)), len(extra))
        picks = np.repeat(np.append(base[query], swaps), len(costs))
        costs = (extra[:, None] + costs).ravel()
        lost = (np.append(0.0, losses[query, swaps])[:, None] + lost).ravel()
        steps.append((int(query), parents, picks))
        total = np.where(costs <= room, lost + price * (room - costs), np.inf)
        if total.min() < known:
            found = _trace(steps, base, int(np.argmin(total)))
            if problem.fits(problem.totals(found)[1]):
                known = float(total.min())
                if problem.totals(found)[0] > problem.totals(incumbent)[0]:
                    incumbent = found
            else:
                complete = False
        # The queries still to come have no smaller slack, so nothing that grows from a state loses less than this.
        kept = np.flatnonzero(lost + least[query] <= known + doubt)
        kept = kept[_undominated(costs[kept], price * costs[kept] - lost[kept])]
        if len(kept) > most_states:
            complete = False
            loss = lost[kept] + price * np.maximum(costs[kept] - room, 0.0)
            kept = kept[np.argsort(loss, kind="stable")[:most_states]]
        steps[-1] = (int(query), parents[kept], picks[kept])
        costs, lost = costs[kept], lost[kept]
    return CoreSearch(choice=incumbent, complete=complete)


def _undominated(cost: Float[np.ndarray, " states"], value: Float[np.ndarray, " states"]) -> Int[np.ndarray, " kept"]:
    """Positions, by rising cost, of the states that are worth more than every cheaper one."""
    order = np.lexsort((-value, cost))
    ordered = value[order]
    before = np.maximum.accumulate(np.append(-math.inf, ordered))[:-1]
    return order[ordered > before]


def _trace(
    steps: list[tuple[int, np.ndarray, np.ndarray]], base: Int[np.ndarray, " queries"], state: int
) -> Int[np.ndarray, " queries"]:
    """The assignment of a state, by following its parents."""
    choice = base.copy()
    for query, parents, picks in reversed(steps):
        choice[query] = picks[state]
        state = int(parents[state])
    return choice
