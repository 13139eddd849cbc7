"""jaxroute's own predictor: a frozen encoder's states and a head over all models (Routoo, arXiv:2401.13979, section 3.2).

`predictor:head=difference:layers=30:pooling=last:kind=argmax` is Routoo as published, and with a table of two models RouteLLM's
causal-LM classifier (arXiv:2406.18665, section 4.2): a decoder reads the prompt, its last token's state says who wins. Training
the encoder as well needs gradients and a checkpoint: see `jaxroute train`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from jaxroute.data.table import Queries, RoutingTable
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.training import train as train_predictor


@dataclass(frozen=True)
class Config:
    """The encoder, what is read of it, and the head."""

    encoder: str = "smollm2"
    """`smollm2`, `minilm`, the path of a .gguf file, or a Hugging Face folder."""
    layers: tuple[int, ...] | None = None
    """After which layers to read, from 1; None = what suits the encoder."""
    pooling: str = "mean"
    """`mean` over the tokens, or `last` token."""
    head: str = "interaction"
    """`difference` as published, or `interaction`: with a correction per model where it helps."""
    levels: int = 2
    """Quality levels K; 2 = right or wrong."""
    kind: str = "expected"
    """`expected` quality, or `argmax`: the likeliest level, as published."""
    folds: int = 5
    """Parts for choosing the penalties."""
    seed: int = 0
    """Decides the folds."""


def fit(train: RoutingTable, config: Config) -> dict[str, np.ndarray]:
    wanted = TrainConfig(
        encoder=config.encoder,
        features=_features(config),
        head=config.head,
        levels=config.levels,
        folds=config.folds,
        seed=config.seed,
    )
    predictor, _ = train_predictor(train, wanted)
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(predictor.head)))


def estimate(state: Mapping[str, np.ndarray], queries: Queries, config: Config) -> Float[np.ndarray, "queries models"]:
    features = prompt_features(load_encoder(config.encoder), queries.prompts, _features(config))
    head = Head(features.values.shape[1], len(state["model_embedding"]), config.levels)
    nnx.update(head, {name: jnp.asarray(state[name]) for name in nnx.to_pure_dict(nnx.state(head))})
    return head_estimates(head, features.values, kind=config.kind)


def _features(config: Config) -> FeatureConfig:
    return FeatureConfig(layers=config.layers, pooling=config.pooling)
