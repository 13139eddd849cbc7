"""BERT as a prompt encoder: tokens in, pooled hidden states of any layer out (Devlin et al. 2018, arXiv:1810.04805).

A Transformer's encoder (Vaswani et al. 2017, section 3.1): every token sees the whole prompt, positions are learnt, the layers'
norms come after the sums, and there are biases everywhere. Without the pooler and the heads of its pretraining: only hidden
states are read. The layers are stacked and scanned, and everything is called, as in decoder.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jaxroute.encoders.networks.attention import whole_attention
from jaxroute.encoders.networks.correction import correction
from jaxroute.encoders.networks.pooling import POOLINGS, pool
from jaxroute.encoders.networks.products import attended, product
from jaxroute.encoders.networks.remat import for_backward
from jaxroute.encoders.packing import Packing

AnyArray = Array | np.ndarray
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    # x Phi(x); jax.nn.gelu computes it by erfc, which takes twice the time.
    "gelu": lambda inputs: 0.5 * inputs * (1.0 + jax.lax.erf(inputs * np.sqrt(0.5).astype(inputs.dtype))),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@dataclass(frozen=True)
class BertConfig:
    """What the arithmetic of a BERT depends on; sizes in elements."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    context_length: int
    """Positions that were learnt; longer prompts are cut."""
    token_types: int = 2
    """Kinds of token that the weights know; a prompt is all of the first."""
    norm_epsilon: float = 1e-12
    activation: str = "gelu"
    """Between the two matrices of a layer: one of ACTIVATIONS."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.heads}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} must be one of {', '.join(ACTIVATIONS)}")

    @property
    def poolings(self) -> tuple[str, ...]:
        return POOLINGS

    def projection_size(self, _: str) -> int:
        """Outputs of `query`, `key` or `value`."""
        return self.hidden_size

    def up_to(self, depth: int) -> BertConfig:
        """The same without the layers above `depth`, which no state below them needs."""
        return replace(self, layers=depth)


class Bert(nnx.Module):
    """Three embeddings, their norm, and a stack of layers; the weights are random until a loader replaces them."""

    def __init__(self, config: BertConfig, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        hidden = config.hidden_size
        self.embedding = nnx.Param(_normal(rngs, (config.vocabulary_size, hidden), dtype))
        self.position = nnx.Param(_normal(rngs, (config.context_length, hidden), dtype))
        self.token_type = nnx.Param(_normal(rngs, (config.token_types, hidden), dtype))
        self.embedding_norm = nnx.Param(jnp.ones((hidden,), dtype))
        self.embedding_norm_bias = nnx.Param(jnp.zeros((hidden,), dtype))
        self.layers = BertLayer(config, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        tokens: Int[AnyArray, "#batch length"],
        lengths: Int[AnyArray, " batch"],
        *,
        taps: tuple[tuple[int, str], ...],
        packing: Packing | None = None,
        adapters: Mapping[str, Mapping[str, Array]] | None = None,
        dropout: tuple[float, Key[Array, ""]] | None = None,
        remat: bool = False,
    ) -> Float[Array, "batch taps hidden"]:
        """Pooled hidden states at each of `taps`: (layer, pooling), layers counted from 1, pooling one of POOLINGS.

        Layers above the highest tap are not computed. `tokens` is padded on the right; what lies beyond `lengths` is
        neither attended to nor pooled. `packing`, `adapters`, `dropout` and `remat` are as in `Decoder`.
        """
        config, depth = self.config, max(layer for layer, _ in taps)
        graph, stacked = nnx.split(self.layers)
        pooling_of = pool if packing is None else packing.pool
        attend: Callable[[Array, Array, Array], Array] = partial(whole_attention, lengths=jnp.asarray(lengths))
        if packing is not None:
            attend = partial(packing.attention, attend)
        per_layer = {
            "weights": stacked,
            "adapters": adapters,
            "key": None if dropout is None else jax.random.split(dropout[1], config.layers),
        }
        if depth < config.layers:
            per_layer = jax.tree.map(lambda leaf: leaf[:depth], per_layer)

        def layer(hidden: Array, given: dict[str, Any]):
            drop = None if dropout is None else (dropout[0], given["key"])
            hidden = nnx.merge(graph, given["weights"])(hidden, attend, adapters=given["adapters"], dropout=drop)
            return hidden, pooling_of(hidden, lengths)

        positions = jnp.arange(tokens.shape[1]) if packing is None else jnp.asarray(packing.position)
        embedded = self.embed(tokens, positions)
        _, pooled = jax.lax.scan(for_backward(layer, remat=remat), embedded, per_layer)
        return jnp.stack([pooled[layer - 1, POOLINGS.index(pooling)] for layer, pooling in taps], axis=1)

    def embed(
        self, tokens: Int[AnyArray, "batch length"], positions: Int[Array, "*batch length"]
    ) -> Float[Array, "batch length hidden"]:
        """What the first layer reads."""
        # Rows may be padded beyond the last position; what is read there is hidden, but must be a number.
        positions = jnp.minimum(positions, self.config.context_length - 1)
        summed = self.embedding[...][tokens] + self.position[...][positions] + self.token_type[...][0]
        return layer_norm(summed, self.embedding_norm[...], self.embedding_norm_bias[...], self.config.norm_epsilon)


class BertLayer(nnx.Module):
    """All layers' weights, stacked on axis 0 as (layers, inputs, outputs); called, inside the scan, with one slice."""

    output: nnx.Param

    def __init__(self, config: BertConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        count, hidden, middle = config.layers, config.hidden_size, config.intermediate_size
        sizes = dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden))
        for name, (inputs, outputs) in (sizes | {"up": (hidden, middle), "down": (middle, hidden)}).items():
            setattr(self, name, nnx.Param(_normal(rngs, (count, inputs, outputs), dtype)))
            setattr(self, f"{name}_bias", nnx.Param(jnp.zeros((count, outputs), dtype)))
        for name in ("attention_norm", "mlp_norm"):
            setattr(self, name, nnx.Param(jnp.ones((count, hidden), dtype)))
            setattr(self, f"{name}_bias", nnx.Param(jnp.zeros((count, hidden), dtype)))

    def __call__(
        self,
        hidden: Float[Array, "batch length hidden"],
        attend: Callable[[Array, Array, Array], Array],
        *,
        adapters: Mapping[str, Mapping[str, Array]] | None = None,
        dropout: tuple[float, Key[Array, ""]] | None = None,
    ) -> Float[Array, "batch length hidden"]:
        query, key, value = (self._heads(name, hidden, adapters, dropout) for name in ("query", "key", "value"))
        mixed = attended(attend, (query, key, value), self.output[...].dtype).reshape(hidden.shape)
        hidden = self._norm("attention_norm", hidden + self._affine("output", mixed))
        middle = ACTIVATIONS[self.config.activation](self._affine("up", hidden))
        return self._norm("mlp_norm", hidden + self._affine("down", middle))

    def _heads(self, name, hidden, adapters, dropout) -> Float[Array, "batch length heads size"]:
        """One projection, corrected by its adapter where there is one, split into heads."""
        projected = self._affine(name, hidden)
        if adapters is not None and name in adapters:
            projected = projected + correction(name, hidden, adapters[name], dropout)
        return projected.reshape(*hidden.shape[:2], self.config.heads, -1)

    def _affine(self, name: str, inputs: Array) -> Array:
        return product(inputs, getattr(self, name)[...]) + getattr(self, f"{name}_bias")[...]

    def _norm(self, name: str, hidden: Array) -> Array:
        return layer_norm(hidden, getattr(self, name)[...], getattr(self, f"{name}_bias")[...], self.config.norm_epsilon)


def layer_norm(
    hidden: Float[Array, "... hidden"], weight: Float[Array, " hidden"], bias: Float[Array, " hidden"], epsilon: float
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, in float32 (Ba et al. 2016, equation 4)."""
    wide = hidden.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (centred * scale).astype(hidden.dtype) * weight + bias


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return 0.02 * jax.random.normal(rngs.params(), shape, dtype)
