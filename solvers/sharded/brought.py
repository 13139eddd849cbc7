"""The undecided queries that were brought to one place, solved within what the decided ones leave of limit and capacities.

Of some of them, at random, the multiplier and the tolls are near those of all. Where all of them were brought, they are solved
by flows as any small problem is, and limit and capacities hold exactly.

The decided queries keep their choices, and with them the small problem's bound is one of all queries, as long as the new tolls
differ too little from the old ones for a choice that was best by a margin to become worse than another:

    the rise of its toll - the least rise of any toll < margin,        the change of the multiplier < reach
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from solvers.capacity import share
from solvers.choices import Answers
from solvers.dual import Dual, search, search_near
from solvers.filling import filled
from solvers.problem import NO_LIMIT
from solvers.sharded.blocks import Block, Terms
from solvers.sharded.repair import Window
from solvers.sharded.summaries import largest
from solvers.sharded.undecided import Few, Point, Seen
from solvers.sharded.walking import Weigher
from solvers.sharded.weighing import cost_range, least_margins, lots, undecided, weigh
from solvers.sums import exact_parts, exact_sum, fewest_parts

SPREAD = 24.0
"""Where n of the queries that were brought to one place take another choice than before, about so many times sqrt(n) stay
undecided, as many of every model."""
REACH = 4
"""So many times as many stay undecided for a change of the multiplier, which may go far together with the tolls."""
MOST_SPREAD = 0.5
"""Of those that were brought to one place no larger part stays undecided."""
ROUNDING = 32 * sys.float_info.epsilon


@dataclass(frozen=True, eq=False)
class Solved:
    """The small problem's multiplier and tolls, and its choices."""

    dual: Dual
    answers: Answers
    fits: bool = True
    """Whether limit and places are enough; of some queries they may be too little by chance."""

    @property
    def tolls(self) -> tuple[float, ...]:
        assert self.dual.tolls is not None
        return tuple(self.dual.tolls.tolist())


class TooSmall(Exception):
    """In one place no choices of all queries are within the limit: the least that they cost is above it."""

    def __init__(self, least: float):
        super().__init__(least)
        self.least = least


