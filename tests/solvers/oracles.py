"""Other ways to the optimum: dynamic programmes over whole dollars and over queries per model, and sets tried one by one."""

from __future__ import annotations

import itertools

import numpy as np


def best_in_whole_dollars(value: np.ndarray, cost: np.ndarray, budget: float, available: np.ndarray | None = None) -> float:
    """The most value for at most `budget`, where costs are whole numbers; -inf where nothing fits.

    The most value for every number of dollars, query after query (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems",
    section 11.5).
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


def least_for_whole_value(value: np.ndarray, cost: np.ndarray, minimum: float, available: np.ndarray | None = None) -> float:
    """The least cost of at least the value `minimum`, where values are whole numbers >= 0; inf where nothing is enough."""
    usable = np.ones(value.shape, bool) if available is None else available
    most = np.where(usable, value, 0).max(axis=1)
    spare = most.sum() - np.ceil(minimum)
    missing = most[:, None] - np.where(usable, value, 0)
    return -best_in_whole_dollars(-cost, missing, spare, usable) if spare >= 0 else np.inf


def best_by_counts(
    value: np.ndarray, cost: np.ndarray, budget: float, capacity: np.ndarray, available: np.ndarray | None = None
) -> float:
    """The most value within whole capacities and a budget, with one cost per model; -inf where nothing fits.

    The most value for every number of queries at every model, query after query. What is left to count is the number at the
    last model.
    """
    usable = np.ones(value.shape, bool) if available is None else available
    room = np.minimum(capacity, len(value))
    best = np.full(room + 1, -np.inf)
    best[(0,) * len(room)] = 0.0
    for values, open_choices in zip(value, usable, strict=True):
        after = np.full(room + 1, -np.inf)
        for model in np.flatnonzero(open_choices & (room > 0)):
            more = tuple(slice(1, None) if axis == model else slice(None) for axis in range(len(room)))
            less = tuple(slice(None, -1) if axis == model else slice(None) for axis in range(len(room)))
            after[more] = np.maximum(after[more], best[less] + values[model])
        best = after
    spent = sum(np.asarray(price * counts) for price, counts in zip(cost, np.indices(room + 1), strict=True))
    return float(best[spent <= budget * (1 + 1e-12)].max(initial=-np.inf))


def covered(quality: np.ndarray, models: list[int]) -> float:
    """S(U): the mean over the queries of the best quality in the set; never run counts as 0."""
    return float(np.nan_to_num(quality)[:, models].max(axis=1, initial=0.0).mean())


def best_covered(quality: np.ndarray, size: int) -> float:
    models = range(quality.shape[1])
    return max(covered(quality, list(chosen)) for chosen in itertools.combinations(models, min(size, len(models))))
