"""Sentence embeddings: one unit vector per prompt, from a frozen encoder, kept on disk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features


def embed(prompts: list[str], encoder: str = "minilm", *, layer: int | None = None) -> Float[np.ndarray, "queries features"]:
    """The mean over the tokens after `layer`, by default the last, at length 1: inner products are cosines.

    `minilm` is all-MiniLM-L6-v2, made for this; any other encoder goes too.
    """
    found = load_encoder(encoder)
    values = prompt_features(found, prompts, sentence_features(found, layer=layer)).values
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def sentence_features(encoder: Encoder, *, layer: int | None = None) -> FeatureConfig:
    """What an embedding is made of: the mean over the tokens after one layer, by default the last."""
    return FeatureConfig(layers=(layer or encoder.config.layers,), pooling="mean")
