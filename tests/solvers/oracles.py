"""Other ways to the optimum: a dynamic programme over whole costs, as textbooks have it."""

from __future__ import annotations

import numpy as np


def best_in_whole_dollars(value: np.ndarray, cost: np.ndarray, budget: float, available: np.ndarray | None = None) -> float:
    """The most value for at most `budget`, where costs are whole numbers; -inf where nothing fits.

    Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", section 11.5: the most value for every number of dollars, query
    after query.
    """
    dollars = int(budget)
    best = np.full(dollars + 1, -np.inf)
    best[0] = 0.0
    usable = np.ones(value.shape, bool) if available is None else available
    for values, costs, open_choices in zip(value, cost.astype(int), usable, strict=True):
        after = np.full(dollars + 1, -np.inf)
        for worth, price in zip(values[open_choices], costs[open_choices], strict=True):
            if price <= dollars:
                np.maximum(after[price:], best[: dollars + 1 - price] + worth, out=after[price:])
        best = after
    return float(best.max())
