"""What a shard says of a price with tolls: what is decided there, summed exactly, and some of the queries that are not.

A query is decided where its best choice is worth more than the next one by the margins of both. Of those that are not, the ones
travel whose numbers draw the least; which these are does not depend on how the queries are cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from solvers.grid import common_steps, steps_of
from solvers.sharded.blocks import Block, Terms, blocks, drawn_blocks
from solvers.sharded.shards import Shard
from solvers.sharded.summaries import Total
from solvers.sharded.walking import MOST_TIE, Weigher, ties
from solvers.sharded.weighing import undecided, weigh
from solvers.sums import RunningSum


@dataclass(frozen=True)
class Point:
    """A multiplier and tolls, and which queries are undecided there."""

    multiplier: float
    tolls: tuple[float, ...]
    margins: tuple[float, ...]
    """Per choice: a query is undecided whose best choice is worth more than the next one by no more than the larger of both,
    and `reach` times the difference of its largest and least cost."""
    reach: float
    """How far the multiplier may be off."""
    share: float
    """Of the undecided queries the part that is brought to one place."""

    @property
    def undecided_all(self) -> bool:
        return all(map(math.isinf, self.margins))

    @staticmethod
    def everything(width: int, share: float) -> Point:
        """All queries are undecided."""
        return Point(0.0, (0.0,) * width, (math.inf,) * width, 0.0, share)


@dataclass(frozen=True, eq=False)
class Few:
    """Some undecided queries, with their cells."""

    number: Int[np.ndarray, " rows"]
    value: Float[np.ndarray, "rows choices"]
    """-inf where not available."""
    cost: Float[np.ndarray, "rows choices"]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def lot(self) -> UInt[np.ndarray, " rows"]:
        return _lot(self.number)

    def least(self, most: int) -> Few:
        """Those of the least lots, at most so many, in the order of their numbers."""
        chosen = np.argsort(self.lot, kind="stable")[:most]
        chosen = chosen[np.argsort(self.number[chosen], kind="stable")]
        return Few(self.number[chosen], self.value[chosen], self.cost[chosen])

    @staticmethod
    def of(parts: list[Few], width: int) -> Few:
        empty = Few(np.zeros(0, np.int64), np.zeros((0, width)), np.zeros((0, width)))
        return Few(*(np.concatenate(arrays) for arrays in zip(*(vars(one).values() for one in (empty, *parts)))))


@dataclass(eq=False)
class Extent:
    """The largest of some numbers, against which rounding is measured."""

    size: float = 0.0
    """The largest absolute value or worth."""
    cost: float = 0.0
    """The largest absolute cost."""
    steps: int = 1
    """Steps per unit of which all values are whole numbers; 0 if there are none."""

    def add(self, block: Block) -> None:
        if self.steps:
            self.steps = common_steps(self.steps, steps_of(block.value))
        self.size = max(self.size, block.size)
        self.cost = max(self.cost, block.cost_size)

    def merged(self, other: Extent) -> Extent:
        steps = common_steps(self.steps, other.steps)
        return Extent(max(self.size, other.size), max(self.cost, other.cost), steps)


@dataclass(eq=False)
class Seen:
    """What one shard, or several together, say of a point. Where all queries are undecided there, the sums are empty."""

    queries: int
    best: Total
    """The sum over all queries of what their best choice is worth at the price and the tolls."""
    value: Total
    """Of all queries with their best choice, as `cost` and `taken`."""
    cost: Total
    taken: Int[np.ndarray, " choices"]
    undecided: int
    few: Few
    """Some of the undecided queries, or all."""
    extent: Extent

    @staticmethod
    def empty(terms: Terms) -> Seen:
        taken, few = np.zeros(terms.width, np.int64), Few.of([], terms.width)
        return Seen(0, Total(), Total(), Total(), taken, 0, few, Extent())

    def merged(self, other: Seen, most: int) -> Seen:
        """Both as one; the order makes no difference."""
        few = Few.of([self.few, other.few], len(self.taken))
        return Seen(
            self.queries + other.queries,
            self.best + other.best,
            self.value + other.value,
            self.cost + other.cost,
            self.taken + other.taken,
            self.undecided + other.undecided,
            few.least(most) if len(few) > 2 * most else few,
            self.extent.merged(other.extent),
        )

    @property
    def whole(self) -> bool:
        """Whether all undecided queries were brought to one place."""
        return len(self.few) == self.undecided

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and sums: what travels."""
        totals = (self.best, self.value, self.cost)
        arrays = sum(array.nbytes for array in vars(self.few).values())
        return 8 * sum(len(total.parts) for total in totals) + self.taken.nbytes + arrays


