"""The two kinds of network that read a prompt: causal decoders, and BERT, which looks both ways. They are called alike."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from jaxroute.encoders.networks.bert import Bert, BertConfig
from jaxroute.encoders.networks.decoder import Decoder, DecoderConfig

EncoderNetwork = Decoder | Bert
EncoderConfig = DecoderConfig | BertConfig


def build(config: EncoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> EncoderNetwork:
    """With random weights, which a loader replaces."""
    if isinstance(config, BertConfig):
        return Bert(config, dtype=dtype, rngs=rngs)
    return Decoder(config, dtype=dtype, rngs=rngs)
