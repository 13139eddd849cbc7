"""Estimator: whatever says, before any model runs, how well every model would answer and what the answer would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt64

from jaxroute.data.prices import PriceList
from jaxroute.data.table import Queries
from jaxroute.errors import TableError, listed


@dataclass(frozen=True, eq=False)
class Estimates:
    """What is expected of every model on every query; arrays are `(queries, models)` over `models`."""

    models: list[str]
    quality: Float[np.ndarray, "queries models"]
    """Expected quality, in [0, 1] where the estimator has probabilities; of other routers, what they rank models by."""
    cost_usd: Float[np.ndarray, "queries models"]
    """Expected dollars of every answer; NaN where nothing is known of costs."""
    assumption: str
    """How the costs were arrived at, in words."""
    cut: Bool[np.ndarray, " queries"]
    """Prompts that were longer than the encoder reads and were cut for the estimate."""
    features: Float[np.ndarray, "queries features"] | None = None
    """What a predictor's head read; None for other routers."""
    p_value: Float[np.ndarray, " queries"] | None = None
    """How like the training prompts every query is, in (0, 1]: of prompts like those, at most a share a has a value <= a. None
    for an estimator that reads no features or has kept no training prompts."""
    mean_quality: Float[np.ndarray, " models"] | None = None
    """Every model's mean estimate over the training prompts, for queries that are unlike them; None where `p_value` is."""

    def select(self, models: Sequence[str]) -> Estimates:
        """The same for some of the models, in the given order."""
        columns = [self.models.index(model) for model in models]
        quality, cost, means = self.quality[:, columns], self.cost_usd[:, columns], self.mean_quality
        means = None if means is None else means[columns]
        return replace(self, models=list(models), quality=quality, cost_usd=cost, mean_quality=means)


@runtime_checkable
class Estimator(Protocol):
    """A predictor or any other trained router: what the contest, `Router`, `score` and servers take.

    `jaxroute.load(folder)` reads whatever `save` wrote.
    """

    @property
    def models(self) -> list[str]:
        """Distinct names, the columns of every estimate."""
        ...

    @property
    def name(self) -> str:
        """What it is called in tables and figures."""
        ...

    @property
    def note(self) -> str:
        """What a reader of its numbers must know; empty where there is nothing."""
        ...

    @property
    def seen(self) -> UInt64[np.ndarray, " prompts"] | None:
        """`RoutingTable.prompt_numbers` of the prompts that it learnt from; None where that is not known."""
        ...

    @property
    def knows_costs(self) -> bool:
        """Whether `expected_cost_usd` needs no encoder: means, or tokens at a price."""
        ...

    def estimate(self, queries: Queries) -> Estimates:
        """Expected quality and dollars of every model on every query. Raises `PromptError` for an empty batch or prompt."""
        ...

    def expected_cost_usd(self, queries: Queries) -> tuple[Float[np.ndarray, "queries models"], str]:
        """The dollars of `estimate` alone, and the assumption behind them."""
        ...

    def priced(self, prices: PriceList | None = None, *, output_tokens: float | None = None) -> Estimator:
        """The same estimator at other prices, or with another expected number of output tokens of every answer.

        Raises `TableError` where a model has no price, or where tokens are not counted.
        """
        ...

    def transferred(self, models: list[str]) -> Estimator:
        """The same estimator for other models in the places of its own, not trained again (RouteLLM, section 5).

        The weak model goes where the weak one was, the strong one where the strong one was. What they cost is not known.
        """
        ...

    def reading(self, read: Any) -> Estimator:
        """The same estimator, which reads prompts by another `encoders.features.Reader`, where it reads any."""
        ...

    def save(self, folder: Path | str) -> None:
        """Write it atomically; an earlier estimator at `folder` is replaced, anything else is rejected with `OutputError`."""
        ...


def as_queries(prompts: Queries | Sequence[str]) -> Queries:
    """Prompts of which no domain is known are queries too."""
    if isinstance(prompts, Queries):
        return prompts
    return Queries(prompts if isinstance(prompts, str) else list(prompts), [""] * len(prompts))  # pyright: ignore[reportArgumentType]


def renamed(models: Sequence[str], places: Sequence[str]) -> list[str]:
    """Other models for the places of these; raises `TableError` unless they are distinct and as many."""
    if len(models) != len(places) or len(set(models)) != len(models):
        raise TableError(f"models={list(models)} must be {len(places)} models, one for each of {', '.join(places)}")
    return list(models)


def check_models(wanted: Sequence[str] | None, known: list[str]) -> list[str]:
    """The wanted models, by default all; raises `TableError` for a name that is unknown or appears twice."""
    chosen = known if wanted is None else list(wanted)
    unknown = [model for model in chosen if model not in known]
    if len(set(chosen)) != len(chosen):
        raise TableError(f"models={listed(chosen)}: name every model once")
    if unknown or not chosen:
        raise TableError(
            f"models={listed(chosen)}: unknown {listed(unknown) or 'empty list'}; this checkpoint knows {listed(known)}"
        )
    return chosen
