"""Nearest neighbours: a model's mean quality on the most similar training prompts (RouterBench, arXiv:2403.12031, section 5).

Similarity is the cosine of sentence embeddings; the paper compares 5, 10 and 40 neighbours. `knn:neighbours=1` is TensorOpera's
1NN (arXiv:2408.12320). A model's neighbours are the nearest prompts that it was run on; a model that was rarely run leans
on the others' estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders.embedding import embed


@dataclass(frozen=True)
class Config:
    """Which embeddings, and how many neighbours."""

    neighbours: int = 40
    """Prompts to average over; all of them where training has fewer."""
    encoder: str = "minilm"
    """Of the sentence embeddings."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    return {
        "embeddings": embed(train.prompts, config.encoder),
        "quality": train.quality,
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    asked = embed(queries.prompts, config.encoder)
    return leaning(near(state["embeddings"], state["quality"], asked, config.neighbours), state)


def near(
    known: Float[np.ndarray, "prompts features"],
    quality: Float[np.ndarray, "prompts models"],
    asked: Float[np.ndarray, "queries features"],
    neighbours: int,
) -> Float[np.ndarray, "queries models"]:
    """Every model's mean over the nearest known prompts that it was run on."""
    observed = ~np.isnan(quality)
    values = np.empty((len(asked), quality.shape[1]))
    for run in np.unique(observed, axis=1).T:
        columns = np.flatnonzero((observed == run[:, None]).all(axis=0))
        nearest = _nearest(known[run], asked, neighbours)
        values[:, columns] = quality[run][:, columns][nearest].mean(axis=1)
    return values


def _nearest(known: np.ndarray, asked: np.ndarray, neighbours: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=min(neighbours, len(known)), metric="cosine").fit(known)
    return found.kneighbors(asked, return_distance=False)
