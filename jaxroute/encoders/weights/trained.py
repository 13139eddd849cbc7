"""What training made of an encoder: adapters to merge, or weights to put in place of those on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxroute.encoders.networks.build import EncoderNetwork
from jaxroute.encoders.networks.lora import Adapters, LoraConfig, merge_adapters


@dataclass(frozen=True, eq=False)
class TrainedAdapters:
    """LoRA on the first layers of a network, as many as the arrays have; they live on the host."""

    arrays: Adapters
    lora: LoraConfig

    @property
    def digest(self) -> str:
        return _digest(self.arrays, repr(self.lora))

    def apply(self, network: EncoderNetwork) -> EncoderNetwork:
        return merge_adapters(network, self.arrays, self.lora)


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """All weights of the first layers of a network, as nested names; they live on the host."""

    arrays: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return _digest(self.arrays, "full")

    def apply(self, network: EncoderNetwork) -> EncoderNetwork:
        """The arrays in the dtype, and on the devices, of the weights that they replace."""
        graph, state = nnx.split(network)
        placed = jax.tree.map(
            lambda old, new: jax.device_put(np.asarray(new, old.dtype), old.sharding),
            nnx.to_pure_dict(state),
            dict(self.arrays),
        )
        return nnx.merge(graph, placed)


Trained = TrainedAdapters | TrainedWeights


def _digest(arrays: Mapping[str, Any], words: str) -> str:
    """SHA-256 over every number and its name."""
    digest = hashlib.sha256(words.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(arrays)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
