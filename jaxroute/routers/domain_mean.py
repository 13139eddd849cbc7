"""Each model's mean quality in the query's domain, shrunk towards its mean over all.

    estimate = (sum of the domain's qualities + strength * mean) / (number of them + strength)

A domain that was not in training gets the mean over all; a model that was rarely run leans on the others in the domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable


@dataclass(frozen=True)
class Config:
    """How much the domain counts."""

    strength: float = 20.0
    """As many queries at the model's mean are added to every domain."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    names = np.array(sorted(set(train.domains)))
    mean = np.nanmean(train.quality, axis=0)
    rows = [np.array(train.domains) == name for name in names]
    total = np.array([np.nansum(train.quality[row], axis=0) for row in rows])
    count = np.array([(~np.isnan(train.quality[row])).sum(axis=0) for row in rows])
    weight = count + config.strength
    shrunk = (total + config.strength * mean) / np.maximum(weight, 1e-12)
    return {
        "domains": names,
        "estimates": np.where(weight > 0, shrunk, mean),
        "mean": mean,
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    row = {name: number for number, name in enumerate(state["domains"].tolist())}
    values = np.array([state["estimates"][row[one]] if one in row else state["mean"] for one in queries.domains])
    return leaning(values, state)
