"""The Llama-family decoder as a prompt encoder: tokens in, pooled hidden states of any layer out.

RMSNorm, rotary positions, grouped-query attention and SwiGLU (Touvron et al. 2023, "LLaMA" section 2.2 and "Llama 2"
section 2.2), without the language-model head: only hidden states are read. The layers are stacked on a leading axis and
scanned, so that compile time does not grow with depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

POOLINGS = ("mean", "last")
CHUNK = 256
"""Queries that attend together."""


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
    rope_theta: float
    norm_epsilon: float
    context_length: int
    """Longest prompt, in tokens, that the weights were trained for; longer ones are cut."""

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"heads={self.heads} is not a multiple of key_value_heads={self.key_value_heads}; every key-value head "
                "serves the same number of query heads"
            )
        if self.head_size % 2:
            raise ValueError(f"head_size={self.head_size} is odd; rotary positions turn pairs, so it must be even")


class Decoder(nnx.Module):
    """Embedding, a stack of layers, and the final norm; the weights are random until a loader replaces them."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Param(_normal(rngs, (config.vocabulary_size, config.hidden_size), dtype))
        self.layers = Layer(config, dtype=dtype, rngs=rngs)
        self.norm = nnx.Param(jnp.ones((config.hidden_size,), dtype))

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        lengths: Int[Array, " batch"],
        *,
        taps: tuple[tuple[int, str], ...],
    ) -> Float[Array, "batch taps hidden"]:
        """Pooled hidden states at each of `taps`: (layer, pooling), layers counted from 1, pooling `mean` or `last`.

        The last layer's states include the final norm. Layers above the highest tap are not computed. `tokens` is padded
        on the right; attention is causal, so padding cannot reach a real token, and pooling reads the first `lengths`
        positions only: the mean over them, or the last of them.
        """
        depth = max(layer for layer, _ in taps)
        graph, stacked = nnx.split(self.layers)
        stacked = jax.tree.map(lambda leaf: leaf[:depth], stacked)
        hidden = self.embedding[...][tokens]
        rotation = rotary_tables(tokens.shape[1], self.config)

        def layer(hidden, parameters):
            hidden = nnx.merge(graph, parameters)(hidden, rotation)
            return hidden, pool(hidden, lengths)

        hidden, pooled = jax.lax.scan(layer, hidden, stacked)
        if depth == self.config.layers:
            final = rms_norm(hidden, self.norm[...], self.config.norm_epsilon)
            pooled = pooled.at[-1].set(pool(final, lengths))
        return jnp.stack([pooled[layer - 1, POOLINGS.index(pooling)] for layer, pooling in taps], axis=1)


