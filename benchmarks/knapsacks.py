"""Multiple-choice knapsacks of five classes in whole numbers, from easy to hard: what solvers of such problems are compared on.

The classes of Pisinger 1995, "A minimal algorithm for the multiple-choice knapsack problem". R is the largest number:

    uncorrelated         cost and value uniform in 1..R
    weakly_correlated    cost uniform in 1..R, value within 10 of it, at least 1
    strongly_correlated  sums of the k cheapest of M items, each worth its cost, uniform in 1..R, and 10 more
    subset_sum           cost uniform in 1..R, value equal to it
    zig_zag              cost and value uniform in 1..R, both sorted: no choice dominates another (Sinha & Zoltners)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

KINDS = ("uncorrelated", "weakly_correlated", "strongly_correlated", "subset_sum", "zig_zag")
NEAR = 10
"""How far values are from costs where the two are correlated."""


def knapsack(
    kind: str, queries: int, models: int, largest: int = 1_000, *, share: float = 0.5, seed: int = 0
) -> tuple[Float[np.ndarray, "queries models"], Float[np.ndarray, "queries models"], float]:
    """Value, cost and budget, all whole numbers; the budget lies `share` of the way from the least cost to the largest."""
    generator = np.random.default_rng(seed)
    size = (queries, models)
    cost = generator.integers(1, largest, size, endpoint=True)
    if kind == "uncorrelated":
        value = generator.integers(1, largest, size, endpoint=True)
    elif kind == "weakly_correlated":
        value = np.maximum(cost + generator.integers(-NEAR, NEAR, size, endpoint=True), 1)
    elif kind == "strongly_correlated":
        cost = np.cumsum(np.sort(cost, axis=1), axis=1)
        value = cost + NEAR * np.arange(1, models + 1)
    elif kind == "subset_sum":
        value = cost
    elif kind == "zig_zag":
        value = np.sort(generator.integers(1, largest, size, endpoint=True), axis=1)
        cost = np.sort(cost, axis=1)
    else:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    least, most = int(cost.min(axis=1).sum()), int(cost.max(axis=1).sum())
    return value.astype(np.float64), cost.astype(np.float64), float(least + int(share * (most - least)))
