"""A BERT fine-tuned on who wins, for two models: win, tie or loss (RouteLLM, arXiv:2406.18665, section 4.2).

The model that is better in training is the strong one; its estimate is the chance that it wins, the paper's score, and the weak
one's is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import load_encoder
from jaxroute.errors import RouterError, listed
from jaxroute.routers.learning.classifier import FineTuning, class_logits, fine_tune


@dataclass(frozen=True)
class Config:
    """The encoder and its training, as published."""

    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-5
    """AdamW's."""
    weight_decay: float = 0.01
    """AdamW's."""
    max_tokens: int = 512
    """Longer prompts are cut."""
    pooling: str = "mean"
    """Of the last layer's states: `mean`, as MiniLM was trained, or what else the encoder has."""
    seed: int = 42
    """Decides the last layer's first weights and the order of the queries."""
    encoder: str = "minilm"
    """What is fine-tuned."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    both = ~np.isnan(train.quality).any(axis=1)
    if len(train.models) != 2 or not both.any():
        raise RouterError(
            f"{train.name} has the models {listed(train.models)}: this router is for two that were run on the same queries; "
            "select a pair"
        )
    strong = int(np.nanmean(train.quality[:, 1]) > np.nanmean(train.quality[:, 0]))
    ahead = np.sign(train.quality[both, strong] - train.quality[both, 1 - strong])
    label = np.stack([ahead > 0, ahead == 0, ahead < 0], axis=1).astype(np.float32)
    prompts = [train.prompts[row] for row in np.flatnonzero(both)]
    weight = np.ones(len(prompts), np.float32)
    learned = fine_tune(load_encoder(config.encoder), prompts, label, weight, _loss, _settings(config))
    return learned | {"strong": np.array(strong)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    logits = class_logits(state, load_encoder(config.encoder), queries.prompts, _settings(config))
    wins = np.asarray(jax.nn.softmax(logits, axis=1), np.float64)[:, 0]
    columns = [1 - wins, wins] if state["strong"] else [wins, 1 - wins]
    return np.column_stack(columns)


def _loss(logits, label, weight):
    return -jnp.mean(weight * jnp.sum(label * jax.nn.log_softmax(logits, axis=1), axis=1))


def _settings(config: Config) -> FineTuning:
    return FineTuning(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_tokens=config.max_tokens,
        pooling=config.pooling,
        seed=config.seed,
    )
