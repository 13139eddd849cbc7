"""A predictor that needs no training: a head of random numbers on the tiny encoder."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from jaxroute import Predictor
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.heads import Head

MODELS = ["small", "medium", "large"]


def random_predictor(encoder: Path, features: FeatureConfig | None = None) -> Predictor:
    features = features or FeatureConfig(layers=(1, 2))
    loaded = load_encoder(str(encoder))
    head = Head(loaded.config.hidden_size * len(features.stated), len(MODELS), 2)
    generator = np.random.default_rng(0)
    for weight in (head.weight, head.model_embedding, head.correction):
        weight.set_value(jax.numpy.asarray(generator.normal(0, 0.2, weight[...].shape), "float32"))
    return Predictor(encoder=loaded, features=features, head=head, models=MODELS, levels=2)
