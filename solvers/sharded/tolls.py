"""Capacities over shards: one price and a toll per model, searched in a few undecided queries, proved over all of them.

For every multiplier and all tolls >= 0 the shards' sums add up to a bound (Fisher 1981, section 2, and `solvers.capacity`):

    L(multiplier, tolls) = multiplier * limit + sum_i tolls[i] * capacity[i]
                           + sum over shards of sum_j max_i (value[j, i] - multiplier * cost[j, i] - tolls[i])

    1. some queries, drawn from all shards, are brought to one place and solved there as a small problem, within their share of
       the limit and of the capacities: multiplier and tolls are near those of all queries
    2. at these, every shard sums the queries whose choice is decided by a margin, exactly, and the undecided ones, or some of
       them, are solved within what is left; a few times, with fewer undecided ones each time, until all of them travel
    3. these, with all others decided, are solved by flows as in one place; so limit and capacities hold exactly
    4. at the multiplier and the tolls that this gives, one more look at all shards adds up the bound

The decided queries could be wrong: then the bound of step 4 is above the small problem's, and steps 3 and 4 are repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from solvers.capacity import share
from solvers.choices import Answers
from solvers.dual import PROVED, ROUNDING, Dual, search
from solvers.errors import InfeasibleBudget, InfeasibleProblem, InfeasibleValue, ProblemError, shown
from solvers.filling import filled
from solvers.problem import NO_LIMIT
from solvers.sharded.blocks import Block, Terms
from solvers.sharded.places import CountSets, Sets, check_places
from solvers.sharded.repair import Window
from solvers.sharded.shards import Map, Shard
from solvers.sharded.undecided import Few, See, Seen
from solvers.sharded.walking import Weigher
from solvers.sharded.weighing import least_margins, lots, undecided, weigh
from solvers.sums import exact_parts

TRAVELLING = 2**14
"""Queries that are brought to one place to be solved in part; twice as many are solved whole."""
SPREAD = 24.0
"""Of n queries that were brought to one place about so many times sqrt(n) stay undecided, as many of every model."""
MOST_SPREAD = 0.5
"""Of those that were brought to one place no larger part stays undecided."""
WIDER = 4.0
"""By this factor more is undecided where what is decided leaves no way to meet the constraints."""
DRAWN = 1e-10
"""The largest value that settles a tie, against the mean of the values."""
CLOSE = 1e-9
"""A relative gap after which no more looks are taken."""
MOST_ROUNDS = 24
MOST_REPAIRS = 4
MOST_CELLS = 2**23
"""Choices that are brought to one place, 128 MB, if nothing else finds one for every query."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Proved at a multiplier and tolls: in the standard form nothing is worth more."""

    value: float
    multiplier: float
    tolls: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Tolled:
    """Choices within the limit and the capacities, and the bound."""

    queries: int
    terms: Terms
    multiplier: float
    """With the tolls of `terms` it decides every query but the changed ones."""
    changed: dict[int, int]
    value: float
    """Of the standard form, summed exactly, as `cost`."""
    cost: float
    taken: Int[np.ndarray, " choices"]
    magnitude: float
    bound: Bound


@dataclass(frozen=True, eq=False)
class _Point:
    """A multiplier and tolls, and which queries are undecided there."""

    multiplier: float
    tolls: tuple[float, ...]
    margins: tuple[float, ...]
    """Per choice, see `weighing.undecided`."""
    share: float

    @property
    def undecided_all(self) -> bool:
        return all(map(math.isinf, self.margins))


