"""Products with weights that may be of a narrower type than what they multiply."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def product(inputs: Float[Array, "... inputs"], weight: Float[Array, "inputs outputs"]) -> Float[Array, "... outputs"]:
    """x W in the weights' type, summed and returned in the inputs'; where both are of one type, that is `inputs @ weight`."""
    return jnp.matmul(inputs.astype(weight.dtype), weight, preferred_element_type=inputs.dtype)
