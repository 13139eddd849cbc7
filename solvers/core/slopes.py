"""The order in which the queries of a core are taken, and what those still to come can add or save at most.

A swap's slope is what it gains per extra cost. At the multiplier, upward swaps (more cost) have slopes of at most the
multiplier, downward swaps (less cost) of at least the multiplier. The query with the largest upward slope and the one with the
least downward slope come first, then the next ones, so that the best slopes still to come get worse quickly (Pisinger 1995, "A
minimal algorithm for the multiple-choice knapsack problem").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from solvers.core.whole import WholeCore


@dataclass(frozen=True)
class Ahead:
    """What the swaps of the queries still to come can do at most."""

    up: float
    """The largest gain per extra cost; 0 where no swap costs more."""
    reach: float
    """The extra cost of all queries together."""
    down: float
    """The least loss of gain per cost saved; 0 where no swap saves cost."""
    fall: float
    """The cost that all queries together save."""
    least: float
    """The least that a swap loses at the multiplier; infinite where there is none."""


@dataclass(frozen=True)
class Remaining:
    """Queries in their order; column `at` of the bounds is about the queries from there on."""

    queries: Int[np.ndarray, " queries"]
    bounds: Float[np.ndarray, "5 after"]

    def ahead(self, at: int) -> Ahead:
        return Ahead(*self.bounds[:, at].tolist())


def open_swaps(core: WholeCore, queries: Int[np.ndarray, " queries"], wanted: float) -> Bool[np.ndarray, "queries choices"]:
    """The swaps that by themselves leave a gain of `wanted` possible."""
    gain, extra = core.gain[queries], core.extra[queries]
    # What gains nothing and saves nothing is dominated by the base.
    useful = (gain > 0) | (extra < 0)
    return useful & (gain + core.multiplier * (core.room - extra) >= wanted)


def remaining_swaps(core: WholeCore, queries: Int[np.ndarray, " queries"], wanted: float) -> Remaining:
    """Of these queries those that can still be swapped, in order."""
    usable = open_swaps(core, queries, wanted)
    several = usable.any(axis=1)
    queries, usable = queries[several], usable[several]
    gain, extra = core.gain[queries], core.extra[queries]
    upward, downward = usable & (extra > 0), usable & (extra < 0)
    slope = gain / np.where(usable & (extra != 0), extra, 1.0)
    down = -_largest(-slope, downward, -np.inf)
    order = np.argsort(np.minimum(_rank(-_largest(slope, upward, -np.inf)), _rank(down)), kind="stable")
    bounds = np.zeros((5, len(order) + 1))
    bounds[0, :-1] = _from_here(np.maximum, _largest(slope, upward, 0.0)[order])
    bounds[1, :-1] = _from_here(np.add, _largest(extra, upward, 0.0)[order])
    bounds[2, :-1] = _from_here(np.minimum, down[order])
    bounds[2, np.isinf(bounds[2])] = 0.0
    bounds[3, :-1] = _from_here(np.add, _largest(-extra, downward, 0.0)[order])
    bounds[4, :-1] = _from_here(np.minimum, -_largest(gain - core.multiplier * extra, usable, -np.inf)[order])
    bounds[4, -1] = np.inf
    return Remaining(queries[order], bounds)


def _largest(
    numbers: Float[np.ndarray, "queries choices"], among: Bool[np.ndarray, "queries choices"], otherwise: float
) -> Float[np.ndarray, " queries"]:
    return np.where(among, numbers, otherwise).max(axis=1)


def _rank(numbers: Float[np.ndarray, " queries"]) -> Int[np.ndarray, " queries"]:
    """The place of every number when they are sorted."""
    ranks = np.empty(len(numbers), np.int64)
    ranks[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return ranks


def _from_here(combine: np.ufunc, numbers: Float[np.ndarray, " queries"]) -> Float[np.ndarray, " queries"]:
    """Of every entry and all after it."""
    return combine.accumulate(numbers[::-1])[::-1]