class TollRounds:
    """The rounds, from queries that are drawn to choices and their bound."""

    def __init__(
        self,
        shards: list[Shard],
        terms: Terms,
        limit: float,
        given: float | None,
        capacity: Int[np.ndarray, " models"],
        map: Map,
    ):
        self.shards, self.limit, self.given, self.map, self.capacity = shards, limit, given, map, capacity
        self.queries = sum(len(shard) for shard in shards)
        self.terms = replace(terms, tolls=(0.0,) * terms.width)
        places = np.minimum(capacity, self.queries).astype(np.int64)
        self.places = np.append(places, self.queries) if terms.allow_unanswered else places
        self.said: list[str] = []
        self.bytes_merged = 0
        self.most = 2 * TRAVELLING
        """Queries that are brought to one place in a round."""

    def found(self) -> Tolled:
        """Raises `InfeasibleCapacity`, `InfeasibleBudget` or `InfeasibleValue` where nothing meets the constraints."""
        best, bound = self._searched()
        if best is not None:
            return replace(best, bound=bound)
        certain = self.terms.allow_unanswered or check_places(self._sets(), self.capacity.tolist(), self.queries)
        least, below = self._of_least_cost()._searched()
        if least is not None and least.cost <= self.limit:
            return replace(least, bound=bound)
        if least is not None and -below.value > self.limit:
            raise self._unreachable(least.cost, -below.value)
        if self.queries * self.terms.width <= MOST_CELLS:
            # In one place they are solved, or shown to have no solution.
            self.most = self.queries
            best, bound = self._searched()
            assert best is not None
            return replace(best, bound=bound)
        if least is not None:
            raise self._unreachable(least.cost, -below.value)
        there = "it is proved that there are places for all of them" if certain else "whether there are any is not known"
        raise InfeasibleProblem(
            f"capacity={shown(self.capacity.tolist())}: no places were found for all {self.queries:,} queries, and {there}: raise "
            "some, or allow unanswered queries"
        )

    def _searched(self) -> tuple[Tolled | None, Bound]:
        """The most valuable choices that were found, and the least bound."""
        point = _Point(0.0, (0.0,) * self.terms.width, (math.inf,) * self.terms.width, min(1.0, TRAVELLING / self.queries))
        if self.queries <= self.most:
            point = replace(point, share=1.0)
        best: Tolled | None = None
        bound, centre = Bound(math.inf, 0.0, point.tolls), point
        expected, repairs = -math.inf, 0
        for _ in range(MOST_ROUNDS):
            seen = self._look(point)
            height, magnitude = self._height(point, seen), seen.magnitude.rounded()
            if height > bound.value + PROVED * magnitude:
                # What was decided was wrong: back to the best point, with more undecided.
                point = self._widened(centre, point.margins, seen)
                if point.undecided_all:
                    break
                continue
            centre = point
            if height < bound.value:
                bound = Bound(height, point.multiplier, point.tolls)
            # With all others decided nothing is worth more: so nothing lies below this bound.
            if best is not None and (bound.value - expected <= PROVED * magnitude or self._close(best, bound)):
                break
            if not self.terms.drawn and point.share < 1:
                self.terms = replace(self.terms, drawn=DRAWN * magnitude / self.queries)
            whole = len(seen.few) == seen.undecided
            solved = self._solved(seen, whole, point)
            if solved is None:
                if point.undecided_all:
                    break
                point = self._widened(point, point.margins, seen)
                continue
            if whole:
                made = self._made(seen, solved, point)
                if best is None or self._worth(made) > self._worth(best):
                    best = made
                expected = solved.dual.bound
                repairs += 1
                if point.undecided_all:
                    bound = Bound(expected, solved.dual.multiplier, tuple(solved.tolls.tolist()))
                if point.undecided_all or repairs == MOST_REPAIRS:
                    break
            point = self._next(seen, solved, whole, point)
        return best, bound

    def _sets(self) -> Sets:
        """The sets of models that the queries may go to, counted over all shards."""
        found = Sets({}, self.terms.models)
        for one in self.map(CountSets(self.terms), self.shards):
            found = found.merged(one)
        self.said.append(f"{len(found.counts):,} sets of models")
        return found

    def _look(self, point: _Point) -> Seen:
        """One round: all shards looked at and merged."""
        terms = replace(self.terms, tolls=point.tolls)
        step, found = See(terms, point.multiplier, point.margins, point.share, self.most), Seen.empty(terms)
        for one in self.map(step, self.shards):
            self.bytes_merged += one.nbytes
            found = found.merged(one, self.most)
        found.few = found.few.least(self.most)
        if found.queries != self.queries:
            raise ProblemError(f"{found.queries:,} of {self.queries:,} queries were looked at: a shard was lost, or read twice")
        self.said.append(
            f"{found.undecided:,} of {found.queries:,} queries undecided at {point.multiplier:.6g}, {len(found.few):,} brought "
            "to one place"
        )
        return found

    def _height(self, point: _Point, seen: Seen) -> float:
        """L at the point, rounded outward: every term is off by a few roundings of what it is made of."""
        tolls, places = np.array(point.tolls), self.places
        parts = [Fraction(point.multiplier) * Fraction(self.limit)] if point.multiplier else []
        parts += [Fraction(toll) * place for toll, place in zip(point.tolls, places.tolist(), strict=True) if toll]
        total = float(sum(map(Fraction, seen.best.parts)) + sum(parts))
        scale = seen.magnitude.rounded() + 2 * point.multiplier * seen.cost_magnitude.rounded() + abs(total)
        scale += sum(abs(float(part)) for part in parts) + self.queries * float(np.abs(tolls).max())
        return math.nextafter(total + ROUNDING * scale, math.inf)

    def _solved(self, seen: Seen, whole: bool, point: _Point) -> _Solved | None:
        """The undecided queries within what the decided ones leave; None where that cannot be."""
        few, everything = seen.few, whole and point.undecided_all
        if not whole and not len(few):
            return None
        if whole:
            places, limit = self.places - seen.taken, self.limit
            settled = (seen.value.parts, seen.cost.parts)
            settled = ([-one for one in settled[1]], list[float]()) if self.terms.cheapest else settled
            if (places < 0).any():
                return None
        else:
            weight = Fraction(seen.undecided, len(few))
            places = np.ceil(np.maximum(self.places - seen.taken, 0) / float(weight)).astype(np.int64)
            limit = self.limit
            if limit < NO_LIMIT:
                limit = float((Fraction(limit) - sum(map(Fraction, seen.cost.parts))) / weight)
            settled = (list[float](), list[float]())
        window = Window(self._cells(few, whole), settled, limit, places)
        if not len(few):
            answers = window.answers(np.zeros(0, np.int32))
            return _Solved(Dual(point.multiplier, np.array(point.tolls), answers.totals[0], answers), answers)
        least = share(window, math.inf)
        if least.left_over.size:
            if whole:
                return None
            window = Window(window.cells, settled, limit, places + _wanted(window, least.left_over))
            least = share(window, math.inf)
        spent = window.totals(least.choice)[1]
        if spent > window.limit:
            if everything:
                raise self._unreachable(spent, spent)
            if whole:
                return None
            window.limit = spent
        dual = search(window, least.choice)
        return _Solved(dual, filled(window, dual.answers, dual) if whole else dual.answers)

    def _cells(self, few: Few, whole: bool) -> tuple[Float[np.ndarray, "rows choices"], Float[np.ndarray, "rows choices"]]:
        """Value and cost for the small problem, with what is drawn where it is solved for its tolls alone."""
        value, cost = few.value, few.cost
        if self.terms.cheapest:
            value, cost = np.where(np.isneginf(value), value, -cost), np.zeros_like(cost)
        if not whole and self.terms.drawn:
            value = value + self.terms.drawn * lots(few.number, self.terms.width).T
        return value, cost

    def _made(self, seen: Seen, solved: _Solved, point: _Point) -> Tolled:
        """The choices of all queries: those at the point, and the small problem's where they differ."""
        few, choice = seen.few, solved.answers.choice
        row = np.arange(len(few))
        value, cost = (
            math.fsum([*known.parts, *exact_parts(cells[row, choice])])
            for known, cells in ((seen.value, few.value), (seen.cost, few.cost))
        )
        usual = self._usual(few, point)
        differing = np.flatnonzero(usual != choice)
        changed = dict(zip(few.number[differing].tolist(), choice[differing].tolist(), strict=True))
        taken = seen.taken + np.bincount(choice, minlength=self.terms.width)
        assert (taken <= self.places).all() and (cost <= self.limit or self.terms.cheapest)
        return Tolled(
            self.queries,
            replace(self.terms, tolls=point.tolls),
            point.multiplier,
            changed,
            value,
            cost,
            taken,
            seen.magnitude.rounded(),
            Bound(math.inf, point.multiplier, point.tolls),
        )

    def _usual(self, few: Few, point: _Point) -> Int[np.ndarray, " rows"]:
        """What the point alone gives these queries."""
        if not len(few):
            return np.zeros(0, np.intp)
        block = self._block(few, point.tolls)
        return weigh(block, Weigher(self.terms.width, len(few)), point.multiplier, self.terms.drawn)[0]

    def _block(self, few: Few, tolls: Sequence[float]) -> Block:
        """These queries as a shard has them."""
        value, cost = few.value.T, few.cost.T
        worth = np.where(np.isneginf(value), value, -cost) if self.terms.cheapest else value
        return Block(few.number, value, cost, worth - np.array(tolls)[:, None], 0.0)

    def _next(self, seen: Seen, solved: _Solved, whole: bool, point: _Point) -> _Point:
        """Where to look next, with as much undecided as the draw of the queries leaves open: some of every model's."""
        few, multiplier, tolls = seen.few, solved.dual.multiplier, tuple(solved.tolls.tolist())
        if whole:
            return replace(point, multiplier=multiplier, tolls=tolls)
        block, drawn = self._block(few, tolls), self.terms.drawn
        choice, _, margin = weigh(block, Weigher(self.terms.width, len(few)), multiplier, drawn)
        count = math.ceil(min(SPREAD * math.sqrt(len(few)), MOST_SPREAD * len(few)) / self.terms.width)
        margins = least_margins(block, choice, margin, count, multiplier, drawn)
        part = len(undecided(block, choice, margin, margins, multiplier, drawn)) / len(few)
        return _Point(multiplier, tolls, tuple(margins.tolist()), _share(part * seen.undecided))

    def _widened(self, point: _Point, margins: tuple[float, ...], seen: Seen) -> _Point:
        """The point with more undecided than within `margins`, at which so much was seen. How many that are shows then."""
        undecided = max(seen.undecided, TRAVELLING / WIDER)
        if WIDER * undecided >= self.queries:
            return replace(point, margins=(math.inf,) * self.terms.width, share=_share(self.queries))
        wider = tuple(max(WIDER * margin, self.terms.drawn) for margin in margins)
        return replace(point, margins=wider, share=_share(undecided))

    def _of_least_cost(self) -> TollRounds:
        """The same queries and capacities where least costs alone count."""
        changed = copy(self)
        changed.terms, changed.limit = replace(self.terms, cheapest=True, drawn=0.0), NO_LIMIT
        return changed

    def _worth(self, made: Tolled) -> float:
        return -made.cost if self.terms.cheapest else made.value

    def _close(self, best: Tolled, bound: Bound) -> bool:
        return bound.value - self._worth(best) <= CLOSE * abs(bound.value)

    def _unreachable(self, least: float, proved: float) -> InfeasibleBudget | InfeasibleValue:
        """What was found to cost least, and what costs less than nothing can."""
        assert self.given is not None
        if self.terms.minimised:
            return InfeasibleValue(self.given, -least, -proved)
        return InfeasibleBudget(self.given, least, proved)


@dataclass(frozen=True, eq=False)
class _Solved:
    """The small problem's multiplier and tolls, and its choices."""

    dual: Dual
    answers: Answers

    @property
    def tolls(self) -> Float[np.ndarray, " choices"]:
        assert self.dual.tolls is not None
        return self.dual.tolls


def _share(undecided: float) -> float:
    """The part of so many queries that is brought to one place; all, with a reserve, where they are few enough."""
    return 1.0 if undecided <= 1.5 * TRAVELLING else TRAVELLING / undecided


def _wanted(window: Window, left_over: Int[np.ndarray, " left"]) -> Int[np.ndarray, " choices"]:
    """Per choice how many of these queries have it as their cheapest."""
    value, cost = (cells[left_over] for cells in window.cells)
    return np.bincount(np.where(np.isneginf(value), np.inf, cost).argmin(axis=1), minlength=window.width)
