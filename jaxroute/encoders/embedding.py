"""Sentence embeddings: one unit vector per prompt, from a frozen encoder, kept on disk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features


def embed(prompts: list[str], encoder: str = "minilm", *, layer: int | None = None) -> Float[np.ndarray, "queries features"]:
    """The mean over the tokens after `layer`, by default the last, at length 1: inner products are cosines.

    `minilm` is all-MiniLM-L6-v2, made for this; any other encoder goes too.
    """
    found = load_encoder(encoder)
    config = FeatureConfig(layers=(layer or found.config.layers,), pooling="mean")
    values = prompt_features(found, prompts, config).values
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