@dataclass(frozen=True)
class See:
    """The step of a round of tolls. It can be pickled."""

    terms: Terms
    """With the tolls of the point."""
    point: Point
    most: int
    """Of the undecided queries at most so many are brought to one place."""

    def __call__(self, shard: Shard) -> Seen:
        """Raises `ProblemError` naming the shard and the first cell that cannot be used."""
        if self.point.undecided_all:
            return self._drawn(shard)
        point, drawn = self.point, self.terms.drawn
        best, value, cost = (RunningSum() for _ in range(3))
        found, few = Seen.empty(self.terms), _Growing(self.terms.width, self.most)
        margins, weigher = np.array(point.margins), None
        for block in blocks(shard, self.terms):
            if weigher is None or len(block) > weigher.rows:
                weigher = Weigher(self.terms.width, len(block))
            choice, worth, margin = weigh(block, weigher, point.multiplier, drawn)
            best.add(worth)
            open_rows = undecided(block, choice, margin, margins, point.reach, point.multiplier, drawn)
            values, dollars = block.picked(choice)
            value.add(values)
            cost.add(dollars)
            found.taken += np.bincount(choice, minlength=self.terms.width)
            found.undecided += open_rows.size
            found.extent.add(block)
            few.add(block, open_rows[self._travels(block.numbers[open_rows])])
        found.queries, found.few = len(shard), few.least()
        found.best, found.value, found.cost = (Total(one.parts()) for one in (best, value, cost))
        return found

    def _drawn(self, shard: Shard) -> Seen:
        """Where all are undecided only those are looked at that are brought to one place."""
        found, few = Seen.empty(self.terms), _Growing(self.terms.width, self.most)
        whole = self.point.share >= 1
        for block in blocks(shard, self.terms) if whole else drawn_blocks(shard, self.terms, self._travels):
            found.extent.add(block)
            few.add(block, np.arange(len(block)))
        found.queries = found.undecided = len(shard)
        found.few = few.least()
        return found

    def _travels(self, numbers: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Whether these queries, if undecided, are brought to one place."""
        return _lot(numbers) <= np.uint64(MOST_TIE if self.point.share >= 1 else int(self.point.share * 2.0**64))


class _Growing:
    """The queries of the least lots among those that are added."""

    def __init__(self, width: int, most: int):
        self.width, self.most, self.parts, self.count = width, most, list[Few](), 0

    def add(self, block: Block, rows: Int[np.ndarray, " some"]) -> None:
        if not rows.size:
            return
        value, cost = block.value[:, rows].T, np.broadcast_to(block.cost, block.worth.shape)[:, rows].T
        self.parts.append(Few(block.numbers[rows], np.ascontiguousarray(value), np.ascontiguousarray(cost)))
        self.count += rows.size
        if self.count > 2 * self.most:
            self.parts = [self.least()]
            self.count = len(self.parts[0])

    def least(self) -> Few:
        return Few.of(self.parts, self.width).least(self.most)


def _lot(numbers: Int[np.ndarray, " rows"]) -> UInt[np.ndarray, " rows"]:
    """Drawn for every query, apart from what settles ties."""
    return ties(ties(numbers).view(np.int64))
