"""LoRA: a low-rank correction of the attention's query, key and value weights (Hu et al. 2021, arXiv:2106.09685).

    y = x W + (alpha / rank) * dropout(x) A B,      A (inputs, rank) random, B (rank, outputs) zero at the start

One pair per projection and layer, stacked over the layers as the network's own weights are. Routoo (arXiv:2401.13979),
section 4, trains rank 1024 with alpha 16 and dropout 0.05 on query, key and value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxroute.encoders.networks.build import EncoderConfig, EncoderNetwork
from jaxroute.encoders.networks.correction import PROJECTIONS
from jaxroute.errors import EncoderError

Adapters = dict[str, dict[str, Float[Array | np.ndarray, "layers _ _"]]]
"""{"query": {"down": (layers, inputs, rank), "up": (layers, rank, outputs)}, ...}"""


@dataclass(frozen=True)
class LoraConfig:
    """Size and strength of the adapters."""

    rank: int = 16
    """Inner size; the paper's is 1024, on a decoder of width 4096."""
    alpha: float = 16.0
    """The correction counts alpha / rank times."""
    dropout: float = 0.05
    """Share of a projection's inputs that its adapter does not see, while training."""
    projections: tuple[str, ...] = PROJECTIONS
    """Which weights are corrected."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "projections", tuple(self.projections))
        problems = []
        if self.rank < 1:
            problems.append(f"rank={self.rank} must be at least 1")
        if not 0 < self.alpha < math.inf:
            problems.append(f"alpha={self.alpha} must be positive")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout} must be in [0, 1)")
        unknown = set(self.projections) - set(PROJECTIONS)
        if unknown or not self.projections or len(set(self.projections)) < len(self.projections):
            problems.append(f"projections={self.projections} must be some of {', '.join(PROJECTIONS)}, each once")
        if problems:
            raise EncoderError("lora: " + "; ".join(problems))

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def new_adapters(config: LoraConfig, network: EncoderConfig, key: Key[Array, ""]) -> Adapters:
    """Adapters that change nothing yet: `down` as PEFT draws it (Kaiming uniform, a = sqrt(5)), `up` zero; float32."""
    keys = jax.random.split(key, len(config.projections))
    bound = 1 / math.sqrt(network.hidden_size)
    return {
        name: {
            "down": jax.random.uniform(one, (network.layers, network.hidden_size, config.rank), minval=-bound, maxval=bound),
            "up": jnp.zeros((network.layers, config.rank, network.projection_size(name))),
        }
        for name, one in zip(config.projections, keys, strict=True)
    }


def scaled(adapters: Adapters, config: LoraConfig) -> Adapters:
    """With alpha / rank inside `up`, as the network takes them."""
    return {name: {"down": pair["down"], "up": pair["up"] * config.scale} for name, pair in adapters.items()}


def merge_adapters(network: EncoderNetwork, adapters: Adapters, config: LoraConfig) -> EncoderNetwork:
    """A network whose weights hold the correction, W + (alpha / rank) A B: as fast as without adapters.

    Layers above the last that the adapters know stay as they are; the given network is not changed.
    """
    graph, state = nnx.split(network)
    merged = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
    for name, pair in scaled(adapters, config).items():
        weight: nnx.Param = getattr(merged.layers, name)
        change = jnp.einsum("lir,lro->lio", pair["down"], pair["up"], precision="highest")
        layers = len(change)
        corrected = weight[...][:layers].astype(jnp.float32) + change
        weight.set_value(weight[...].at[:layers].set(corrected.astype(weight[...].dtype)))
    return merged
