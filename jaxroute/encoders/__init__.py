"""Pretrained networks that read a prompt for the predictor."""

from jaxroute.encoders.decoder import POOLINGS, Decoder, DecoderConfig
from jaxroute.encoders.encoder import Encoder, check_prompts, load_encoder

__all__ = ["POOLINGS", "Decoder", "DecoderConfig", "Encoder", "check_prompts", "load_encoder"]
