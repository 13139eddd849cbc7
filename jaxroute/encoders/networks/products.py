"""Products with weights that may be of a narrower type than what they multiply, and attention in that type."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float


def product(inputs: Float[Array, "... inputs"], weight: Float[Array, "inputs outputs"]) -> Float[Array, "... outputs"]:
    """x W in the weights' type, summed and returned in the inputs'; where both are of one type, that is `inputs @ weight`."""
    return jnp.matmul(inputs.astype(weight.dtype), weight, preferred_element_type=inputs.dtype)


def attended(
    attend: Callable[[Array, Array, Array], Array], heads: tuple[Array, Array, Array], dtype: jnp.dtype
) -> Float[Array, "batch length heads size"]:
    """`attend` of query, key and value in the weights' type, returned in their own; the softmax in between is in float32."""
    return attend(*(one.astype(dtype) for one in heads)).astype(heads[0].dtype)
