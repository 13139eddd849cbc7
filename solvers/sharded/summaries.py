"""Summaries: what a shard says of a span of steps; small, and merged in any order into the same numbers.

    choices above the span: value and cost, summed exactly, and how many queries take each choice
    steps in the span: the steps themselves where they are few, else how they are spread over 4,096 buckets

Sums are kept as a few floats whose exact sum they are (`solvers.sums`), so that the order of additions leaves no trace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, UInt

from solvers.sharded.blocks import Block, Terms, blocks
from solvers.sharded.shards import Shard
from solvers.sharded.walking import MOST_TIE, Span, Steps, Weigher, ties, walk
from solvers.sums import RunningSum, exact_parts

BUCKETS = 2**12
MOST_PARTS = 64
TOGETHER = 2**13
"""Queries whose steps are computed together."""


@dataclass
class Total:
    """An exact sum that can be merged with others."""

    parts: list[float] = field(default_factory=list[float])

    @staticmethod
    def of(numbers: Float[np.ndarray, " count"]) -> Total:
        return Total(exact_parts(numbers))

    def __add__(self, other: Total) -> Total:
        parts = self.parts + other.parts
        return Total(exact_parts(np.array(parts)) if len(parts) > MOST_PARTS else parts)

    def rounded(self) -> float:
        """Rounded once."""
        return math.fsum(self.parts)


@dataclass(eq=False)
class Histogram:
    """Steps of a span in buckets by their keys."""

    count: Int[np.ndarray, " buckets"]
    cost: Float[np.ndarray, " buckets"]
    """What they add to the cost, as floats add up: it says where to look next and nothing else."""
    nearest: UInt[np.ndarray, " buckets"]
    """The least position in the span of a step of the bucket, and the largest: of multipliers, or of ties."""
    furthest: UInt[np.ndarray, " buckets"]

    @staticmethod
    def empty() -> Histogram:
        most = np.full(BUCKETS, MOST_TIE, np.uint64)
        return Histogram(np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS), most, np.zeros(BUCKETS, np.uint64))

    def add(self, span: Span, steps: Steps) -> None:
        place = positions(span, steps)
        bucket = (place >> np.uint64(shift(span))).astype(np.intp)
        self.count += np.bincount(bucket, minlength=BUCKETS)
        self.cost += np.bincount(bucket, steps.cost[1] - steps.cost[0], minlength=BUCKETS)
        np.minimum.at(self.nearest, bucket, place)
        np.maximum.at(self.furthest, bucket, place)

    def merged(self, other: Histogram) -> Histogram:
        return Histogram(
            self.count + other.count,
            self.cost + other.cost,
            np.minimum(self.nearest, other.nearest),
            np.maximum(self.furthest, other.furthest),
        )


def positions(span: Span, steps: Steps) -> UInt[np.ndarray, " steps"]:
    """Where steps are in the span, from its beginning: in multipliers, which are ordered as their bits are, or in ties."""
    if span.is_tie:
        return ties(steps.query) - np.uint64(span.first)
    return np.array(span.high).view(np.uint64) - steps.multiplier.view(np.uint64)


def shift(span: Span) -> int:
    """Low bits of a position that a bucket disregards."""
    size = (
        span.last - span.first
        if span.is_tie
        else int(np.array(span.high).view(np.uint64)) - int(np.array(span.low).view(np.uint64))
    )
    return max(0, size.bit_length() - (BUCKETS.bit_length() - 1))


def narrowed(span: Span, nearest: int, furthest: int) -> Span:
    """The part of the span between two positions."""
    if span.is_tie:
        return Span(span.high, span.low, span.first + nearest, span.first + furthest)
    top = int(np.array(span.high).view(np.uint64))
    high, low = (float(np.array(top - place, np.uint64).view(np.float64)) for place in (nearest, furthest))
    return Span(high, low, span.first if high == span.high else 0, span.last if low == span.low else MOST_TIE)


@dataclass(eq=False)
class Summary:
    """What one shard, or several together, say of a span."""

    queries: int
    value: Total
    """Of the choices above the span, as `cost`."""
    cost: Total
    magnitude: Total
    """The sum over all queries of the largest absolute worth."""
    taken: Int[np.ndarray, " choices"]
    """How many queries take each choice above the span."""
    steps: list[Steps] | None
    """Those in the span, in no order; None where they are too many."""
    histogram: Histogram | None
    """Of all steps in the span, where there are too many to list."""

    @staticmethod
    def empty(terms: Terms) -> Summary:
        return Summary(0, Total(), Total(), Total(), np.zeros(terms.width, np.int64), [], None)

    def merged(self, other: Summary, span: Span) -> Summary:
        """Both as one; the order makes no difference."""
        listed = self.steps is not None and other.steps is not None
        histogram = None if listed else self._histogram(span).merged(other._histogram(span))
        return Summary(
            self.queries + other.queries,
            self.value + other.value,
            self.cost + other.cost,
            self.magnitude + other.magnitude,
            self.taken + other.taken,
            [*(self.steps or []), *(other.steps or [])] if listed else None,
            histogram,
        )

    def limited(self, most: int, span: Span) -> Summary:
        """The same with a histogram in place of more than `most` steps."""
        if self.steps is None or sum(map(len, self.steps)) <= most:
            return self
        return Summary(self.queries, self.value, self.cost, self.magnitude, self.taken, None, self._histogram(span))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and sums: what travels."""
        sums = 8 * sum(len(total.parts) for total in (self.value, self.cost, self.magnitude))
        steps = sum(one.nbytes for one in self.steps or [])
        histogram = sum(array.nbytes for array in vars(self.histogram).values()) if self.histogram else 0
        return sums + self.taken.nbytes + steps + histogram

    def _histogram(self, span: Span) -> Histogram:
        if self.histogram is not None:
            return self.histogram
        made = Histogram.empty()
        for steps in self.steps or []:
            made.add(span, steps)
        return made


