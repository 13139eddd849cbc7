"""The next cells to ask: a first random design, then those that are worth most for what they take."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.collect.choosing.posterior import Posterior
from jaxroute.collect.choosing.worth import loss_weights, prices_at_work, some_rows, worth

PER = ("cells", "dollars", "both")
Cell = tuple[int, int]
"""A query's row and a model's column."""
LEAST_SHARE = 1e-3
"""Of the most expensive model's cost: even a free answer takes its time."""


def first_design(queries: int, models: int, size: int, *, seed: int) -> list[Cell]:
    """Every model on the same `size` queries, drawn at random."""
    rows = np.sort(np.random.default_rng(seed).permutation(queries)[:size])
    return [(int(row), column) for row in rows for column in range(models)]


def takes(cost_usd: Float[np.ndarray, " models"], per: str) -> Float[np.ndarray, " models"]:
    """What a cell of each model takes, the mean over the models being 1: a cell, its dollars, or half of each."""
    cost = np.maximum(cost_usd, LEAST_SHARE * cost_usd.max()) if cost_usd.max() > 0 else np.ones(len(cost_usd))
    dollars, cells = cost / cost.mean(), np.ones(len(cost))
    return {"cells": cells, "dollars": dollars, "both": (cells + dollars) / 2}[per]


def next_round(
    posterior: Posterior,
    closed: Bool[np.ndarray, "queries models"],
    cost_usd: Float[np.ndarray, " models"],
    taken: Float[np.ndarray, " models"],
    spend: float,
    *,
    random: float,
    most: int,
    seed: int,
) -> list[Cell]:
    """Cells that are not closed, a share of them at random and the others by what they are worth, until `spend`, in the units
    of `taken` (see `takes`), is used up: at least one, if there is one, and at most `most`.

    Where a model is asked what it is worth to ask it, its outcomes are of other queries than another model's, and what the
    features do not say of them is taken for the models' own; a random part bounds that.
    """
    drawn: list[Cell] = []
    if random > 0:
        drawn = best_first(np.ones(closed.shape), closed, np.ones(len(taken)), np.inf, most=closed.size, seed=seed)
        used = np.cumsum([taken[column] for _, column in drawn])
        drawn = drawn[: min(int(np.searchsorted(used, random * spend, side="right")), most)]
    rest = spend - sum(float(taken[column]) for _, column in drawn)
    if len(drawn) == most or (drawn and rest < taken.min()):
        return drawn
    now = closed.copy()
    now[tuple(np.array(drawn, int).reshape(-1, 2).T)] = True
    prices = prices_at_work(posterior.chance, cost_usd)
    weights = loss_weights(posterior, cost_usd, prices, some_rows(len(closed), seed))
    return drawn + best_first(worth(posterior, weights), now, taken, rest, most=most - len(drawn), seed=seed)


def best_first(
    score: Float[np.ndarray, "queries models"],
    asked: Bool[np.ndarray, "queries models"],
    taken: Float[np.ndarray, " models"],
    spend: float,
    *,
    most: int,
    seed: int = 0,
) -> list[Cell]:
    """The cells of the highest score for what they take, until `spend` is used up: one to `most`; equal ones in an order that
    is drawn."""
    free = np.flatnonzero(~asked.ravel())
    free = np.random.default_rng(seed).permutation(free)
    columns: Int[np.ndarray, " cells"] = free % asked.shape[1]
    order = np.argsort(-score.ravel()[free] / taken[columns], kind="stable")
    within = int(np.searchsorted(np.cumsum(taken[columns[order]]), spend * (1 + 1e-12), side="right"))
    chosen = free[order[: min(max(within, 1), most)]]
    return [(int(cell // asked.shape[1]), int(cell % asked.shape[1])) for cell in chosen]
