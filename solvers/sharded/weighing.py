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
        worth = block.worth[:, near] - block.cost[:, near if block.cost.shape[1] > 1 else slice(None)] * multiplier
        worth = worth + drawn * lots(block.numbers[near], len(worth))
        choice[near] = worth.argmax(axis=0)
        two = np.partition(worth, len(worth) - 2, axis=0)[-2:] if len(worth) > 1 else worth
        margin[near] = two[-1] - two[0] if len(worth) > 1 else np.inf
    return choice, best.copy(), margin


def lots(numbers: Int[np.ndarray, " rows"], width: int) -> Float[np.ndarray, "choices rows"]:
    """A number from 0 to 1 for every choice of every query."""
    drawn = ties(numbers * width + np.arange(width)[:, None])
    return np.ldexp((drawn >> np.uint64(11)).astype(np.float64), -53)
