"""The best single model: each model's mean quality in training, the same for every query.

The means of rarely run models are shrunk to the pool's.

Without a budget every query goes to the best model; within one, the queries are divided between two models at random, as
the zero router does, but with what training says instead of hindsight.
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
    """Nothing to choose."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    return {"mean": shrunk_means(train.quality), "reliability": relative_reliability(train.quality)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    return np.tile(state["mean"], (len(queries), 1))
