"""Exchanges between two assignments within the capacities, of which as many are made as the limit pays for.

The queries on which the two differ are edges from one model to another. They fall into cycles, and into paths from a model
that has more queries in the first assignment to one that has more in the second. Any number of these can be exchanged within
the capacities. Where both assignments are best at one multiplier, value and cost of every exchange rise together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from solvers.choices import Choices


def blend(
    choices: Choices, within: Int[np.ndarray, " queries"], over: Int[np.ndarray, " queries"]
) -> Int[np.ndarray, " queries"]:
    """As much of `over`, which breaks the limit, in place of `within`, which keeps it, as the limit allows."""
    values, costs = (after - before for after, before in zip(choices.picked(over), choices.picked(within), strict=True))
    exchanges = [(float(costs[rows].sum()), rows) for rows in _exchanges(within, over, choices.width) if values[rows].sum() > 0]
    choice, spent = within.copy(), choices.totals(within)[1]
    # Those that save money come first, then the largest ones.
    for cost, rows in sorted(exchanges, key=lambda exchange: (exchange[0] > 0, -exchange[0])):
        if choices.fits(spent + cost):
            spent += cost
            choice[rows] = over[rows]
    # Running sums are rounded.
    return choice if choices.fits(choices.totals(choice)[1]) else within


def _exchanges(within: Int[np.ndarray, " queries"], over: Int[np.ndarray, " queries"], width: int) -> list[list[int]]:
    """The queries of every cycle and path."""
    differing: Int[np.ndarray, " differing"] = np.flatnonzero(within != over)
    leaving: list[list[int]] = [[] for _ in range(width)]
    for query in differing.tolist():
        leaving[int(within[query])].append(query)
    surplus = np.bincount(within[differing], minlength=width) - np.bincount(over[differing], minlength=width)
    found: list[list[int]] = []
    # Paths first, from models that give up queries; the rest are cycles.
    for start in [*np.repeat(np.arange(width), np.maximum(surplus, 0)).tolist(), *range(width)]:
        found += _walk(start, leaving, over)
    return found


def _walk(start: int, leaving: list[list[int]], over: Int[np.ndarray, " queries"]) -> list[list[int]]:
    """Follow edges from `start`, each once, to a model without any: every cycle on the way, then the path that is left."""
    found: list[list[int]] = []
    walk: list[int] = []
    visited = {start: 0}
    at = start
    while leaving[at]:
        query = leaving[at].pop()
        walk.append(query)
        at = int(over[query])
        if at in visited:
            found.append(walk[visited[at] :])
            del walk[visited[at] :]
            visited = {model: place for model, place in visited.items() if place <= visited[at]}
        else:
            visited[at] = len(walk)
    return [*found, walk] if walk else found
