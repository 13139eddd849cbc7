"""Products in bfloat16 with sums in float32: which numbers are narrowed, and whether that is faster here.

Matrices of the layers are narrowed, and what is multiplied by them, and the products of attention. Embeddings, norms, the
softmax, what is added up from layer to layer and what is pooled stay in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxroute.encoders.scoring_config import Dtype

CPUINFO = Path("/proc/cpuinfo")
STACKED_MATRIX = 3
"""Axes of all layers' matrices of one name: (layers, inputs, outputs)."""


def stated_dtype(dtype: Dtype) -> Literal["float32", "bfloat16"]:
    """What `auto` is on this machine; the others as they are."""
    if dtype == "auto":
        return "bfloat16" if computes_in_bfloat16() else "float32"
    return dtype


def computes_in_bfloat16() -> bool:
    """Whether products of such numbers are fast here: on accelerators, and on CPUs with instructions for them."""
    if jax.default_backend() != "cpu":
        return True
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def narrowed(layers: Any, dtype: Dtype) -> Any:
    """The stacked weights of all layers, their matrices in bfloat16 where that is the `dtype`.

    The networks multiply in the type of their matrices (see networks/products.py), so nothing else has to be said.
    """
    if stated_dtype(dtype) == "float32":
        return layers
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if leaf.ndim == STACKED_MATRIX else leaf, layers)