@dataclass(frozen=True, eq=False)
class Brought:
    """What a look at a point has brought to one place, and what is asked of all queries."""

    seen: Seen
    point: Point
    terms: Terms
    limit: float
    places: Int[np.ndarray, " choices"]

    @cached_property
    def usual(self) -> Int[np.ndarray, " rows"]:
        """What the point gives these queries."""
        return self._usual(self.point)

    @cached_property
    def settled(self) -> tuple[list[float], list[float]]:
        """Value and cost of all decided queries, as numbers whose sum is exact: the same however the shards are cut."""
        if self.point.undecided_all:
            return [], []
        few, row = self.seen.few, np.arange(len(self.seen.few))
        value, cost = (
            fewest_parts([*known.parts, *exact_parts(-cells[row, self.usual])])
            for known, cells in ((self.seen.value, few.value), (self.seen.cost, few.cost))
        )
        return value, cost

    @cached_property
    def decided(self) -> Int[np.ndarray, " choices"]:
        """How many decided queries take each choice."""
        if self.point.undecided_all:
            return np.zeros(self.terms.width, np.int64)
        return self.seen.taken - np.bincount(self.usual, minlength=self.terms.width)

    def solved(self) -> Solved | None:
        """The undecided queries within what the decided ones leave; None where that cannot be. Raises `TooSmall` where all
        queries are here."""
        seen, few = self.seen, self.seen.few
        window = self._window()
        if window is None:
            return None
        if not len(few):
            answers = window.answers(np.zeros(0, np.int32))
            return Solved(Dual(self.point.multiplier, np.array(self.point.tolls), answers.totals[0], answers), answers)
        if not self.point.undecided_all:
            near = search_near(window, self.point.multiplier, np.array(self.point.tolls))
            if near is not None:
                return Solved(near, filled(window, near.answers, near) if seen.whole else near.answers)
        least, fits = share(window, math.inf), True
        if least.left_over.size:
            if seen.whole:
                return None
            fits = False
            window.places = window.places + _wanted(window, least.left_over)
            least = share(window, math.inf)
        spent = window.totals(least.choice)[1]
        if spent > window.limit:
            if seen.whole and self.point.undecided_all:
                raise TooSmall(spent)
            if seen.whole:
                return None
            window.limit, fits = spent, False
        dual = search(window, least.choice)
        return Solved(dual, filled(window, dual.answers, dual) if seen.whole else dual.answers, fits)

    def _window(self) -> Window | None:
        """These queries, with what the decided ones leave; of some of them with their share of it. None if it is too little.

        What all queries take at the point is known exactly. So only what differs from it is counted by those that are here.
        """
        seen, few = self.seen, self.seen.few
        if seen.whole:
            places, settled = self.places - self.decided, self.settled
            if self.terms.cheapest:
                settled = [-one for one in settled[1]], list[float]()
            return Window(self._cells(), settled, self.limit, places) if (places >= 0).all() else None
        if not len(few):
            return None
        weight, limit = Fraction(seen.undecided, len(few)), self.limit
        here, cost = np.zeros(self.terms.width, np.int64), list[float]()
        if not self.point.undecided_all:
            here = np.bincount(self.usual, minlength=self.terms.width)
            cost = exact_parts(few.cost[np.arange(len(few)), self.usual])
        places = np.ceil(np.maximum(here + (self.places - seen.taken) / float(weight), 0)).astype(np.int64)
        if limit < NO_LIMIT:
            left = (Fraction(limit) - sum(map(Fraction, seen.cost.parts))) / weight
            limit = float(sum(map(Fraction, cost)) + left)
        return Window(self._cells(), ([], []), limit, places)

    def keeps_decided(self, solved: Solved) -> bool:
        """Whether what is decided at the point is so at the small problem's multiplier and tolls, for certain."""
        if self.point.undecided_all:
            return True
        extent = self.seen.extent
        rise = np.array(solved.tolls) - np.array(self.point.tolls)
        changed = abs(solved.dual.multiplier - self.point.multiplier)
        multiplier = max(solved.dual.multiplier, self.point.multiplier)
        # Margins are those of rounded numbers, and those of ties of numbers with what is drawn.
        rounding = ROUNDING * (extent.size + max(solved.tolls) + multiplier * extent.cost) + 4 * self.terms.drawn
        return changed <= self.point.reach and bool((rise - rise.min() + rounding < np.array(self.point.margins)).all())

    def sums(self, choice: Int[np.ndarray, " rows"]) -> tuple[float, float]:
        """Value and cost of all queries, summed exactly, with these choices of the undecided ones."""
        few, row = self.seen.few, np.arange(len(self.seen.few))
        value, cost = (
            math.fsum([*known, *exact_parts(cells[row, choice])])
            for known, cells in zip(self.settled, (few.value, few.cost), strict=True)
        )
        return value, cost

    def changed(self, choice: Int[np.ndarray, " rows"], point: Point) -> dict[int, int]:
        """By their numbers the undecided queries that have another choice than a point gives them."""
        differing = np.flatnonzero((self.usual if point is self.point else self._usual(point)) != choice)
        return dict(zip(self.seen.few.number[differing].tolist(), choice[differing].tolist(), strict=True))

    def next_point(self, solved: Solved) -> tuple[Point, float]:
        """Where to look next, with as much undecided as the draw of the queries leaves open, some of every model's; and how
        many of all queries these are, about."""
        few, multiplier, drawn = self.seen.few, solved.dual.multiplier, self.terms.drawn
        point = replace(self.point, multiplier=multiplier, tolls=solved.tolls)
        block = _block(few, point, self.terms)
        choice, _, margin = weigh(block, _weigher(few), multiplier, drawn)
        moved = len(few)
        if not self.point.undecided_all:
            moved = min(moved, int(np.count_nonzero(self.usual != choice)) + math.isqrt(moved))
        count = math.ceil(min(SPREAD * math.sqrt(moved), MOST_SPREAD * len(few)) / self.terms.width)
        margins = least_margins(block, choice, margin, count, multiplier, drawn)
        reach = 0.0
        if multiplier and count <= len(few):
            costs = np.broadcast_to(cost_range(block), margin.shape)
            apart = np.divide(margin, costs, out=np.full(len(few), np.inf), where=costs > 0)
            count = min(REACH * count, len(few))
            reach = min(float(np.partition(apart, count - 1)[count - 1]), multiplier)
        part = len(undecided(block, choice, margin, margins, reach, multiplier, drawn)) / len(few)
        return replace(point, margins=tuple(margins.tolist()), reach=reach), part * self.seen.undecided

    def _usual(self, point: Point) -> Int[np.ndarray, " rows"]:
        few = self.seen.few
        if not len(few):
            return np.zeros(0, np.intp)
        return weigh(_block(few, point, self.terms), _weigher(few), point.multiplier, self.terms.drawn)[0]

    def _cells(self) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]]:
        """Value and cost for the small problem, with what is drawn where it is solved for its tolls alone."""
        few = self.seen.few
        value, cost = few.value, few.cost
        if self.terms.cheapest:
            value, cost = np.where(np.isneginf(value), value, -cost), np.zeros_like(cost)
        if not self.seen.whole and self.terms.drawn:
            value = value + self.terms.drawn * lots(few.number, self.terms.width).T
        return value, cost


def magnitude(few: Few, terms: Terms) -> float:
    """The mean over these queries of the largest absolute worth without tolls."""
    return exact_sum(largest(_block(few, Point.everything(terms.width, 1.0), terms))) / len(few)


def _block(few: Few, point: Point, terms: Terms) -> Block:
    """These queries as a shard has them."""
    value, cost = few.value.T, few.cost.T
    worth = np.where(np.isneginf(value), value, -cost) if terms.cheapest else value
    return Block(few.number, value, cost, worth - np.array(point.tolls)[:, None], 0.0, 0.0)


def _weigher(few: Few) -> Weigher:
    return Weigher(few.value.shape[1], len(few))


def _wanted(window: Window, left_over: Int[np.ndarray, " left"]) -> Int[np.ndarray, " choices"]:
    """Per choice how many of these queries have it as their cheapest."""
    value, cost = (cells[left_over] for cells in window.cells)
    return np.bincount(np.where(np.isneginf(value), np.inf, cost).argmin(axis=1), minlength=window.width)
