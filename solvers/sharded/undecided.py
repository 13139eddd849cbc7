"""What a shard says of a price with tolls: what is decided there, summed exactly, and some of the queries that are not.

A query is decided where its best choice is worth more than the next one by the margins of both. Of those that are not, the ones
travel whose numbers draw the least; which these are does not depend on how the queries are cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt

from solvers.sharded.blocks import Block, Terms, blocks
from solvers.sharded.shards import Shard
from solvers.sharded.summaries import Total, largest
from solvers.sharded.walking import MOST_TIE, Weigher, ties
from solvers.sharded.weighing import undecided, weigh
from solvers.sums import RunningSum


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
class Seen:
    """What one shard, or several together, say of a price with tolls."""

    queries: int
    best: Total
    """The sum over all queries of what their best choice is worth at the price and the tolls."""
    magnitude: Total
    """The sum over all queries of the largest absolute worth, and of the largest absolute cost."""
    cost_magnitude: Total
    value: Total
    """Of the decided queries, as `cost` and `taken`."""
    cost: Total
    taken: Int[np.ndarray, " choices"]
    undecided: int
    few: Few
    """Some of the undecided queries, or all."""

    @staticmethod
    def empty(terms: Terms) -> Seen:
        return Seen(0, Total(), Total(), Total(), Total(), Total(), np.zeros(terms.width, np.int64), 0, Few.of([], terms.width))

    def merged(self, other: Seen, most: int) -> Seen:
        """Both as one; the order makes no difference."""
        few = Few.of([self.few, other.few], len(self.taken))
        return Seen(
            self.queries + other.queries,
            self.best + other.best,
            self.magnitude + other.magnitude,
            self.cost_magnitude + other.cost_magnitude,
            self.value + other.value,
            self.cost + other.cost,
            self.taken + other.taken,
            self.undecided + other.undecided,
            few.least(most) if len(few) > 2 * most else few,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and sums: what travels."""
        totals = (self.best, self.magnitude, self.cost_magnitude, self.value, self.cost)
        arrays = sum(array.nbytes for array in vars(self.few).values())
        return 8 * sum(len(total.parts) for total in totals) + self.taken.nbytes + arrays


@dataclass(frozen=True)
class See:
    """The step of a round of tolls. It can be pickled."""

    terms: Terms
    multiplier: float
    margins: tuple[float, ...]
    """Per choice: a query is undecided whose best choice is worth more than the next one by no more than the larger of both."""
    share: float
    """Of the undecided queries the part that travels."""
    most: int
    """Of these at most so many."""

    def __call__(self, shard: Shard) -> Seen:
        """Raises `ProblemError` naming the shard and the first cell that cannot be used."""
        best, magnitude, costs, value, cost = (RunningSum() for _ in range(5))
        taken, count, few = np.zeros(self.terms.width, np.int64), 0, list[Few]()
        weigher: Weigher | None = None
        last = np.uint64(MOST_TIE if self.share >= 1 else int(self.share * 2.0**64))
        for block in blocks(shard, self.terms):
            if weigher is None or len(block) > weigher.rows:
                weigher = Weigher(self.terms.width, len(block))
            choice, worth, margin = weigh(block, weigher, self.multiplier, self.terms.drawn)
            best.add(worth)
            magnitude.add(largest(block))
            costs.add(np.broadcast_to(np.abs(block.cost).max(axis=0), len(block)))
            open_rows = undecided(block, choice, margin, np.array(self.margins), self.multiplier, self.terms.drawn)
            decided = np.ones(len(block), bool)
            decided[open_rows] = False
            values, dollars = block.picked(choice)
            value.add(values[decided])
            cost.add(np.broadcast_to(dollars, len(block))[decided])
            taken += np.bincount(choice[decided], minlength=len(taken))
            count += open_rows.size
            travelling = open_rows[_lot(block.numbers[open_rows]) <= last]
            if travelling.size:
                few.append(_few(block, travelling))
            if sum(map(len, few)) > 2 * self.most:
                few = [Few.of(few, self.terms.width).least(self.most)]
        few_at_most = Few.of(few, self.terms.width).least(self.most)
        sums = tuple(Total(one.parts()) for one in (best, magnitude, costs, value, cost))
        return Seen(len(shard), sums[0], sums[1], sums[2], sums[3], sums[4], taken, count, few_at_most)


def _few(block: Block, rows: Int[np.ndarray, " some"]) -> Few:
    value, cost = block.value[:, rows].T, np.broadcast_to(block.cost, block.worth.shape)[:, rows].T
    return Few(block.numbers[rows], np.ascontiguousarray(value), np.ascontiguousarray(cost))


def _lot(numbers: Int[np.ndarray, " rows"]) -> UInt[np.ndarray, " rows"]:
    """Drawn for every query, apart from what settles ties."""
    return ties(ties(numbers).view(np.int64))
