"""What a training step keeps of a layer for its backward pass, and what it computes again.

Kept are products with weights, which are nearly all of the arithmetic, and the draws of dropout; norms, rotations, activations
and attention are computed again from them. That is half the memory of keeping everything, and on a CPU no slower: fresh memory
costs as much time as these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

DRAWN = "drawn"
_policies = jax.checkpoint_policies
KEPT = _policies.save_from_both_policies(_policies.dots_with_no_batch_dims_saveable, _policies.save_only_these_names(DRAWN))


def for_backward(layer: Callable[..., Any], *, remat: bool) -> Callable[..., Any]:
    """`layer`, called in a scan, with what its backward pass keeps; with `remat` that is its input alone."""
    # In a scan, forward and backward pass are loops of their own, so that nothing needs to keep them apart.
    return jax.checkpoint(layer, policy=None if remat else KEPT, prevent_cse=False)


def drawn(array: jax.Array) -> jax.Array:
    """The same array, which is cheaper to keep than to draw again."""
    return checkpoint_name(array, DRAWN)
