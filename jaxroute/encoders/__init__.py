"""Pretrained networks that read a prompt for the predictor."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxroute.encoders.encoder import Encoder, check_prompts, load_encoder
    from jaxroute.encoders.networks.bert import Bert, BertConfig
    from jaxroute.encoders.networks.build import EncoderConfig, EncoderNetwork
    from jaxroute.encoders.networks.decoder import Decoder, DecoderConfig
    from jaxroute.encoders.networks.pooling import POOLINGS

# Where each name lives. It is imported when it is first asked for, so that options that speak of encoders load no JAX.
_HOMES = {
    "Encoder": "encoder",
    "check_prompts": "encoder",
    "load_encoder": "encoder",
    "Bert": "networks.bert",
    "BertConfig": "networks.bert",
    "EncoderConfig": "networks.build",
    "EncoderNetwork": "networks.build",
    "Decoder": "networks.decoder",
    "DecoderConfig": "networks.decoder",
    "POOLINGS": "networks.pooling",
}

__all__ = [
    "POOLINGS",
    "Bert",
    "BertConfig",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderNetwork",
    "check_prompts",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxroute.encoders' has no attribute {name!r}")
    found = getattr(import_module(f"jaxroute.encoders.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
