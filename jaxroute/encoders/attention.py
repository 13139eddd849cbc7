"""Causal attention in chunks: softmax over the positions so far, or over a window of them."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHUNK = 256
"""Queries that attend together."""


def causal_attention(
    query: Float[Array, "batch length heads size"],
    key: Float[Array, "batch length groups size"],
    value: Float[Array, "batch length groups size"],
    *,
    window: Int[Array, ""] | None = None,
) -> Float[Array, "batch length heads size"]:
    """softmax(q k / sqrt(size)) v over the positions so far (Vaswani et al. 2017, equation 1), heads sharing keys in groups.

    With `window` a position sees itself and the `window - 1` before it (Mistral 7B, section 2). Queries go in chunks, each
    against the keys up to its end, so that what the mask would hide is hardly computed. A backward pass computes the weights
    again: kept, they would take more memory than all else.
    """
    chunks = range(0, query.shape[1], CHUNK)
    parts = [_attend(query[:, at : at + CHUNK], key[:, : at + CHUNK], value[:, : at + CHUNK], at, window) for at in chunks]
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


@partial(jax.checkpoint, static_argnums=3)
def _attend(query: Array, key: Array, value: Array, at: int, window: Int[Array, ""] | None) -> Array:
    batch, length, heads, size = query.shape
    known, groups = key.shape[1:3]
    shared = heads // groups
    query = query.reshape(batch, length, groups, shared, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch * groups, shared * length, size) * size**-0.5
    key = key.transpose(0, 2, 3, 1).reshape(batch * groups, size, known)
    value = value.transpose(0, 2, 1, 3).reshape(batch * groups, known, size)
    ago = at + jnp.arange(length)[:, None] - jnp.arange(known)
    seen = ago >= 0 if window is None else (ago >= 0) & (ago < window)
    scores = jnp.where(jnp.tile(seen, (shared, 1)), (query @ key).astype(jnp.float32), -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    mixed = (weights.astype(value.dtype) @ value) / jnp.sum(weights, axis=-1, keepdims=True).astype(value.dtype)
    mixed = mixed.reshape(batch, groups, shared, length, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, length, heads, size)