class Layer(nnx.Module):
    """All layers' weights, stacked on axis 0 as (layers, inputs, outputs); called, inside the scan, with one slice."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        count, hidden, middle = config.layers, config.hidden_size, config.intermediate_size
        queries, keys = config.heads * config.head_size, config.key_value_heads * config.head_size
        self.attention_norm = nnx.Param(jnp.ones((count, hidden), dtype))
        self.query = nnx.Param(_normal(rngs, (count, hidden, queries), dtype))
        self.key = nnx.Param(_normal(rngs, (count, hidden, keys), dtype))
        self.value = nnx.Param(_normal(rngs, (count, hidden, keys), dtype))
        self.output = nnx.Param(_normal(rngs, (count, queries, hidden), dtype))
        self.mlp_norm = nnx.Param(jnp.ones((count, hidden), dtype))
        self.gate = nnx.Param(_normal(rngs, (count, hidden, middle), dtype))
        self.up = nnx.Param(_normal(rngs, (count, hidden, middle), dtype))
        self.down = nnx.Param(_normal(rngs, (count, middle, hidden), dtype))

    def __call__(
        self, hidden: Float[Array, "batch length hidden"], rotation: tuple[Array, Array]
    ) -> Float[Array, "batch length hidden"]:
        epsilon = self.config.norm_epsilon
        hidden = hidden + self._attend(rms_norm(hidden, self.attention_norm[...], epsilon), rotation)
        normed = rms_norm(hidden, self.mlp_norm[...], epsilon)
        return hidden + (jax.nn.silu(normed @ self.gate[...]) * (normed @ self.up[...])) @ self.down[...]

    def _attend(self, hidden, rotation):
        batch, length, _ = hidden.shape
        size = self.config.head_size
        query = rotate((hidden @ self.query[...]).reshape(batch, length, self.config.heads, size), rotation)
        key = rotate((hidden @ self.key[...]).reshape(batch, length, self.config.key_value_heads, size), rotation)
        value = (hidden @ self.value[...]).reshape(batch, length, self.config.key_value_heads, size)
        return causal_attention(query, key, value).reshape(batch, length, -1) @ self.output[...]


def causal_attention(
    query: Float[Array, "batch length heads size"],
    key: Float[Array, "batch length groups size"],
    value: Float[Array, "batch length groups size"],
) -> Float[Array, "batch length heads size"]:
    """softmax(q k / sqrt(size)) v over the positions so far (Vaswani et al. 2017, equation 1), heads sharing keys in groups.

    Queries go in chunks, each against the keys up to its end, so that what the mask would hide is hardly computed.
    """
    length = query.shape[1]
    chunks = range(0, length, CHUNK)
    parts = [_attend(query[:, at : at + CHUNK], key[:, : at + CHUNK], value[:, : at + CHUNK], at) for at in chunks]
    return jnp.concatenate(parts, axis=1)


def _attend(query: Array, key: Array, value: Array, at: int) -> Array:
    batch, length, heads, size = query.shape
    known, groups = key.shape[1:3]
    shared = heads // groups
    query = query.reshape(batch, length, groups, shared, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch * groups, shared * length, size) * size**-0.5
    key = key.transpose(0, 2, 3, 1).reshape(batch * groups, size, known)
    value = value.transpose(0, 2, 1, 3).reshape(batch * groups, known, size)
    seen = jnp.tile(jnp.arange(known) <= at + jnp.arange(length)[:, None], (shared, 1))
    scores = jnp.where(seen, (query @ key).astype(jnp.float32), -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    mixed = (weights.astype(value.dtype) @ value) / jnp.sum(weights, axis=-1, keepdims=True).astype(value.dtype)
    mixed = mixed.reshape(batch, groups, shared, length, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, length, heads, size)


def rms_norm(hidden: Float[Array, "... hidden"], weight: Float[Array, " hidden"], epsilon: float) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight, the mean in float32 (Zhang & Sennrich 2019, equation 4)."""
    wide = hidden.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale).astype(hidden.dtype) * weight


def rotary_tables(length: int, config: DecoderConfig) -> tuple[Float[Array, "length half"], Float[Array, "length half"]]:
    """cos and sin of position * theta^(-2k / head_size) (Su et al. 2021, "RoFormer", section 3.2.2)."""
    frequency = config.rope_theta ** (-jnp.arange(0, config.head_size, 2, dtype=jnp.float32) / config.head_size)
    angle = jnp.arange(length, dtype=jnp.float32)[:, None] * frequency
    return jnp.cos(angle), jnp.sin(angle)


def rotate(heads: Float[Array, "batch length heads size"], rotation: tuple[Array, Array]) -> Array:
    """Turn dimension k together with k + size / 2, the pairing of Hugging Face's checkpoints."""
    cos, sin = (table[None, :, None, :].astype(heads.dtype) for table in rotation)
    first, second = jnp.split(heads, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def pool(hidden: Float[Array, "batch length hidden"], lengths: Int[Array, " batch"]) -> Float[Array, "poolings batch hidden"]:
    """In the order of POOLINGS, in float32: the mean over the real tokens, and the last real token."""
    real = (jnp.arange(hidden.shape[1]) < lengths[:, None])[..., None]
    mean = jnp.sum(jnp.where(real, hidden.astype(jnp.float32), 0.0), axis=1) / lengths[:, None]
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0].astype(jnp.float32)
    return jnp.stack([mean, last])


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return 0.02 * jax.random.normal(rngs.params(), shape, dtype)
