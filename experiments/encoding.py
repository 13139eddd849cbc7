"""Prompts through an encoder once for several predictors, which then find what they read of it in the cache."""

from __future__ import annotations

from collections.abc import Iterable

from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features_of_all
from jaxroute.routers import predictor
from jaxroute.routers.base import RouterKind


def encode_once(kinds: Iterable[RouterKind], prompts: list[str]) -> None:
    """All layers and poolings that these routers read, one pass per encoder; routers other than predictors are passed over."""
    wanted: dict[str, list[FeatureConfig]] = {}
    for kind in kinds:
        if isinstance(kind.config, predictor.Config):
            one = FeatureConfig(layers=kind.config.layers, pooling=kind.config.pooling)
            wanted.setdefault(kind.config.encoder, []).append(one)
    for encoder, configs in wanted.items():
        prompt_features_of_all(load_encoder(encoder), prompts, list(dict.fromkeys(configs)))
