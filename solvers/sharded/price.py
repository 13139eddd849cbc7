"""The price of all shards: what decides the choice of every query, without a look at any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from solvers.sharded.blocks import Block, Terms, blocks
from solvers.sharded.shards import Shard
from solvers.sharded.summaries import above
from solvers.sharded.walking import Span, Weigher
from solvers.sharded.weighing import weigh

UNANSWERED = -1


@dataclass(frozen=True)
class Price:
    """A multiplier, the ties that are above it, and the few queries that spend the last of the budget.

    With capacities the tolls are in `terms`, ties are settled by what is drawn, and the few queries fill the last places too.
    """

    terms: Terms
    multiplier: float
    """Of the standard form. Steps above it are taken."""
    tie: int = 0
    """Steps at the multiplier are taken of the queries whose drawn number is below this one."""
    changed: dict[int, int] = field(default_factory=dict[int, int])
    """Queries, by their numbers in the whole problem, whose choice is another one."""

    def assign(self, shard: Shard) -> Iterator[Assigned]:
        """The queries of a shard in order, some at a time."""
        span = Span(self.multiplier, self.multiplier, self.tie, self.tie)
        numbers = np.array(sorted(self.changed), np.int64)
        weigher: Weigher | None = None
        for block in blocks(shard, self.terms):
            if weigher is None or len(block) > weigher.rows:
                weigher = Weigher(self.terms.width, len(block))
            if self.terms.tolls is not None:
                choice, _, _ = weigh(block, weigher, self.multiplier, self.terms.drawn)
            else:
                best, certain = weigher.best_at(block, self.multiplier)
                choice, open_rows = best.astype(np.intp), np.flatnonzero(~certain)
                if open_rows.size:
                    choice[open_rows] = above(block.only(open_rows), span)[0]
            first, last = np.searchsorted(numbers, (block.numbers[0], block.numbers[-1] + 1))
            for query in numbers[first:last].tolist():
                choice[query - block.numbers[0]] = self.changed[query]
            yield _assigned(block, self.terms, choice)


@dataclass(frozen=True, eq=False)
class Assigned:
    """Some queries of a shard with their models."""

    choice: Int[np.ndarray, " rows"]
    """The column of each query's model; -1 = unanswered."""
    value: Float[np.ndarray, " rows"]
    cost_usd: Float[np.ndarray, " rows"]


def _assigned(block: Block, terms: Terms, choice: Int[np.ndarray, " rows"]) -> Assigned:
    value, cost = block.picked(choice)
    if terms.minimised:
        value, cost = -cost, -value
    if terms.allow_unanswered:
        choice = np.where(choice == terms.models, UNANSWERED, choice)
    return Assigned(choice, value, cost)
