"""Pretrained networks that read a prompt for the predictor."""

from jaxroute.encoders.encoder import Encoder, check_prompts, load_encoder
from jaxroute.encoders.networks.bert import Bert, BertConfig
from jaxroute.encoders.networks.build import EncoderConfig, EncoderNetwork
from jaxroute.encoders.networks.decoder import Decoder, DecoderConfig
from jaxroute.encoders.networks.pooling import POOLINGS

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
