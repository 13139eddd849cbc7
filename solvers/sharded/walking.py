"""A query's steps: from its cheapest choice up the hull of (cost, worth), each with the multiplier at which it starts to pay.

At a multiplier the best choice is the one that the steps above it lead to (Kellerer, Pferschy & Pisinger 2004, "Knapsack
Problems", section 11.2). A query's steps depend on its own cells only, and their multipliers never rise, so that sums over all
steps above a multiplier are monotone to the last digit.

Most queries need no steps: where a choice is better than every other at both ends of a span, by more than rounding can explain,
it is better between them too, since what a choice loses against another is linear in the multiplier. Then the steps, if they
were computed, would lead to it from above the span and leave it below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from solvers.sharded.blocks import Block

CERTAIN = 2.0**-46
"""A difference, relative to the numbers that it is made of, that rounding cannot explain: 64 times what it can."""
TOP = float(np.finfo(np.float64).max)
LEAST = float(np.finfo(np.float64).smallest_subnormal)
MOST_TIE = 2**64 - 1


@dataclass(frozen=True)
class Span:
    """Steps from one key to another. Keys order the steps of all queries: by falling multiplier, ties by the query's number, as
    `ties` draws it, so that no order of the table decides them."""

    high: float
    low: float
    first: int = 0
    """The least tie of the steps at `high` that are in the span."""
    last: int = MOST_TIE
    """The largest tie of the steps at `low` that are in the span."""

    @property
    def is_tie(self) -> bool:
        return self.high == self.low


EVERYTHING = Span(np.inf, 0.0)


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of some queries; those of one query in order, with falling multipliers."""

    query: Int[np.ndarray, " steps"]
    """The number of the query in the whole problem."""
    multiplier: Float[np.ndarray, " steps"]
    start: Int[np.ndarray, " steps"]
    """The choice that is left."""
    end: Int[np.ndarray, " steps"]
    """The choice that is taken."""
    value: Float[np.ndarray, "2 steps"]
    """Of the choice that is left, and of that which is taken."""
    cost: Float[np.ndarray, "2 steps"]

    def __len__(self) -> int:
        return len(self.query)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())

    def __getitem__(self, chosen: np.ndarray | slice) -> Steps:
        return Steps(*(array[..., chosen] for array in vars(self).values()))

    @staticmethod
    def of(parts: list[Steps]) -> Steps:
        """All of them as one."""
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0)
        empty = Steps(
            none.astype(np.int64), none, none.astype(np.int16), none.astype(np.int16), np.zeros((2, 0)), np.zeros((2, 0))
        )
        return Steps(*(np.concatenate(arrays, axis=-1) for arrays in zip(*(vars(one).values() for one in (empty, *parts)))))


def ties(query: Int[np.ndarray, "*queries"]) -> UInt[np.ndarray, "*queries"]:
    """A number for every query, different for all of them, in no order: the finaliser of SplitMix64 (Steele, Lea & Flood 2014,
    "Fast splittable pseudorandom number generators")."""
    drawn = query.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    drawn = (drawn ^ (drawn >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    drawn = (drawn ^ (drawn >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return drawn ^ (drawn >> np.uint64(31))


class Weigher:
    """The best choices at a multiplier, in buffers that are used again for every block."""

    def __init__(self, width: int, rows: int):
        self._float = np.empty((4, rows))
        self._best = np.empty((2, rows), np.int8 if width <= 127 else np.int16)
        self._better = np.empty(rows, bool)
        self.rows = rows

    def best_at(self, block: Block, multiplier: float) -> tuple[Int[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """Per query the best choice, and whether it is certain: no other is as good but for rounding. Both are overwritten by
        the second call after this one."""
        choice, best, second = self.weigh(block, multiplier)
        rounding = self._float[0, : len(block)]
        np.abs(best, out=rounding)
        rounding += block.size
        rounding *= CERTAIN
        # Where everything is -inf this is NaN, and not certain.
        with np.errstate(invalid="ignore"):
            np.subtract(best, second, out=best)
        return choice, best > rounding

    def weigh(
        self, block: Block, multiplier: float
    ) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Per query the best choice, the last among equals, what it is worth at the multiplier, and what the next one is. The
        choices are overwritten by the second call after this one, the others by the next."""
        count = len(block)
        worth, least, best, second = (one[:count] for one in self._float)
        self._best = self._best[::-1]
        choice, better = self._best[0, :count], self._better[:count]
        marks = better.view(np.int8) if choice.dtype == np.int8 else better
        best.fill(-np.inf)
        second.fill(-np.inf)
        choice.fill(0)
        for column in range(len(block.worth)):
            np.multiply(block.cost[column], multiplier, out=least[: block.cost.shape[1]])
            np.subtract(block.worth[column], least[: block.cost.shape[1]], out=worth)
            np.greater(worth, best, out=better)
            np.minimum(best, worth, out=least)
            np.maximum(second, least, out=second)
            np.maximum(best, worth, out=best)
            # The later column is the larger number.
            np.maximum(choice, marks * choice.dtype.type(column), out=choice)
        return choice, best, second


def walk(block: Block) -> tuple[Int[np.ndarray, " rows"], list[tuple[np.ndarray, ...]]]:
    """The cheapest choice of every query, the most valuable among equals, and their steps in rounds.

    A round is (rows of the block, multipliers, choices left, choices taken) of the queries that have one more step.
    """
    worth, cost = block.worth, block.cost
    closed = np.isneginf(worth)
    cheapest = _best(np.where(closed, -np.inf, -cost), worth)
    rounds: list[tuple[np.ndarray, ...]] = []
    active, at, limit = np.arange(len(block)), cheapest, np.full(len(block), TOP)
    while active.size:
        row = np.arange(active.size)
        gain, extra = worth - worth[at, row], cost - cost[at, row]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            slope = np.where((gain > 0) & (extra > 0), np.clip(gain / extra, LEAST, TOP), -np.inf)
        # Among equals the most valuable, so that none is left behind that is worth more and costs no more.
        taken = _best(slope, worth)
        steepest = slope[taken, row]
        going = np.flatnonzero(steepest > 0)
        if going.size < active.size:
            active, at, limit, taken, steepest = active[going], at[going], limit[going], taken[going], steepest[going]
            worth, cost = worth[:, going], cost[:, going]
        # Rounding alone could let a multiplier rise.
        limit = np.minimum(limit, steepest)
        if active.size:
            rounds.append((active, limit, at, taken))
        at = taken
    return cheapest.copy(), rounds


def _best(first: Float[np.ndarray, "choices rows"], then: Float[np.ndarray, "choices rows"]) -> Int[np.ndarray, " rows"]:
    """Per column the row with the largest `first`; among equals the largest `then`, then the first."""
    best = first.argmax(axis=0)
    equal = first == first[best, np.arange(first.shape[1])]
    if np.count_nonzero(equal) > first.shape[1]:
        tied = np.flatnonzero(equal.sum(axis=0) > 1)
        best[tied] = np.where(equal[:, tied], then[:, tied], -np.inf).argmax(axis=0)
    return best
