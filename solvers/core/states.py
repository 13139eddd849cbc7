"""The best assignment near a multiplier, by dynamic programming over the queries of the core, in whole numbers.

The program is that of `whole.py`: maximise the sum of gains with the sum of extra costs at most `room`. Queries are taken in
the order in which the slopes gain / extra of their swaps come near the multiplier. A state is a set of swaps so far, known by
its cost and its gain. It is dropped when another state costs no more and gains at least as much, or when it leads to nothing
better than the best assignment known. Let up and down be the best slopes of the swaps still to come, reach the cost that they
can add, and least the least that one of them loses at the multiplier. By at least one more swap a state leads to a gain of at
most

    gain + multiplier * (room - cost) - least     and
    gain + up * min(room - cost, reach)           if cost <= room
    gain - down * (cost - room)                   if cost > room

(Pisinger 1995, "A minimal algorithm for the multiple-choice knapsack problem"). When no state is left, the
best assignment known is proved best. Where states or time become too many, the largest of these bounds among the states that
are given up bounds all assignments. Capacities are not considered.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Choices
from solvers.core.lattice import lattice_of
from solvers.core.slopes import Ahead, open_swaps, remaining_swaps
from solvers.core.whole import WholeCore, whole_core
from solvers.dual import Dual

MOST_STATES = 200_000
WIDTHS = (2_000,)
"""States of a first, quick search, which finds what makes the next one short."""
CACHED = 2**16
"""States that are looked at together, few enough for a processor's cache."""
MOST_TRACE = 2**27
"""States of all steps together, which are kept to trace an assignment back: half a gigabyte."""


@dataclass(frozen=True)
class StateSearch:
    """The best assignment found, and a bound on the value of all."""

    choice: Int[np.ndarray, " queries"]
    bound: float
    complete: bool
    """Whether nothing better was given up: the bound is the value, but for rounding."""


def search_states(
    problem: Choices,
    dual: Dual,
    incumbent: Int[np.ndarray, " queries"],
    *,
    most_states: int = MOST_STATES,
    max_seconds: float = math.inf,
) -> StateSearch:
    """Improve `incumbent`, which is within the limit, until nothing better exists, or states or seconds become too many.

    Beyond `most_states` the least promising states are given up, and with them the proof.
    """
    deadline = time.perf_counter() + max_seconds
    found = StateSearch(incumbent, math.inf, False)
    for width in (*(some for some in WIDTHS if some < most_states), most_states):
        found = _search(problem, dual, found, width, deadline)
        if found.complete or time.perf_counter() > deadline:
            break
    return found


def _search(problem: Choices, dual: Dual, found: StateSearch, most_states: int, deadline: float) -> StateSearch:
    """One pass over the queries, from what was found so far."""
    core = whole_core(problem, dual, found.choice)
    best = _Best(problem, core, found.choice)
    states = _States(np.zeros(1), np.zeros(1))
    steps: list[_Step] = []
    remaining, at, traced = remaining_swaps(core, np.arange(len(core.base)), best.wanted), 0, 0
    while at < len(remaining.queries) and len(states.cost):
        if time.perf_counter() > deadline or traced > MOST_TRACE:
            best.give_up(states.bound(core, remaining.ahead(at)))
            break
        query = int(remaining.queries[at])
        at += 1
        swaps = _swaps_of(core, query, best.wanted)
        if best.improve(states, swaps, steps):
            remaining, at = remaining_swaps(core, remaining.queries[at:], best.wanted), 0
        states, step = _grown(states, swaps, core, remaining.ahead(at), best, most_states)
        steps.append(step)
        traced += len(states.cost)
    return best.answer(found.bound)


class _Best:
    """The best assignment so far, and what is known of those that were given up."""

    def __init__(self, problem: Choices, core: WholeCore, incumbent: Int[np.ndarray, " queries"]):
        self.problem, self.core, self.lattice = problem, core, lattice_of(core)
        self.room = core.room
        """Costs up to here were not seen to break the true limit."""
        self.lost = -math.inf
        self.choice, self.gain = incumbent, core.gain_of(incumbent)
        self.value = problem.totals(incumbent)[0]
        if self.gain < 0 <= core.room:
            self._accept(core.base, 0.0, 0.0)
        self.next_gain = self.lattice.next_gain(core, self.gain)

    @property
    def wanted(self) -> float:
        """A better assignment gains at least so much."""
        return self.next_gain - self.core.rounding

    def give_up(self, bound: float) -> None:
        """Assignments that gain at most `bound` are no longer looked at."""
        self.lost = max(self.lost, bound)

    def improve(self, states: _States, swaps: _Swaps, steps: list[_Step]) -> bool:
        """Look for something better among the states grown by one query's swaps; whether it was found."""
        if self.room < self.core.room:
            gains, _ = states.within(self.core.room, swaps)
            self.give_up(float(gains.max()))
        while True:
            gains, state = states.within(self.room, swaps)
            most = int(gains.argmax())
            if gains[most] <= self.gain:
                return False
            found = _trace(steps, self.core.base, int(state[most]))
            found[swaps.query] = swaps.column[most]
            if self._accept(found, float(gains[most]), float(states.cost[state[most]] + swaps.extra[most])):
                self.next_gain = self.lattice.next_gain(self.core, self.gain)
                return True

    def _accept(self, choice: Int[np.ndarray, " queries"], gain: float, cost: float) -> bool:
        """Take this assignment of more gain, or note that only the rounding of costs lets it in; whether it was taken."""
        value, true_cost = self.problem.totals(choice)
        if not self.problem.fits(true_cost):
            self.give_up(gain)
            # What costs less may fit.
            self.room = cost - 1
            return False
        self.gain = gain
        # More in units may be a trifle less.
        if value > self.value:
            self.choice, self.value = choice, value
        return True

    def answer(self, bound: float) -> StateSearch:
        """What was found, where `bound` was known before."""
        bound = min(bound, self.core.value_of(max(self.gain, self.lost)))
        return StateSearch(self.choice, bound, self.lost <= self.gain)


