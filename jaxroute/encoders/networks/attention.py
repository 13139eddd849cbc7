"""Attention in chunks: softmax over the positions so far, over a window of them, or over the whole prompt."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

AnyArray = Array | np.ndarray
Slots = Float[Array, "groups _ _"]
"""Keys or values of earlier tokens."""
CHUNK = 256
"""Queries that attend together where every one sees all keys."""
CAUSAL_CHUNK, CAUSAL_CHUNKS = 64, 32
"""The fewest queries that attend together where each sees the keys before it, and the most parts of a long text: small parts
compute little of what the mask hides, many take long to compile."""


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
    chunk = max(CAUSAL_CHUNK, -(-query.shape[1] // CAUSAL_CHUNKS))
    chunks = range(0, query.shape[1], chunk)
    parts = [_causal(query[:, at : at + chunk], key[:, : at + chunk], value[:, : at + chunk], at, window) for at in chunks]
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def whole_attention(
    query: Float[Array, "batch length heads size"],
    key: Float[Array, "batch length groups size"],
    value: Float[Array, "batch length groups size"],
    *,
    lengths: Int[AnyArray, " batch"],
) -> Float[Array, "batch length heads size"]:
    """The same over all of the first `lengths` positions of every row, before and after: BERT's."""
    chunks = range(0, query.shape[1], CHUNK)
    parts = [_whole(query[:, at : at + CHUNK], key, value, lengths) for at in chunks]
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def cached_attention(
    query: Float[Array, "1 length heads size"],
    key: Float[Array, "1 length groups size"],
    value: Float[Array, "1 length groups size"],
    *,
    keys: Slots,
    values: Slots,
    start: Int[Array, ""],
    window: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "1 length heads size"], Slots, Slots]:
    """`causal_attention` of tokens from position `start` on, whose predecessors' keys `(groups, size, slots)` and values
    `(groups, slots, size)` are kept in slots.

    Returns the slots too, with those of these tokens, which must fit. Slots beyond them may hold anything.
    """
    length, heads, size = query.shape[1:]
    groups, _, slots = keys.shape
    keys = jax.lax.dynamic_update_slice(keys, key[0].transpose(1, 2, 0).astype(keys.dtype), (0, 0, start))
    values = jax.lax.dynamic_update_slice(values, value[0].transpose(1, 0, 2).astype(values.dtype), (0, start, 0))
    shared = heads // groups
    query = query[0].reshape(length, groups, shared, size).transpose(1, 2, 0, 3).reshape(groups, shared * length, size)
    scores = jnp.matmul((query * size**-0.5).astype(keys.dtype), keys, preferred_element_type=jnp.float32)
    ago = start + jnp.arange(length)[:, None] - jnp.arange(slots)
    seen = ago >= 0 if window is None else (ago >= 0) & (ago < window)
    scores = jnp.where(seen, scores.reshape(groups, shared, length, slots), -jnp.inf).reshape(groups, shared * length, slots)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    mixed = jnp.matmul(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    mixed = (mixed / jnp.sum(weights, axis=-1, keepdims=True)).astype(value.dtype)
    mixed = mixed.reshape(groups, shared, length, size).transpose(2, 0, 1, 3).reshape(1, length, heads, size)
    return mixed, keys, values


def _causal(query: Array, key: Array, value: Array, at: int, window: Int[Array, ""] | None) -> Array:
    ago = at + jnp.arange(query.shape[1])[:, None] - jnp.arange(key.shape[1])
    seen = ago >= 0 if window is None else (ago >= 0) & (ago < window)
    return _attend(query, key, value, seen[None])


@jax.checkpoint
def _whole(query: Array, key: Array, value: Array, lengths: Int[AnyArray, " batch"]) -> Array:
    return _attend(query, key, value, (jnp.arange(key.shape[1]) < lengths[:, None])[:, None])


def _attend(query: Array, key: Array, value: Array, seen: Bool[Array, "batch length known"]) -> Array:
    """`seen` tells which keys a query sees; its axes may be 1 where all are alike."""
    batch, length, heads, size = query.shape
    known, groups = key.shape[1:3]
    shared = heads // groups
    query = query.reshape(batch, length, groups, shared, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch * groups, shared * length, size) * size**-0.5
    key = key.transpose(0, 2, 3, 1).reshape(batch * groups, size, known)
    value = value.transpose(0, 2, 1, 3).reshape(batch * groups, known, size)
    scores = jnp.matmul(query, key, preferred_element_type=jnp.float32).reshape(batch, groups, shared, length, known)
    # Made once and added: a choice between scores and -inf takes XLA's CPU backend longer than the products do.
    scores = scores + jax.lax.optimization_barrier(jnp.where(seen, 0.0, -jnp.inf))[:, None, None]
    scores = scores.reshape(batch * groups, shared * length, known)
    # Weights do not depend on what is taken off, so no gradient has to go through it.
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    mixed = jnp.matmul(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    mixed = (mixed / jnp.sum(weights, axis=-1, keepdims=True)).astype(value.dtype)
    mixed = mixed.reshape(batch, groups, shared, length, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, length, heads, size)
