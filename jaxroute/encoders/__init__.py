"""Pretrained networks that read a prompt for the predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxroute.exports import exported

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


__getattr__ = exported(__name__, _HOMES)
