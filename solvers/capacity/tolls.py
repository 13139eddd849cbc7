"""The dual of a flow: a toll for every model, what the cheapest way of making room there costs.

A query that moves from model i to model k loses at least w[i, k]. A model with room has toll 0; every other one has the length
of its shortest path to a model with room (Bellman 1958, "On a routing problem").
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

BLOCK = 20_000
"""Queries that are looked at together."""


def tolls_of(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    choice: Int[np.ndarray, " queries"],
    places: Int[np.ndarray, " choices"],
) -> Float[np.ndarray, " choices"]:
    """The tolls that prove `choice` the best along `arcs`, whose value at the multiplier is `reduced`."""
    width = reduced.shape[1]
    moves, spread = _moves(reduced, arcs, choice)
    has_room = np.bincount(choice, minlength=width) < places
    # Where no path leads to room, a toll that outweighs every other one.
    tolls = np.where(has_room, 0.0, spread * width)
    for _ in range(width):
        shorter = np.minimum(tolls, (moves + tolls).min(axis=1))
        if (shorter == tolls).all():
            break
        tolls = shorter
    # Rounding in the flow's integers can leave a path that gains next to nothing.
    return np.maximum(tolls, 0.0)


def _moves(
    reduced: Float[np.ndarray, "queries choices"],
    arcs: Bool[np.ndarray, "queries choices"],
    choice: Int[np.ndarray, " queries"],
) -> tuple[Float[np.ndarray, "choices choices"], float]:
    """w, the least loss of a move from one model to another, and the difference of the largest and the least value."""
    width = reduced.shape[1]
    moves = np.full((width, width), np.inf)
    most, least = -np.inf, np.inf
    for start in range(0, len(reduced), BLOCK):
        rows = slice(start, start + BLOCK)
        worth, made = np.where(arcs[rows], reduced[rows], -np.inf), choice[rows]
        loss = worth[np.arange(len(worth)), made][:, None] - worth
        order = np.argsort(made, kind="stable")
        models, first = np.unique(made[order], return_index=True)
        moves[models] = np.minimum(moves[models], np.minimum.reduceat(loss[order], first, axis=0))
        most = max(most, float(worth.max()))
        least = min(least, float(worth.min(where=arcs[rows], initial=np.inf)))
    return moves, most - least
