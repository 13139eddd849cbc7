"""Ways to choose the next cell of a table to ask for: at random, by models' shares, near the decision, by what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.collect.choosing.batches import best_first, first_design, takes
from jaxroute.collect.choosing.posterior import Posterior, fit_posterior
from jaxroute.collect.choosing.worth import loss_weights, prices_at_work, rivals, some_rows, worth
from jaxroute.collect.plans.adaptive import ROUND, Adaptive, Config
from jaxroute.collect.plans.base import Cell, Collected
from jaxroute.data.table import RoutingTable

FIRST = 0.05
"""Of the questions, which every model is asked at first, where a way needs to know something."""
PART = 4
"""One question in so many goes to the most expensive model as well."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A table of which every cell is known, as a way of choosing sees it."""

    table: RoutingTable
    places: Float[np.ndarray, "queries directions"]
    """`principal` of the prompts' features."""
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.table.quality.shape

    @property
    def cost_usd(self) -> Float[np.ndarray, " models"]:
        """Each model's mean: what is known after a few answers."""
        return self.table.mean_cost_usd()

    @property
    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def posterior(self, asked: Bool[np.ndarray, "queries models"]) -> Posterior:
        return fit_posterior(self.places, np.where(asked, self.table.quality, np.nan))


def random_cells(replay: Replay) -> Iterator[Cell]:
    """Any cell is as likely as another."""
    for cell in replay.generator.permutation(replay.table.quality.size):
        yield divmod(int(cell), replay.shape[1])


def random_questions(replay: Replay) -> Iterator[Cell]:
    """Every model on one question after the other."""
    for row in replay.generator.permutation(replay.shape[0]):
        yield from ((int(row), column) for column in range(replay.shape[1]))


def expensive_part(replay: Replay) -> Iterator[Cell]:
    """Every model on one question in four, all but the most expensive one on the others; its other cells come last."""
    expensive = int(replay.cost_usd.argmax())
    order = replay.generator.permutation(replay.shape[0])
    for place, row in enumerate(order):
        for column in range(replay.shape[1]):
            if column != expensive or place % PART == 0:
                yield int(row), column
    yield from ((int(row), expensive) for place, row in enumerate(order) if place % PART)


def by_shares(replay: Replay, per: str) -> Iterator[Cell]:
    """Every model its share of the cells, by what its next cell is worth on average (`neyman`), on random questions."""

    def choose(asked: np.ndarray, spend: float, taken: np.ndarray) -> list[Cell]:
        value = _worth(replay, asked)
        mean = np.array([value[~one, column].mean() if not one.all() else 0.0 for column, one in enumerate(asked.T)])
        more = neyman(mean, asked.sum(axis=0), taken, spend, replay.shape[0])
        generator = np.random.default_rng([replay.seed, int(asked.sum())])
        cells = [
            (int(row), column)
            for column, count in enumerate(more)
            for row in generator.permutation(np.flatnonzero(~asked[:, column]))[: int(np.ceil(count - 1e-9))]
        ]
        return [cells[place] for place in generator.permutation(len(cells))]

    return _rounds(replay, per, choose)


def near_decision(replay: Replay, per: str) -> Iterator[Cell]:
    """Where the assignment is least sure: by the probability that the model, or a rival of it, is better than it seems."""

    def choose(asked: np.ndarray, spend: float, taken: np.ndarray) -> list[Cell]:
        posterior, rows = replay.posterior(asked), np.arange(replay.shape[0])
        found = rivals(posterior, replay.cost_usd, prices_at_work(posterior.chance, replay.cost_usd), rows)
        flips = found.flips
        flips[np.arange(len(flips))[:, None], rows, found.best] = flips.max(axis=2)
        return best_first(flips.mean(axis=0), asked, taken, spend, most=asked.size, seed=replay.seed)

    return _rounds(replay, per, choose)


def planned(replay: Replay, per: str, random: float | None = None, *, stop: bool = False) -> Iterator[Cell]:
    """`jaxroute collect --plan adaptive`; unless it may stop, up to the last cell."""
    plan = Adaptive(Config(per=per, random=random, stop=stop, seed=replay.seed, first=FIRST), replay.places)
    asked = np.zeros(replay.shape, bool)
    worst = np.broadcast_to(replay.cost_usd, replay.shape)
    while True:
        quality, cost = (np.where(asked, known, np.nan) for known in (replay.table.quality, replay.table.cost_usd))
        collected = Collected(replay.table.queries, replay.table.models, {}, quality, cost, asked, worst, np.inf)
        cells = plan.next_cells(collected)
        if not cells:
            return
        for cell in cells:
            asked[cell] = True
        yield from cells


@dataclass(frozen=True)
class Way:
    """Cells in an order, and the axis along which it is judged; None: it treats all models alike, so both are one."""

    cells: Callable[[Replay], Iterator[Cell]]
    axis: str | None = None


def ways() -> dict[str, Way]:
    """In the order of the table."""
    found = {"random cells": Way(random_cells), "random questions": Way(random_questions)}
    found["expensive model on a part"] = Way(expensive_part, "dollars")
    found["shares of models, per dollar"] = Way(partial(by_shares, per="dollars"), "dollars")
    found["near the decision, per dollar"] = Way(partial(near_decision, per="dollars"), "dollars")
    found["by worth, per dollar"] = Way(partial(planned, per="dollars", random=0.0), "dollars")
    found["by worth, half at random, per cell"] = Way(partial(planned, per="cells", random=0.5), "cells")
    return found


def neyman(
    worth: Float[np.ndarray, " models"],
    asked: Int[np.ndarray, " models"],
    cost: Float[np.ndarray, " models"],
    spend: float,
    limit: int,
) -> Float[np.ndarray, " models"]:
    """How many more cells of each model for `spend` in the units of `cost`, given what one more cell of each is worth.

    What a model's n cells leave of the loss falls as A / n, so the next one lowers it by about A / n^2, its worth. The least
    loss for a given expense has n proportional to the square root of A / cost (Neyman 1934, "On the two different aspects of
    the representative method"; with costs Cochran 1977, "Sampling techniques", section 5.5). No model gets fewer than it
    has, nor more than `limit` in all.
    """
    pull = asked * np.sqrt(np.maximum(worth, 0.0) / cost)

    def more(level: float) -> np.ndarray:
        return np.clip(level * pull - asked, 0.0, limit - asked)

    low, high = 0.0, 1.0
    while (cost * more(high)).sum() < spend and high < 1e18:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (cost * more(middle)).sum() < spend else (low, middle)
    return more(high)


def _rounds(replay: Replay, per: str, choose: Callable[[np.ndarray, float, np.ndarray], list[Cell]]) -> Iterator[Cell]:
    """The first design, then rounds as the plan has them."""
    asked, taken = np.zeros(replay.shape, bool), takes(replay.cost_usd, per)
    queries, models = replay.shape
    cells = first_design(queries, models, round(FIRST * queries), seed=replay.seed)
    while cells:
        for cell in cells:
            asked[cell] = True
        yield from cells
        cells = [] if asked.all() else choose(asked, ROUND * float((asked.sum(axis=0) * taken).sum()), taken)


def _worth(replay: Replay, asked: np.ndarray) -> Float[np.ndarray, "queries models"]:
    posterior, cost = replay.posterior(asked), replay.cost_usd
    rows = some_rows(len(asked), replay.seed)
    return worth(posterior, loss_weights(posterior, cost, prices_at_work(posterior.chance, cost), rows))
