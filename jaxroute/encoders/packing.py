"""Several prompts end to end in one row of tokens: matrices multiply real tokens only, attention sees a row per prompt.

Padding costs most where most arithmetic is, in the matrix products, which do not care whose token is whose; so these run on the
tokens of all prompts end to end. Attention, a small part of the work for short prompts, gathers them into padded rows and back.
Rows, unlike a mask over all tokens, keep it linear in the number of prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

AnyArray = Array | np.ndarray


class Packing(NamedTuple):
    """Where every prompt's tokens are; rows and tokens that only fill a batch point at token 0 and row 0."""

    place: Int[AnyArray, "rows length"]
    """Of every place in the padded rows, its token; padding on the right, which attention must not see."""
    back: Int[AnyArray, " tokens"]
    """Of every token, its place in the padded rows, counted through them."""

    @property
    def position(self) -> Int[AnyArray, "1 tokens"]:
        """Of every token, how many come before it in its own prompt."""
        return (self.back % self.place.shape[1])[None]

    def attention(
        self,
        attend: Callable[[Array, Array, Array], Array],
        query: Float[Array, "1 tokens heads size"],
        key: Float[Array, "1 tokens groups size"],
        value: Float[Array, "1 tokens groups size"],
    ) -> Float[Array, "1 tokens heads size"]:
        """`attend` on the padded rows: every prompt by itself."""
        rows = attend(*(heads[0][self.place] for heads in (query, key, value)))
        return rows.reshape(-1, *rows.shape[2:])[self.back][None]

    def pool(
        self, hidden: Float[Array, "1 tokens hidden"], lengths: Int[AnyArray, " rows"]
    ) -> Float[Array, "poolings rows hidden"]:
        """In the order of POOLINGS, in float32: over every prompt's own tokens."""
        first = self.place[:, :1]
        token = jnp.arange(hidden.shape[1])
        share = jnp.where((token >= first) & (token < first + lengths[:, None]), 1.0 / lengths[:, None], 0.0)
        mean = jnp.matmul(share, hidden[0].astype(jnp.float32), precision="highest")
        ends = (hidden[0, at].astype(jnp.float32) for at in (first[:, 0] + lengths - 1, first[:, 0]))
        return jnp.stack([mean, *ends])


def pack(
    token_ids: list[np.ndarray], *, tokens: int, rows: int, length: int
) -> tuple[Int[np.ndarray, "1 tokens"], Int[np.ndarray, " rows"], Packing]:
    """Tokens end to end with their lengths; filled up to `tokens` and, with prompts of one token, to `rows`."""
    flat = np.zeros((1, tokens), np.int32)
    lengths = np.ones(rows, np.int32)
    packing = Packing(np.zeros((rows, length), np.int32), np.zeros(tokens, np.int32))
    start = 0
    for row, ids in enumerate(token_ids):
        end = start + len(ids)
        flat[0, start:end] = ids
        lengths[row] = len(ids)
        packing.place[row, : len(ids)] = np.arange(start, end)
        packing.back[start:end] = row * length + np.arange(len(ids))
        start = end
    return flat, lengths, packing
