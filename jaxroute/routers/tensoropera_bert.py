"""A BERT fine-tuned end to end, one class per model, on soft labels (TensorOpera, arXiv:2408.12320, Appendix D).

Labels and weights as in `jaxroute.routers.learning.soft_labels`, training as published. The paper's bert-base cannot be had
offline; `encoder` names what is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxroute.data.shrinkage import leaning, relative_reliability
from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import load_encoder
from jaxroute.routers.learning.classifier import FineTuning, class_logits, fine_tune
from jaxroute.routers.learning.soft_labels import estimates, query_weights, soft_labels, soft_loss


@dataclass(frozen=True)
class Config:
    """The encoder and its training, as published."""

    temperature: float = 10.0
    """T of the labels softmax(quality / T)."""
    learning_rate: float = 5e-5
    """AdamW's."""
    weight_decay: float = 1e-4
    """AdamW's."""
    epochs: int = 5
    batch_size: int = 8
    max_tokens: int = 512
    """Longer prompts are cut."""
    pooling: str = "mean"
    """Of the last layer's states: `mean`, as MiniLM was trained, or what else the encoder has."""
    seed: int = 42
    """Decides the last layer's first weights and the order of the queries."""
    encoder: str = "minilm"
    """What is fine-tuned."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    label = soft_labels(train.quality, config.temperature)
    encoder = load_encoder(config.encoder)
    learned = fine_tune(encoder, train.prompts, label, query_weights(train), soft_loss, _settings(config, len(train)))
    return learned | {"mean": np.array(np.nanmean(train.quality)), "reliability": relative_reliability(train.quality)}


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    logits = class_logits(state, load_encoder(config.encoder), queries.prompts, _settings(config, len(queries)))
    return leaning(estimates(logits, temperature=config.temperature, mean=float(state["mean"])), state)


def _settings(config: Config, queries: int) -> FineTuning:
    return FineTuning(
        steps=config.epochs * -(-queries // config.batch_size),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_tokens=config.max_tokens,
        pooling=config.pooling,
        seed=config.seed,
    )