@dataclass(frozen=True)
class _Swaps:
    """The base of a query and its open swaps."""

    query: int
    column: Int[np.ndarray, " swaps"]
    extra: Float[np.ndarray, " swaps"]
    gain: Float[np.ndarray, " swaps"]


def _swaps_of(core: WholeCore, query: int, wanted: float) -> _Swaps:
    usable = open_swaps(core, np.array([query]), wanted)[0]
    column = np.append(core.base[query], np.flatnonzero(usable))
    return _Swaps(query, column, core.extra[query, column], core.gain[query, column])


@dataclass(frozen=True)
class _States:
    """Sets of swaps, by rising cost, each gaining more than every cheaper one."""

    cost: Float[np.ndarray, " states"]
    gain: Float[np.ndarray, " states"]

    def within(self, room: float, swaps: _Swaps) -> tuple[Float[np.ndarray, " swaps"], Int[np.ndarray, " swaps"]]:
        """The largest gain by each swap within the room, and the state that it comes from."""
        # The last one that fits gains most.
        state = np.searchsorted(self.cost, room - swaps.extra, side="right") - 1
        return np.where(state >= 0, self.gain[state] + swaps.gain, -math.inf), state

    def bound(self, core: WholeCore, ahead: Ahead) -> float:
        """The most that these states can lead to."""
        return float(_bounds(self.cost, self.gain, core, ahead).max(initial=-math.inf))


@dataclass(frozen=True)
class _Step:
    """One query: for every state after it the state before, and the query's choice."""

    query: int
    column: Int[np.ndarray, " swaps"]
    origin: Int[np.ndarray, " states"]
    """Which swap it took, times the number of states before, plus the state before."""
    before: int


def _bounds(cost: np.ndarray, gain: np.ndarray, core: WholeCore, ahead: Ahead) -> np.ndarray:
    """What states lead to at most, by at least one more swap; -inf for those that cannot come back within the room."""
    left = core.room - cost
    by_slope = np.where(left >= 0, ahead.up * np.minimum(left, ahead.reach), ahead.down * left)
    bound = gain + np.minimum(by_slope, core.multiplier * left - ahead.least)
    bound[left < -ahead.fall] = -math.inf
    return bound


def _grown(
    states: _States, swaps: _Swaps, core: WholeCore, ahead: Ahead, best: _Best, most_states: int
) -> tuple[_States, _Step]:
    """Every state with the query's base and with every swap of it, without those that lead to nothing better."""
    kept, cost, gain = _promising(states, swaps, core, ahead, best.wanted)
    order = _undominated(cost, gain)
    kept, cost, gain = kept[order], cost[order], gain[order]
    if len(kept) > most_states:
        bounds = _bounds(cost, gain, core, ahead)
        # Among equals those that are nearest to the limit.
        promise = bounds - 1e-6 * core.multiplier * np.abs(core.room - cost)
        split = np.argpartition(promise, len(kept) - most_states)
        best.give_up(float(bounds[split[:-most_states]].max()))
        some = np.sort(split[-most_states:])
        kept, cost, gain = kept[some], cost[some], gain[some]
    number = np.uint16 if len(swaps.extra) * len(states.cost) <= 2**16 else np.uint32
    return _States(cost, gain), _Step(swaps.query, swaps.column, kept.astype(number), len(states.cost))


def _promising(
    states: _States, swaps: _Swaps, core: WholeCore, ahead: Ahead, wanted: float
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """Of every state with every swap those that can still lead to a gain of `wanted`: origin, cost and gain, swap by swap."""
    count, found = len(states.cost), list[tuple[np.ndarray, np.ndarray, np.ndarray]]()
    together = max(1, CACHED // count)
    for first in range(0, len(swaps.extra), together):
        some = slice(first, first + together)
        cost = np.add.outer(swaps.extra[some], states.cost).ravel()
        gain = np.add.outer(swaps.gain[some], states.gain).ravel()
        kept = np.flatnonzero(_bounds(cost, gain, core, ahead) >= wanted)
        found.append((kept + first * count, cost[kept], gain[kept]))
    if len(found) == 1:
        return found[0]
    kept, cost, gain = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return kept, cost, gain


def _undominated(cost: Float[np.ndarray, " states"], gain: Float[np.ndarray, " states"]) -> Int[np.ndarray, " kept"]:
    """Positions, by rising cost, of the states that gain more than every other one that costs no more."""
    # A merge of few sorted lists: the stable sort finds their runs.
    order = np.argsort(cost, kind="stable")
    cost, gain = cost[order], gain[order]
    better = np.append(True, gain[1:] > np.maximum.accumulate(gain)[:-1]) if len(order) else np.zeros(0, bool)
    order, cost = order[better], cost[better]
    # Of the same cost the last one gains most.
    return order[np.append(cost[1:] != cost[:-1], True)] if len(order) else order


def _trace(steps: list[_Step], base: Int[np.ndarray, " queries"], state: int) -> Int[np.ndarray, " queries"]:
    """The assignment of a state, by following its parents."""
    choice = base.copy()
    for step in reversed(steps):
        taken, state = divmod(int(step.origin[state]), step.before)
        choice[step.query] = step.column[taken]
    return choice
