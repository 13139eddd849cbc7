"""Longer prompts to better models: the simplest router that reads a prompt.

    estimate = mean + (mean - least mean) * (rank - 1/2)

with each model's mean quality in training, shrunk to the pool's where it was rarely run, and as rank the share of training
prompts that are shorter (half of those that are as long; straight lines in between): where a budget allows, the longest
prompts are upgraded first.
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
    lengths, count = np.unique(_lengths(train.prompts), return_counts=True)
    shorter = (np.cumsum(count) - count / 2) / len(train)
    mean, reliability = shrunk_means(train.quality), relative_reliability(train.quality)
    return {"mean": mean, "reliability": reliability, "lengths": lengths, "shorter": shorter}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    rank = np.interp(_lengths(queries.prompts), state["lengths"], state["shorter"])
    mean = state["mean"]
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)


def _lengths(prompts: list[str]) -> Float[np.ndarray, " queries"]:
    return np.array([len(prompt) for prompt in prompts], np.float64)
