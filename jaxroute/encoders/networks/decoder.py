"""The Llama-family decoder as a prompt encoder: tokens in, pooled hidden states of any layer out.

RMSNorm, rotary positions, grouped-query attention and SwiGLU (Touvron et al. 2023, "LLaMA" section 2.2 and "Llama 2"
section 2.2), without the language-model head: only hidden states are read. Mistral adds a window, Qwen2 biases of query, key
and value, Qwen3 norms of every query and key head. The layers are stacked on a leading axis and scanned, so that compile time
does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jaxroute.encoders.networks.attention import causal_attention
from jaxroute.encoders.networks.correction import correction
from jaxroute.encoders.networks.pooling import CAUSAL_POOLINGS, POOLINGS, pool
from jaxroute.encoders.networks.products import attended, product
from jaxroute.encoders.networks.remat import for_backward
from jaxroute.encoders.networks.rotary import Rope, rotary_tables, rotate
from jaxroute.encoders.packing import Packing

AnyArray = Array | np.ndarray
NO_WINDOW = 1 << 30


@dataclass(frozen=True)
class DecoderConfig:
    """What the arithmetic of the decoder depends on; sizes in elements."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    norm_epsilon: float
    context_length: int
    """Longest prompt, in tokens, that the weights were trained for; longer ones are cut."""
    rope: Rope = field(default_factory=Rope)
    input_bias: bool = False
    """Query, key and value have biases (Qwen2)."""
    output_bias: bool = False
    """So has the attention's output."""
    head_norm: bool = False
    """Every head's query and key is normed before it turns (Qwen3)."""
    windows: tuple[int | None, ...] = ()
    """Per layer, how many positions a token sees, itself included; None = all before it. Empty = None for every layer."""
    final_norm: bool = True
    """Whether the last layer's states are normed; False where layers above are left out."""

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"heads={self.heads} is not a multiple of key_value_heads={self.key_value_heads}; every key-value head "
                "serves the same number of query heads"
            )
        if self.head_size % 2:
            raise ValueError(f"head_size={self.head_size} is odd; rotary positions turn pairs, so it must be even")
        if self.windows and len(self.windows) != self.layers:
            raise ValueError(f"windows has {len(self.windows)} entries for layers={self.layers}")
        if any(window is not None and window < 1 for window in self.windows):
            raise ValueError(f"windows={self.windows} must be at least 1, or None")

    @property
    def poolings(self) -> tuple[str, ...]:
        return CAUSAL_POOLINGS

    def projection_size(self, name: str) -> int:
        """Outputs of `query`, `key` or `value`."""
        return self.head_size * (self.heads if name == "query" else self.key_value_heads)

    def up_to(self, depth: int) -> DecoderConfig:
        """The same without the layers above `depth`, which no state below them needs."""
        if depth == self.layers:
            return self
        return replace(self, layers=depth, windows=self.windows[:depth], final_norm=False)


