"""Ties at the price in force, spread over the queries without regard to their order.

Where many queries change their choice at one multiplier, as with answers that are right or wrong, the limit pays for some of
them, and each is as good as another. Taken in the order of the table they would follow whatever it is sorted by: one task would
get one model. They are taken in an order that is drawn, from the same seed in every run.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from solvers.choices import Answers, Choices

SEED = 240_113_979
"""One that nobody takes to shuffle a table: the same draw twice can put it back in order."""


def shuffled(count: int) -> Int[np.ndarray, " count"]:
    """The numbers below `count` in an order that is drawn, the same in every run."""
    return np.random.default_rng(SEED).permutation(count)


def least_first(numbers: Float[np.ndarray, " count"]) -> Int[np.ndarray, " count"]:
    """Positions by rising number; equal ones in an order that is drawn."""
    drawn = shuffled(len(numbers))
    return drawn[np.argsort(numbers[drawn], kind="stable")]


def mixed(problem: Choices, within: Int[np.ndarray, " queries"], over: Int[np.ndarray, " queries"]) -> Answers:
    """As much of `over`, which breaks the limit, in place of `within`, which keeps it, as the limit allows.

    Both are best at one multiplier, so any mixture is. The changes add value, and are made in an order that is drawn until one
    does not fit.
    """
    differing = np.flatnonzero(within != over)
    kept = problem.answers(within)
    if not differing.size:
        return kept
    (value, cost), (other_value, other_cost) = problem.picked(within), problem.picked(over)
    adding = differing[(other_value > value)[differing] & (other_cost > cost)[differing]]
    adding = adding[shuffled(len(adding))]
    spent = np.cumsum((other_cost - cost)[adding])
    count = int(np.searchsorted(spent, problem.limit - kept.totals[1], side="right"))
    while count:
        choice = within.copy()
        choice[adding[:count]] = over[adding[:count]]
        found = problem.answers(choice)
        if problem.fits(found.totals[1]):
            return found
        # Running sums are rounded.
        count -= 1
    return kept
