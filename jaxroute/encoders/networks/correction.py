"""What an adapter adds to a projection while its network computes: dropout(x) A B, the strength inside B (see lora.py)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxroute.encoders.networks.remat import drawn

PROJECTIONS = ("query", "key", "value")


def correction(
    name: str,
    inputs: Float[Array, "batch length inputs"],
    pair: Mapping[str, Array],
    dropout: tuple[float, Key[Array, ""]] | None,
) -> Float[Array, "batch length outputs"]:
    """What the adapter of projection `name` adds in one layer, its `inputs` dropped with the rate and key of `dropout`."""
    seen = inputs if dropout is None else _drop(inputs, dropout, name)
    return (seen @ pair["down"].astype(seen.dtype)) @ pair["up"].astype(seen.dtype)


def _drop(hidden: Array, dropout: tuple[float, Key[Array, ""]], name: str) -> Array:
    """Zeros for a random share, the rest scaled up by as much; every projection draws for itself."""
    rate, key = dropout
    if not rate:
        return hidden
    # Sixteen random bits decide, half the work of a float: the rate is rounded to a multiple of 2^-16.
    threshold = round(rate * 2**16)
    bits = jax.random.bits(jax.random.fold_in(key, PROJECTIONS.index(name)), hidden.shape, jnp.uint16)
    return jnp.where(drawn(bits >= threshold), hidden / (1 - threshold / 2**16), 0)