class Decoder(nnx.Module):
    """Embedding, a stack of layers, and the final norm; the weights are random until a loader replaces them."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Param(_normal(rngs, (config.vocabulary_size, config.hidden_size), dtype))
        self.layers = Layer(config, dtype=dtype, rngs=rngs)
        if config.final_norm:
            self.norm = nnx.Param(jnp.ones((config.hidden_size,), dtype))

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
        """Pooled hidden states at each of `taps`: (layer, pooling), layers counted from 1, pooling `mean` or `last`.

        The last layer's states include the final norm. Layers above the highest tap are not computed. `tokens` is padded
        on the right; attention is causal, so padding cannot reach a real token, and pooling reads the first `lengths`
        positions only: the mean over them, or the last of them. With `packing` the prompts lie end to end in one row of
        `tokens`, and the batch that comes out is that of `lengths`. `adapters` are low-rank corrections (see lora.py), their
        inputs dropped with the rate and key of `dropout`; `remat` computes a layer again in the backward pass instead
        of keeping what is inside it.
        """
        config, depth = self.config, max(layer for layer, _ in taps)
        graph, stacked = nnx.split(self.layers)
        positions = jnp.arange(tokens.shape[1]) if packing is None else jnp.asarray(packing.position)
        rotation = rotary_tables(positions, config.rope, config.head_size)
        pooling_of = pool if packing is None else packing.pool
        per_layer = {
            "weights": stacked,
            "window": jnp.array([window or NO_WINDOW for window in config.windows]) if any(config.windows) else None,
            "adapters": adapters,
            "key": None if dropout is None else jax.random.split(dropout[1], config.layers),
        }
        if depth < config.layers:
            per_layer = jax.tree.map(lambda leaf: leaf[:depth], per_layer)

        def layer(hidden: Array, given: dict[str, Any]):
            drop = None if dropout is None else (dropout[0], given["key"])
            called = nnx.merge(graph, given["weights"])
            attend = partial(causal_attention, window=given["window"])
            if packing is not None:
                attend = partial(packing.attention, attend)
            hidden = called(hidden, rotation, attend, adapters=given["adapters"], dropout=drop)
            return hidden, pooling_of(hidden, lengths)

        hidden, pooled = jax.lax.scan(for_backward(layer, remat=remat), self.embedding[...][tokens], per_layer)
        if depth == config.layers and config.final_norm:
            final = rms_norm(hidden, self.norm[...], config.norm_epsilon)
            pooled = pooled.at[-1].set(pooling_of(final, lengths))
        return jnp.stack([pooled[layer - 1, POOLINGS.index(pooling)] for layer, pooling in taps], axis=1)


class Layer(nnx.Module):
    """All layers' weights, stacked on axis 0 as (layers, inputs, outputs); called, inside the scan, with one slice."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        count, hidden, middle = config.layers, config.hidden_size, config.intermediate_size
        queries = config.projection_size("query")
        self.attention_norm = nnx.Param(jnp.ones((count, hidden), dtype))
        for name in ("query", "key", "value"):
            size = config.projection_size(name)
            setattr(self, name, nnx.Param(_normal(rngs, (count, hidden, size), dtype)))
            if config.input_bias:
                setattr(self, f"{name}_bias", nnx.Param(jnp.zeros((count, size), dtype)))
        if config.head_norm:
            self.query_norm = nnx.Param(jnp.ones((count, config.head_size), dtype))
            self.key_norm = nnx.Param(jnp.ones((count, config.head_size), dtype))
        self.output = nnx.Param(_normal(rngs, (count, queries, hidden), dtype))
        if config.output_bias:
            self.output_bias = nnx.Param(jnp.zeros((count, hidden), dtype))
        self.mlp_norm = nnx.Param(jnp.ones((count, hidden), dtype))
        self.gate = nnx.Param(_normal(rngs, (count, hidden, middle), dtype))
        self.up = nnx.Param(_normal(rngs, (count, hidden, middle), dtype))
        self.down = nnx.Param(_normal(rngs, (count, middle, hidden), dtype))

    def __call__(
        self,
        hidden: Float[Array, "batch length hidden"],
        rotation: tuple[Array, Array],
        attend: Callable[[Array, Array, Array], Array],
        *,
        adapters: Mapping[str, Mapping[str, Array]] | None = None,
        dropout: tuple[float, Key[Array, ""]] | None = None,
    ) -> Float[Array, "batch length hidden"]:
        epsilon = self.config.norm_epsilon
        normed = rms_norm(hidden, self.attention_norm[...], epsilon)
        query = rotate(self._heads("query", normed, adapters, dropout), rotation)
        key = rotate(self._heads("key", normed, adapters, dropout), rotation)
        value = self._heads("value", normed, adapters, dropout)
        mixed = attended(attend, (query, key, value), self.output[...].dtype)
        mixed = product(mixed.reshape(*hidden.shape[:2], -1), self.output[...])
        hidden = hidden + (mixed + self.output_bias[...] if self.config.output_bias else mixed)
        normed = rms_norm(hidden, self.mlp_norm[...], epsilon)
        middle = jax.nn.silu(product(normed, self.gate[...])) * product(normed, self.up[...])
        return hidden + product(middle, self.down[...])

    def _heads(self, name, normed, adapters, dropout) -> Float[Array, "batch length heads size"]:
        """One projection, corrected by its adapter where there is one, split into heads."""
        config = self.config
        projected = product(normed, getattr(self, name)[...])
        if config.input_bias:
            projected = projected + getattr(self, f"{name}_bias")[...]
        if adapters is not None and name in adapters:
            projected = projected + correction(name, normed, adapters[name], dropout)
        heads = projected.reshape(*normed.shape[:2], -1, config.head_size)
        if config.head_norm and name != "value":
            heads = rms_norm(heads, getattr(self, f"{name}_norm")[...], config.norm_epsilon)
        return heads


def rms_norm(hidden: Float[Array, "... hidden"], weight: Float[Array, " hidden"], epsilon: float) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight, the mean in float32 (Zhang & Sennrich 2019, equation 4)."""
    wide = hidden.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale).astype(hidden.dtype) * weight


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return 0.02 * jax.random.normal(rngs.params(), shape, dtype)
