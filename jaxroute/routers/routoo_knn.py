"""Routoo's nearest neighbours: how similar a prompt is to what a model has answered right (arXiv:2401.13979, Appendix B).

Questions with the answers that models gave are embedded together; the similarity to the five nearest pairs is the estimate,
which the selector then weighs against the cost. As read here, the pairs of a model are those that it answered right, and
its estimate is the mean cosine of its five nearest to the prompt. Where a table has no answers the question is used alone,
and `note` says so. A model that was rarely run leans on the others' estimates.
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
    """Which embeddings, and how many pairs."""

    neighbours: int = 5
    """Pairs to average over."""
    right: float = 0.5
    """An answer is right when its quality is above this."""
    encoder: str = "minilm"
    """Of the embeddings."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    rows, models = np.nonzero(np.nan_to_num(train.quality) > config.right)
    answers = train.response
    texts = [train.prompts[row] for row in rows]
    if answers is not None:
        texts = [f"{text}\n{answers[row, model]}" for text, row, model in zip(texts, rows, models)]
    embeddings = embed(texts, config.encoder) if texts else np.empty((0, 0))
    return {
        "embeddings": embeddings,
        "model": models,
        "models": np.array(len(train.models)),
        "answers": np.array(answers is not None),
        "reliability": relative_reliability(train.quality),
    }


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    asked = embed(queries.prompts, config.encoder)
    values = np.zeros((len(queries), int(state["models"])))
    for model in np.unique(state["model"]):
        cosine = asked @ state["embeddings"][state["model"] == model].T
        nearest = np.sort(cosine, axis=1)[:, -config.neighbours :]
        values[:, model] = nearest.mean(axis=1)
    return leaning(values, state)


def note(state: Mapping[str, np.ndarray], config: Config) -> str:
    if state["answers"]:
        return "questions embedded together with the models' answers"
    return "questions embedded alone: the table holds no answers"
