"""The best assignment near a multiplier, by dynamic programming over the queries whose second choice loses least.

At a multiplier every query has a best choice; another one loses its slack >= 0. An assignment that starts from the best
choices and swaps some has lost, against the Lagrangian bound,

    sum of the slacks of its swaps  +  multiplier * (limit - its cost)

Queries are taken in the order of their least slack. A state is a set of swaps so far, known by its cost and its loss. It is
dropped when another state costs no more and is worth at least as much, or when its loss, together with the least slack still
to come, exceeds that of the best assignment known. When no state is left, that assignment is proved best (Pisinger 1995,
"A minimal algorithm for the multiple-choice knapsack problem"). It considers no capacities.
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
class StateSearch:
    """The best assignment found, and whether it is proved that none is better."""

    choice: Int[np.ndarray, " queries"]
    complete: bool


def search_states(
    problem: Choices,
    dual: Dual,
    incumbent: Int[np.ndarray, " queries"],
    *,
    most_states: int = MOST_STATES,
    max_seconds: float = math.inf,
) -> StateSearch:
    """Improve `incumbent`, which is within the limit, until nothing better exists, or states or seconds become too many.

    Beyond `most_states` the states with the largest loss are given up, and with them the proof.
    """
    started = time.perf_counter()
    swaps = _swaps_of(problem, dual)
    base_value, base_cost = problem.totals(swaps.base)
    # Sums of costs are rounded; a state that breaks the limit by no more than that is checked exactly.
    room = problem.limit - base_cost + 4 * np.finfo(np.float64).eps * (abs(problem.limit) + abs(base_cost))
    # What rounding can add up to; a loss that is larger by no more than this counts as equal.
    rounding = slack_rounding(problem, dual.multiplier, incumbent)
    known = base_value + dual.multiplier * room - problem.totals(incumbent)[0]

    states = _States(np.zeros(1), np.zeros(1))
    steps: list[_Step] = []
    complete = True
    for query in swaps.order.tolist():
        least = swaps.least[query]
        if not len(states.cost) or least > known + rounding:
            break
        if time.perf_counter() - started > max_seconds:
            return StateSearch(incumbent, complete=False)
        states, step = _grown(states, swaps, query, known + rounding)
        total = states.total_loss(room, dual.multiplier)
        if total.min() < known:
            found = _trace([*steps, step], swaps.base, int(np.argmin(total)))
            value, cost = problem.totals(found)
            if problem.fits(cost):
                known = float(total.min())
                if value > problem.totals(incumbent)[0]:
                    incumbent = found
            else:
                complete = False
        # The queries still to come have no smaller slack, so nothing that grows from a state loses less than this.
        kept = np.flatnonzero(states.loss + least <= known + rounding)
        kept = kept[_undominated(states.cost[kept], dual.multiplier * states.cost[kept] - states.loss[kept])]
        if len(kept) > most_states:
            complete = False
            kept = kept[states.most_promising(kept, room, dual.multiplier, most_states)]
        states = _States(states.cost[kept], states.loss[kept])
        steps.append(_Step(query, step.parent[kept], step.pick[kept]))
    return StateSearch(incumbent, complete)


@dataclass(frozen=True)
class _Swaps:
    """The best choices at the multiplier, and what it loses and costs to swap them."""

    base: Int[np.ndarray, " queries"]
    """The best choice of every query, the cheapest among equals."""
    loss: Float[np.ndarray, "queries choices"]
    """The slack of every other choice; infinite for the base."""
    extra: Float[np.ndarray, "queries choices"]
    """What every choice costs more than the base."""
    least: Float[np.ndarray, " queries"]
    """The least loss of a swap."""
    order: Int[np.ndarray, " queries"]
    """The queries by rising least loss."""


def _swaps_of(problem: Choices, dual: Dual) -> _Swaps:
    _, cost = problem.choices
    rows = np.arange(len(cost))
    loss = dual.slack(problem)
    base = np.argmin(np.where(loss == 0, cost, np.inf), axis=1)
    loss[rows, base] = np.inf
    least = loss.min(axis=1)
    return _Swaps(base, loss, cost - cost[rows, base][:, None], least, np.argsort(least, kind="stable"))


@dataclass(frozen=True)
class _States:
    """Sets of swaps, each with its cost above the base's and its loss."""

    cost: Float[np.ndarray, " states"]
    loss: Float[np.ndarray, " states"]

    def total_loss(self, room: float, multiplier: float) -> Float[np.ndarray, " states"]:
        """What the assignments lose against the bound; infinite for those that break the limit."""
        return np.where(self.cost <= room, self.loss + multiplier * (room - self.cost), np.inf)

    def most_promising(
        self, kept: Int[np.ndarray, " kept"], room: float, multiplier: float, count: int
    ) -> Int[np.ndarray, " most"]:
        """Positions in `kept` of the `count` states that lose least, where breaking the limit counts as a loss too."""
        loss = self.loss[kept] + multiplier * np.maximum(self.cost[kept] - room, 0.0)
        return np.argsort(loss, kind="stable")[:count]


@dataclass(frozen=True)
class _Step:
    """One query: for every state after it the state before, and the query's choice."""

    query: int
    parent: Int[np.ndarray, " states"]
    pick: Int[np.ndarray, " states"]


def _grown(states: _States, swaps: _Swaps, query: int, most: float) -> tuple[_States, _Step]:
    """Every state with the query's base, and with every swap of it that loses at most `most`."""
    columns = np.flatnonzero(swaps.loss[query] <= most)
    extra = np.append(0.0, swaps.extra[query, columns])
    loss = np.append(0.0, swaps.loss[query, columns])
    count = len(states.cost)
    parent = np.tile(np.arange(count), len(extra))
    pick = np.repeat(np.append(swaps.base[query], columns), count)
    grown = _States((extra[:, None] + states.cost).ravel(), (loss[:, None] + states.loss).ravel())
    return grown, _Step(query, parent, pick)


def _undominated(cost: Float[np.ndarray, " states"], value: Float[np.ndarray, " states"]) -> Int[np.ndarray, " kept"]:
    """Positions, by rising cost, of the states that are worth more than every cheaper one."""
    order = np.lexsort((-value, cost))
    ordered = value[order]
    before = np.maximum.accumulate(np.append(-math.inf, ordered))[:-1]
    return order[ordered > before]


def _trace(steps: list[_Step], base: Int[np.ndarray, " queries"], state: int) -> Int[np.ndarray, " queries"]:
    """The assignment of a state, by following its parents."""
    choice = base.copy()
    for step in reversed(steps):
        choice[step.query] = step.pick[state]
        state = int(step.parent[state])
    return choice
