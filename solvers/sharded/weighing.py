"""The best choice of every query at a price with tolls, and by how much it is the best.

With capacities ties cannot be settled by steps (`walking.py`), since a query may go up and down. They are settled by a little
value that is drawn for every query and choice from the query's number: so little that what is lost by it cannot be seen in
the proof, which is computed without it, and enough to let few queries tie.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from solvers.sharded.blocks import Block
from solvers.sharded.walking import Weigher, ties


def weigh(
    block: Block, weigher: Weigher, multiplier: float, drawn: float
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Per query the best choice, what it is worth at the multiplier, and how much more than the next one.

    Where the difference is at most twice `drawn`, the largest drawn value, choice and difference are those with it.
    """
    choice, best, second = weigher.weigh(block, multiplier)
    choice, margin = choice.astype(np.intp), best - second
    near = np.flatnonzero(margin <= 2 * drawn)
    if near.size:
        worth = _worth(block, near, multiplier, drawn)
        choice[near] = worth.argmax(axis=0)
        two = np.partition(worth, len(worth) - 2, axis=0)[-2:] if len(worth) > 1 else worth
        margin[near] = two[-1] - two[0] if len(worth) > 1 else np.inf
    return choice, best.copy(), margin


def undecided(
    block: Block,
    choice: Int[np.ndarray, " rows"],
    margin: Float[np.ndarray, " rows"],
    margins: Float[np.ndarray, " choices"],
    reach: float,
    multiplier: float,
    drawn: float,
) -> Int[np.ndarray, " some"]:
    """The queries whose best choice is worth more than the next one by no more than the larger of the two choices' margins, and
    what a change of the multiplier by `reach` makes of their costs."""
    if reach:
        margin = margin - reach * cost_range(block)
    near = np.flatnonzero(margin <= margins.max())
    if near.size and margins.min() < margins.max():
        near = near[margin[near] <= np.maximum(margins[choice[near]], margins[_next(block, near, choice, multiplier, drawn)])]
    return near


def cost_range(block: Block) -> Float[np.ndarray, " #rows"]:
    """Per query the largest difference of costs, or one for all of them."""
    return block.cost.max(axis=0) - block.cost.min(axis=0)


def least_margins(
    block: Block,
    choice: Int[np.ndarray, " rows"],
    margin: Float[np.ndarray, " rows"],
    count: int,
    multiplier: float,
    drawn: float,
) -> Float[np.ndarray, " choices"]:
    """Per choice the margin within which `count` queries have it as their best or next choice; infinite where fewer do."""
    following = _next(block, np.arange(len(block)), choice, multiplier, drawn)
    found = np.full(len(block.worth), np.inf)
    for one in range(len(found)):
        own = margin[(choice == one) | (following == one)]
        if len(own) >= count:
            found[one] = np.partition(own, count - 1)[count - 1]
    return found


def _worth(block: Block, rows: Int[np.ndarray, " some"], multiplier: float, drawn: float) -> Float[np.ndarray, "choices some"]:
    """With what is drawn."""
    cost = block.cost[:, rows] if block.cost.shape[1] > 1 else block.cost
    return block.worth[:, rows] - cost * multiplier + drawn * lots(block.numbers[rows], len(block.worth))


def _next(
    block: Block, rows: Int[np.ndarray, " some"], choice: Int[np.ndarray, " rows"], multiplier: float, drawn: float
) -> Int[np.ndarray, " some"]:
    """The next choice of some queries."""
    worth = _worth(block, rows, multiplier, drawn)
    worth[choice[rows], np.arange(len(rows))] = -np.inf
    return worth.argmax(axis=0)


def lots(numbers: Int[np.ndarray, " rows"], width: int) -> Float[np.ndarray, "choices rows"]:
    """A number from 0 to 1 for every choice of every query."""
    drawn = ties(numbers * width + np.arange(width)[:, None])
    return np.ldexp((drawn >> np.uint64(11)).astype(np.float64), -53)
