"""Capacities over shards: one price and a toll per model, searched in a few undecided queries, proved over all of them.

For every multiplier and all tolls >= 0 the shards' sums add up to a bound (Fisher 1981, section 2, and `solvers.capacity`):

    L(multiplier, tolls) = multiplier * limit + sum_i tolls[i] * capacity[i]
                           + sum over shards of sum_j max_i (value[j, i] - multiplier * cost[j, i] - tolls[i])

    1. some queries, drawn from all shards, are brought to one place and solved there as a small problem, within their share of
       the limit and of the capacities: multiplier and tolls are near those of all queries
    2. at these, every shard sums the queries whose choice is decided by a margin, exactly, and the undecided ones, or some of
       them, are solved within what is left; until all of them are brought
    3. these, with all others decided, are solved by flows as in one place (`brought`); so limit and capacities hold exactly
    4. the small problem's bound is that of all queries, where its multiplier and tolls cannot change what is decided; else one
       more look at all shards adds the bound up

What is decided could be wrong: then the bound of step 4 is above the small problem's, and steps 3 and 4 are repeated.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from solvers.dual import PROVED, ROUNDING
from solvers.errors import InfeasibleBudget, InfeasibleProblem, InfeasibleValue, ProblemError, shown
from solvers.grid import round_down
from solvers.problem import NO_LIMIT
from solvers.sharded.blocks import Terms
from solvers.sharded.brought import Brought, Solved, TooSmall, magnitude
from solvers.sharded.places import CountSets, Sets, check_places
from solvers.sharded.shards import Map, Shard
from solvers.sharded.undecided import Extent, Point, See, Seen

TRAVELLING = 2**14
"""Queries that are brought to one place to be solved in part; more of a larger problem."""
LARGE = 2**20
"""From so many queries on those that are brought to one place grow with their root, so that the looks stay as few."""
WHOLE = 4
"""Up to so many times as many are solved whole."""
WIDER = 4.0
"""By this factor more is undecided where what is decided leaves no way to meet the constraints."""
DRAWN = 1e-10
"""The largest value that settles a tie, against the mean of the values."""
CLOSE = 1e-9
"""A relative gap after which no more looks are taken."""
WORTH_MORE = 1e-6
"""Above this relative gap, or above CLOSE where a search was given up, all queries are brought to one place if they can be."""
STEEP = 4.0
"""So many times the mean value is what the least of the margins of costs is made to count for."""
LEAST_STEP = 1e-3
"""A smaller part of a step in which L rises is not worth a look."""
MOST_ROUNDS = 24
FEWER_ROUNDS = 12
"""Where all queries can be brought to one place."""
MOST_REPAIRS = 8
MOST_CELLS = 2**23
"""Choices that are brought to one place, 128 MB, if nothing else is found for all queries, or only far from the bound."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Proved at a multiplier and tolls: in the standard form nothing is worth more."""

    value: float
    multiplier: float
    tolls: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Tolled:
    """Choices within the limit and the capacities, and the bound."""

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
        self.some = math.ceil(TRAVELLING * max(1.0, math.sqrt(self.queries / LARGE)))
        """Queries that are brought to one place to be solved in part."""
        self.most = WHOLE * self.some
        self.lowest: _Low | None = None
        """The lowest point of the last search."""
        self.gave_up = False
        """Whether a search ended for its number of looks alone."""
        self.extent = Extent()
        """Of all queries, as far as they were looked at."""
        self.magnitude = 0.0
        """About the sum over all queries of the largest absolute worth, by those that were drawn; gaps are measured by it."""

    def found(self) -> Tolled:
        """Raises `InfeasibleCapacity`, `InfeasibleBudget` or `InfeasibleValue` where nothing meets the constraints."""
        best = self._found_in_parts()
        enough = CLOSE if self.gave_up else WORTH_MORE
        if self._gap(best) <= enough * abs(best.bound.value) or not self._fits_whole():
            return best
        again = self._searched_whole()
        better = max(best, again, key=self._worth)
        return replace(better, bound=min(best.bound, again.bound, key=lambda one: one.value))

    def _found_in_parts(self) -> Tolled:
        """Where not all queries are brought to one place, unless those that were drawn do not meet the constraints."""
        best, bound, doubtful = self._searched(doubting=True)
        if best is not None:
            return replace(best, bound=bound)
        certain = self.terms.allow_unanswered or check_places(self._sets(), self.capacity.tolist(), self.queries)
        if self._fits_whole():
            # In one place they are solved, or shown to have no solution.
            return self._searched_whole()
        cheapest = self._of_least_cost()
        least, below, _ = cheapest._searched()
        if least is not None and -below.value > self.limit:
            raise self._unreachable(least.cost, -below.value)
        if least is not None and 0 <= self.limit - least.cost <= CLOSE * abs(least.cost):
            # What is left of the limit is next to nothing: values settle what the least cost leaves open.
            best, bound, _ = self._searched(self._steep(cheapest))
        if doubtful and (best is None or self._gap(replace(best, bound=bound)) > WORTH_MORE * abs(bound.value)):
            other, lower, _ = self._searched()
            best = max((one for one in (best, other) if one is not None), key=self._worth, default=None)
            bound = min(bound, lower, key=lambda one: one.value)
        if best is None and least is not None and least.cost <= self.limit:
            best = least
        if best is not None:
            return replace(best, bound=bound)
        if least is not None:
            raise self._unreachable(least.cost, -below.value)
        there = "it is proved that there are places for all of them" if certain else "whether there are any is not known"
        raise self._without_places(f"no places were found for all {self.queries:,} queries, and {there}")

    def _fits_whole(self) -> bool:
        """Whether more queries than before can be brought to one place: all of them."""
        return self.most < self.queries and self.queries * self.terms.width <= MOST_CELLS

    def _searched_whole(self) -> Tolled:
        """All queries in one place."""
        self.most = self.queries
        best, bound, _ = self._searched()
        if best is None:
            raise self._without_places(f"there are no places for all {self.queries:,} queries")
        return replace(best, bound=bound)

    def _without_places(self, found: str) -> InfeasibleProblem:
        return InfeasibleProblem(f"capacity={shown(self.capacity.tolist())}: {found}: raise some, or allow unanswered queries")

    def _steep(self, cheapest: TollRounds) -> Point | None:
        """Where least costs count for so much more than values that these decide no more queries than the least costs leave
        undecided: the tolls of the least cost times a large multiplier."""
        if cheapest.lowest is None:
            return None
        point = cheapest.lowest.point
        margins = [margin for margin in point.margins if 0 < margin < math.inf]
        if not margins:
            return None
        multiplier = STEEP * self.magnitude / self.queries / min(margins)
        tolls, margins = (tuple(multiplier * one for one in some) for some in (point.tolls, point.margins))
        undecided = cheapest.lowest.undecided
        return Point(multiplier, tolls, margins, 0.0, self._share(undecided))

    def _searched(self, start: Point | None = None, *, doubting: bool = False) -> tuple[Tolled | None, Bound, bool]:
        """The most valuable choices that were found, the least bound, and whether the search was given up at its first look,
        if it is `doubting`, because the queries that were drawn do not meet the constraints."""
        point: Point = Point.everything(self.terms.width, min(1.0, self.some / self.queries))
        if self.queries <= self.most:
            point = replace(point, share=1.0)
        point = start or point
        best: Tolled | None = None
        bound, expected, repairs = Bound(math.inf, 0.0, point.tolls), -math.inf, 0
        lowest: _Low | None = None
        left: _Low | None = None
        """The point that was left for one of a small problem that could change what is decided."""
        crossed = False
        for _ in range(FEWER_ROUNDS if self._fits_whole() else MOST_ROUNDS):
            seen = self._look(point)
            height = math.inf if point.undecided_all else self._height(point, seen)
            # Where what was decided was wrong L rises, and more is undecided next.
            wider = WIDER if height > bound.value + PROVED * self.magnitude else 1.0
            here = _Low(point, height, self._slope(seen), seen.undecided)
            if not point.undecided_all and (lowest is None or height <= lowest.height):
                lowest = here
            if height < bound.value:
                bound = Bound(height, point.multiplier, point.tolls)
            # With all others decided nothing is worth more: so nothing lies below this bound.
            if best is not None and (bound.value - expected <= PROVED * self.magnitude or self._close(best, bound)):
                break
            if left is not None and height > left.height + PROVED * self.magnitude:
                between = None if crossed else left.crossing(here)
                crossed = between is not None
                if between is None:
                    between, left = _wider(left.point, WIDER, self.terms.drawn), None
                    here = replace(here, undecided=WIDER * here.undecided)
                point = replace(between, share=self._share(here.undecided))
                continue
            brought = Brought(seen, point, self.terms, self.limit, self.places)
            solved = self._solved(brought)
            if solved is None or not (solved.fits or point.undecided_all):
                if point.undecided_all:
                    break
                point = self._widened(point, seen)
                continue
            if doubting and point.undecided_all and not solved.fits:
                return None, bound, True
            if not seen.whole:
                point, undecided = brought.next_point(solved)
                point = _wider(replace(point, share=self._share(wider * undecided)), wider)
                continue
            repairs += 1
            expected = solved.dual.bound
            there = replace(point, multiplier=solved.dual.multiplier, tolls=solved.tolls)
            certain = brought.keeps_decided(solved)
            made = self._made(brought, solved, there if certain else point)
            if best is None or self._worth(made) > self._worth(best):
                best = made
            if certain:
                bound = min(bound, Bound(expected, there.multiplier, there.tolls), key=lambda one: one.value)
            if certain or repairs == MOST_REPAIRS:
                break
            point, left, crossed = there, here, False
        else:
            self.gave_up = True
        self.lowest = lowest
        return best, self._on_grid(bound), False

    def _solved(self, brought: Brought) -> Solved | None:
        try:
            return brought.solved()
        except TooSmall as error:
            raise self._unreachable(error.least, error.least) from None

    def _sets(self) -> Sets:
        """The sets of models that the queries may go to, counted over all shards."""
        found = Sets({}, self.terms.models)
        for one in self.map(CountSets(self.terms), self.shards):
            found = found.merged(one)
        self.said.append(f"{len(found.counts):,} sets of models")
        return found

    def _look(self, point: Point) -> Seen:
        """One round: all shards looked at and merged."""
        terms = replace(self.terms, tolls=point.tolls)
        step, found = See(terms, point, self.most), Seen.empty(terms)
        for one in self.map(step, self.shards):
            self.bytes_merged += one.nbytes
            found = found.merged(one, self.most)
        found.few = found.few.least(self.most)
        if found.queries != self.queries:
            raise ProblemError(f"{found.queries:,} of {self.queries:,} queries were looked at: a shard was lost, or read twice")
        if found.whole or not point.undecided_all:
            self.extent = self.extent.merged(found.extent)
        if point.undecided_all and len(found.few):
            mean = magnitude(found.few, self.terms)
            self.magnitude = mean * self.queries
            if not found.whole:
                self.terms = replace(self.terms, drawn=DRAWN * mean)
        self.said.append(
            f"{found.undecided:,} of {found.queries:,} queries undecided at {point.multiplier:.6g}, {len(found.few):,} brought "
            "to one place"
        )
        return found

    def _height(self, point: Point, seen: Seen) -> float:
        """L at the point, rounded outward: every term is off by a few roundings of what it is made of."""
        tolls, places = np.array(point.tolls), self.places
        parts = [Fraction(point.multiplier) * Fraction(self.limit)] if point.multiplier else []
        parts += [Fraction(toll) * place for toll, place in zip(point.tolls, places.tolist(), strict=True) if toll]
        total = float(sum(map(Fraction, seen.best.parts)) + sum(parts))
        scale = self.queries * (seen.extent.size + 2 * point.multiplier * seen.extent.cost + float(np.abs(tolls).max()))
        scale += abs(total) + sum(abs(float(part)) for part in parts)
        return math.nextafter(total + ROUNDING * scale, math.inf)

    def _slope(self, seen: Seen) -> Float[np.ndarray, " parameters"]:
        """How L rises with the multiplier and the tolls: what is left of the limit and of the places."""
        left = 0.0 if self.limit >= NO_LIMIT else float(Fraction(self.limit) - sum(map(Fraction, seen.cost.parts)))
        return np.array([left, *(self.places - seen.taken).tolist()])

    def _made(self, brought: Brought, solved: Solved, point: Point) -> Tolled:
        """The choices of all queries: those at the point, and the small problem's where they differ."""
        choice = solved.answers.choice
        value, cost = brought.sums(choice)
        taken = brought.decided + np.bincount(choice, minlength=self.terms.width)
        assert (taken <= self.places).all() and (cost <= self.limit or self.terms.cheapest)
        terms, changed = replace(self.terms, tolls=point.tolls), brought.changed(choice, point)
        proved = Bound(math.inf, point.multiplier, point.tolls)
        return Tolled(terms, point.multiplier, changed, value, cost, taken, self.magnitude, proved)

    def _share(self, undecided: float) -> float:
        """The part of about so many queries that is brought to one place; all, with a reserve, where they are few enough."""
        return 1.0 if undecided <= 0.75 * self.most else self.some / undecided

    def _widened(self, point: Point, seen: Seen) -> Point:
        """The point with more undecided than was seen. How many that are shows then."""
        undecided = max(seen.undecided, self.some / WIDER)
        if WIDER * undecided >= self.queries and self.queries <= self.most:
            return Point.everything(self.terms.width, 1.0)
        return _wider(replace(point, share=self._share(WIDER * undecided)), WIDER, self.terms.drawn)

    def _of_least_cost(self) -> TollRounds:
        """The same queries and capacities where least costs alone count."""
        changed = copy(self)
        changed.terms, changed.limit = replace(self.terms, cheapest=True, drawn=0.0), NO_LIMIT
        return changed

    def _worth(self, made: Tolled) -> float:
        return -made.cost if self.terms.cheapest else made.value

    def _gap(self, made: Tolled) -> float:
        return made.bound.value - self._worth(made)

    def _on_grid(self, bound: Bound) -> Bound:
        """The bound rounded down to what values can add up to, where all of them are on a grid, such as right or wrong."""
        if self.terms.cheapest:
            return bound
        return replace(bound, value=round_down(bound.value, self.extent.steps, self.queries * self.extent.size))

    def _close(self, best: Tolled, bound: Bound) -> bool:
        return self._on_grid(bound).value - self._worth(best) <= CLOSE * abs(bound.value)

    def _unreachable(self, least: float, proved: float) -> InfeasibleBudget | InfeasibleValue:
        """What was found to cost least, and what costs less than nothing can."""
        assert self.given is not None
        if self.terms.minimised:
            return InfeasibleValue(self.given, -least, -proved)
        return InfeasibleBudget(self.given, least, proved)


@dataclass(frozen=True, eq=False)
class _Low:
    """L at a point, and how it rises there."""

    point: Point
    height: float
    slope: Float[np.ndarray, " parameters"]
    undecided: float

    def crossing(self, other: _Low) -> Point | None:
        """Between the two where their tangents cross: nothing on the line lies lower (Kelley 1960, "The cutting-plane method
        for solving convex programs"). None where this one does not fall towards the other."""
        there = [np.array([one.point.multiplier, *one.point.tolls]) for one in (self, other)]
        step = there[1] - there[0]
        falls, rises = float(self.slope @ step), float(other.slope @ step)
        if not falls < 0 or not rises > falls:
            return None
        part = (other.height - rises - self.height) / (falls - rises)
        if not LEAST_STEP < part < 1:
            return None
        multiplier, *tolls = (there[0] + part * step).tolist()
        margins = tuple(map(max, self.point.margins, other.point.margins))
        return replace(other.point, multiplier=multiplier, tolls=tuple(tolls), margins=margins)


def _wider(point: Point, factor: float, least: float = 0.0) -> Point:
    """With margins by a factor larger."""
    margins = tuple(max(factor * margin, least) for margin in point.margins)
    return replace(point, margins=margins, reach=factor * point.reach)
