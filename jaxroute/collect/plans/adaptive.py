"""Every model is asked a few questions, then round by round the cells that change the assignments most for what they take.

A cell is worth what it lowers the expected loss along the cost-quality curve (`collect/choosing/`). A round asks 30 percent
more than was asked before. The collection ends at `cells`, when everything was asked, or when what all other cells could still
bring is small beside luck (`stop`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from jaxroute.collect.choosing.batches import PER, first_design, next_round, takes
from jaxroute.collect.choosing.posterior import DIRECTIONS, fit_posterior, principal
from jaxroute.collect.choosing.stopping import outlook
from jaxroute.collect.plans.base import Cell, Collected
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.errors import PlanError, counted
from jaxroute.predictor.config import TrainConfig

ROUND = 0.3
"""What a round asks, as a share of what was asked before."""
AUTO = "auto"
FEWEST = 20
"""Queries of the first design, where there are as many."""
MOST_PARAMETERS, FEWEST_DIRECTIONS = 700, 8
"""A pool of many models reads fewer directions of the features, so that a round takes seconds."""
HALF = 0.5
"""Of a round, at random: where all models' cells are chosen, what the features do not say of queries that are asked more often
would be taken for the models' own. Per dollar cheap models are soon asked everything."""


@dataclass(frozen=True)
class Config:
    """How many cells, how they are chosen, and what reads the prompts."""

    cells: int | None = None
    """At most so many; `--cells` of the command."""
    first: float = 0.05
    """Share of the questions that every model is asked at first, drawn at random."""
    per: str = "auto"
    """What cells are compared by: what they are worth for their `dollars`, each alike (`cells`), or `both`; `auto` is what is
    scarce: cells where `cells` limits them, else dollars."""
    random: float | None = None
    """Share of every round that is drawn at random; None: half of it per cell, nothing per dollar."""
    stop: bool = True
    """Whether to end when further cells would not change the curve within its interval."""
    encoder: str = TrainConfig().encoder
    """What reads the prompts, as for `jaxroute train`."""
    seed: int = 0
    """Of the first design, and of the order of cells that are worth the same."""

    def __post_init__(self) -> None:
        problems = []
        if self.cells is not None and self.cells < 1:
            problems.append(f"cells={self.cells} must be at least 1")
        if not 0 < self.first <= 1:
            problems.append(f"first={self.first} must be a share, above 0 and at most 1")
        if self.random is not None and not 0 <= self.random <= 1:
            problems.append(f"random={self.random} must be a share, from 0 to 1")
        if self.per not in (AUTO, *PER):
            problems.append(f"per={self.per!r} must be one of {', '.join((AUTO, *PER))}")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if problems:
            raise PlanError("; ".join(problems))


@dataclass
class Adaptive:
    """Depends on what was collected and on the seed alone, so it resumes after a kill."""

    config: Config
    places: Float[np.ndarray, "queries directions"] | None = field(default=None, repr=False)
    """What is read of the prompts (`principal`); None until the first round needs it."""
    note: str = ""
    """Why it ended."""
    weighs_cost: ClassVar[bool] = True

    def next_cells(self, collected: Collected) -> list[Cell]:
        """The first design, or what is left of it; then rounds; empty at the end."""
        asked, config = collected.asked, self.config
        most = int((asked.size if config.cells is None else min(config.cells, asked.size)) - asked.sum())
        if most <= 0:
            self.note = f"ended at {counted(int(asked.sum()), 'cell')}: " + (
                "everything was asked" if asked.all() else f"cells={config.cells}"
            )
            return []
        queries, models = asked.shape
        design = first_design(queries, models, self._first_size(queries, models), seed=config.seed)
        if unasked := [cell for cell in design if collected.open[cell]]:
            return unasked[:most]
        answered = ~np.isnan(collected.quality).all(axis=0)
        if not answered.any():
            self.note = f"ended at {counted(int(asked.sum()), 'cell')}: no model answered any of them"
            return []
        # Of a model that failed on every query of the first design there is nothing to choose by.
        closed = ~collected.open | ~answered
        if closed.all():
            self.note = f"ended at {counted(int(asked.sum()), 'cell')}: everything was asked of the models that answer"
            return []
        posterior = fit_posterior(self._read(collected), collected.quality)
        cost_usd = expected_cost_usd(collected)
        if config.stop and (left := outlook(posterior, cost_usd, seed=config.seed)).enough:
            self.note = f"ended at {counted(int(asked.sum()), 'cell')} of {asked.size:,}: {left}"
            return []
        per = ("dollars" if config.cells is None else "cells") if config.per == AUTO else config.per
        random = (0.0 if per == "dollars" else HALF) if config.random is None else config.random
        taken = takes(cost_usd, per)
        spend = ROUND * float((asked.sum(axis=0) * taken).sum())
        return next_round(
            posterior,
            closed,
            cost_usd,
            taken,
            spend,
            random=random,
            # Where cheap cells are many, a round would be most of the collection.
            most=min(most, int(asked.sum())),
            # Another order in every round, and the same one when the collection resumes.
            seed=config.seed + int(asked.sum()),
        )

    def _first_size(self, queries: int, models: int) -> int:
        """Queries of the first design: a share of them, some at least, and at most half of the cells."""
        wanted = min(max(round(self.config.first * queries), FEWEST), queries)
        cells = queries * models if self.config.cells is None else self.config.cells
        return max(1, min(wanted, cells // (2 * models)))

    def _read(self, collected: Collected) -> Float[np.ndarray, "queries directions"]:
        if self.places is None:
            encoder = load_encoder(self.config.encoder)
            features = prompt_features(encoder, collected.queries.prompts, FeatureConfig()).values
            directions = min(DIRECTIONS, max(FEWEST_DIRECTIONS, MOST_PARAMETERS // (len(collected.models) + 1)))
            self.places = principal(features, directions)
        return self.places


def expected_cost_usd(collected: Collected) -> Float[np.ndarray, " models"]:
    """Dollars of an answer of each model: the mean of those that are known; before any is, its worst case, scaled by what the
    other models' answers cost of theirs."""
    known = ~np.isnan(collected.cost_usd)
    paid, worst = np.where(known, collected.cost_usd, 0.0), np.where(known, collected.worst_case_usd, 0.0)
    share = paid.sum() / worst.sum() if worst.sum() > 0 else 1.0
    means = paid.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0), means, share * collected.worst_case_usd.mean(axis=0))


def build(config: Config) -> Adaptive:
    """The plan. Raises `EncoderError` where its encoder is not there, before anything is asked."""
    load_encoder(config.encoder)
    return Adaptive(config)
