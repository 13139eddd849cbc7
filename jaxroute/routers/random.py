"""Random: budgets are met by chance, the better models to queries drawn at random.

    estimate = mean + (mean - least mean) * (rank - 1/2)

with each model's mean quality in training, shrunk to the pool's where it was rarely run, and a random rank in [0, 1) per
query; RouteLLM's random router (arXiv:2406.18665)
for any number of models. `random:seed=1` is another trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.data.shrinkage import relative_reliability, shrunk_means
from jaxroute.data.table import Queries, RoutingTable


@dataclass(frozen=True)
class Config:
    """Which trial."""

    seed: int = 0
    """Decides the ranks."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    return {"mean": shrunk_means(train.quality), "reliability": relative_reliability(train.quality)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    rank = np.random.default_rng(config.seed).permutation(len(queries)) / len(queries)
    mean = state["mean"]
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)
