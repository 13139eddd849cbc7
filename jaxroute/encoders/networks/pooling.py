"""Which of a prompt's tokens represent it: the mean over all of them, the last, or the first."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

AnyArray = Array | np.ndarray
POOLINGS = ("mean", "last", "first")
CAUSAL_POOLINGS = ("mean", "last")
"""Where a token sees only those before it, the first one knows nothing of the prompt."""


def pool(
    hidden: Float[Array, "batch length hidden"], lengths: Int[AnyArray, " batch"]
) -> Float[Array, "poolings batch hidden"]:
    """In the order of POOLINGS, in float32: over the real tokens, which are the first `lengths` of every row."""
    real = (jnp.arange(hidden.shape[1]) < lengths[:, None])[..., None]
    mean = jnp.sum(jnp.where(real, hidden.astype(jnp.float32), 0.0), axis=1) / lengths[:, None]
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0].astype(jnp.float32)
    return jnp.stack([mean, last, hidden[:, 0].astype(jnp.float32)])