@dataclass(frozen=True)
class Look:
    """The step of every round: what a shard says of a span. It can be pickled."""

    terms: Terms
    span: Span
    most_steps: int
    """More steps than so many are not listed."""
    part: float = 1.0
    """The share of its queries, its first ones, that the shard looks at."""

    def __call__(self, shard: Shard) -> Summary:
        """Raises `ProblemError` naming the shard and the first cell that cannot be used."""
        gathered = _Gathered(self)
        weigher: Weigher | None = None
        for block in blocks(shard, self.terms, None if self.part >= 1 else math.ceil(self.part * len(shard))):
            if weigher is None or len(block) > weigher.rows:
                weigher = Weigher(self.terms.width, len(block))
            gathered.add(block, weigher)
        return gathered.summary()


class _Gathered:
    """A summary as it grows."""

    def __init__(self, look: Look):
        self.look = look
        self.queries = 0
        self.value, self.cost, self.magnitude = RunningSum(), RunningSum(), RunningSum()
        self.taken = np.zeros(look.terms.width, np.int64)
        self.steps: list[Steps] | None = []
        self.waiting: list[Block] = []
        self.count = 0
        self.histogram: Histogram | None = None

    def add(self, block: Block, weigher: Weigher) -> None:
        """Sum the queries whose choice does not change within the span; the others wait until they are many enough."""
        span = self.look.span
        self.queries += len(block)
        self.magnitude.add(largest(block))
        if not np.isfinite(span.high):
            self._wait(block.only(np.arange(len(block))))
            return
        choice, certain = weigher.best_at(block, span.high)
        other, certain_too = weigher.best_at(block, span.low)
        decided = certain & certain_too & (choice == other)
        open_rows, choice = np.flatnonzero(~decided), choice.astype(np.intp)
        if not open_rows.size:
            self._sum(block, choice, slice(None))
            return
        self._sum(block, choice, decided)
        self._wait(block.only(open_rows))

    def summary(self) -> Summary:
        self._walk()
        value, cost, magnitude = (Total(one.parts()) for one in (self.value, self.cost, self.magnitude))
        return Summary(self.queries, value, cost, magnitude, self.taken, self.steps, self.histogram)

    def _sum(self, block: Block, choice: Int[np.ndarray, " rows"], rows: np.ndarray | slice) -> None:
        value, cost = block.picked(choice)
        self.value.add(value[rows])
        self.cost.add(cost[rows])
        self.taken += np.bincount(choice[rows], minlength=len(self.taken))

    def _wait(self, block: Block) -> None:
        self.waiting.append(block)
        if sum(map(len, self.waiting)) >= TOGETHER:
            self._walk()

    def _walk(self) -> None:
        if self.waiting:
            block = Block.joined(self.waiting)
            self.waiting = []
            choice, steps = above(block, self.look.span)
            self._sum(block, choice, slice(None))
            self._list(steps)

    def _list(self, steps: Steps) -> None:
        if not len(steps):
            return
        self.count += len(steps)
        if self.steps is not None:
            self.steps.append(steps)
            if self.count <= self.look.most_steps:
                return
            waiting, self.steps, self.histogram = self.steps, None, Histogram.empty()
        else:
            waiting = [steps]
        assert self.histogram is not None
        for one in waiting:
            self.histogram.add(self.look.span, one)


def above(block: Block, span: Span) -> tuple[Int[np.ndarray, " rows"], Steps]:
    """The choices of a block's queries above the span, and their steps within it."""
    choice, rounds = walk(block)
    drawn = ties(block.numbers)
    listed: list[Steps] = []
    for active, multiplier, start, end in rounds:
        tie = drawn[active]
        before = (multiplier > span.high) | ((multiplier == span.high) & (tie < np.uint64(span.first)))
        after = (multiplier < span.low) | ((multiplier == span.low) & (tie > np.uint64(span.last)))
        choice[active[before]] = end[before]
        inside = np.flatnonzero(~(before | after))
        if inside.size:
            row, left, taken = active[inside], start[inside], end[inside]
            value, cost = (np.stack([cells[left, row], cells[taken, row]]) for cells in (block.value, block.cost))
            listed.append(
                Steps(block.numbers[row], multiplier[inside], left.astype(np.int16), taken.astype(np.int16), value, cost)
            )
    return choice, Steps.of(listed)


def largest(block: Block) -> Float[np.ndarray, " rows"]:
    """Per query the largest absolute worth of an available choice."""
    worth, least = block.worth, block.worth.min(axis=0)
    if least.min() == -np.inf:
        worth = np.where(np.isneginf(worth), 0.0, worth)
        least = worth.min(axis=0)
    return np.maximum(worth.max(axis=0), -least)
