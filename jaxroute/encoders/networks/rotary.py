"""Rotary positions: the angle by which every pair of dimensions turns per token, and its scalings for long contexts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

KINDS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Rope:
    """How positions turn; names as in Hugging Face's `rope_parameters`."""

    theta: float = 10_000.0
    kind: str = "default"
    """`default`, `linear` (positions divided by `factor`), `llama3` or `yarn`."""
    factor: float = 1.0
    original_context_length: int = 0
    """Tokens that the weights saw before their context was stretched (llama3, yarn)."""
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    """llama3: wavelengths above original / low are divided by `factor`, below original / high kept, between them mixed."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    """yarn: dimensions that turn `beta_fast` times or more in the original context are kept, `beta_slow` or less divided."""
    truncate: bool = True
    """yarn: round the borders between these to whole dimensions."""
    attention_factor: float = 1.0
    """yarn: queries and keys are both longer by it."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"rope type {self.kind!r} must be one of {', '.join(KINDS)}")
        if self.theta <= 0 or self.factor <= 0:
            raise ValueError(f"rope theta={self.theta} and factor={self.factor} must be positive")
        if self.kind in ("llama3", "yarn") and self.original_context_length < 1:
            raise ValueError(f"rope type {self.kind!r} needs original_max_position_embeddings, at least 1")


def rotary_tables(
    positions: Int[Array, "*batch length"], rope: Rope, head_size: int
) -> tuple[Float[Array, "*batch length half"], Float[Array, "*batch length half"]]:
    """cos and sin of position * frequency (Su et al. 2021, "RoFormer", section 3.2.2), scaled as `rope` says."""
    angle = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies(rope, head_size))
    return jnp.cos(angle) * rope.attention_factor, jnp.sin(angle) * rope.attention_factor


def frequencies(rope: Rope, head_size: int) -> Float[np.ndarray, " half"]:
    """theta^(-2k / head_size) for pair k, in radians per token, in float32 as the checkpoints were trained with."""
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    plain = np.float32(1.0) / np.power(np.float32(rope.theta), exponent)
    if rope.kind == "linear":
        return plain / np.float32(rope.factor)
    if rope.kind == "llama3":
        return _llama3(plain, rope)
    if rope.kind == "yarn":
        return _yarn(plain, rope, head_size)
    return plain


def _llama3(plain: Float[np.ndarray, " half"], rope: Rope) -> Float[np.ndarray, " half"]:
    """Long wavelengths divided, short ones kept, a linear mix between (Llama 3.1's published reference code)."""
    wavelength = 2 * math.pi / plain
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = np.clip((rope.original_context_length / wavelength - low) / (high - low), 0.0, 1.0)
    return ((1 - kept) * plain / rope.factor + kept * plain).astype(np.float32)


def _yarn(plain: Float[np.ndarray, " half"], rope: Rope, head_size: int) -> Float[np.ndarray, " half"]:
    """Peng et al. 2023, "YaRN", section 3.2: divided where a dimension turns slowly, kept where fast, a ramp between."""

    def dimension(turns: float) -> float:
        return head_size * math.log(rope.original_context_length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_size - 1)
    ramp = np.clip((np.arange(head_size // 2, dtype=np.float32) - low) / (high - low or 0.001), 0.0, 1.0)
    return (plain / rope.factor * ramp + plain * (1 - ramp)).astype(np.float32)


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """0.1 ln(factor) + 1 (YaRN, equation 22), or the ratio of two such where a checkpoint names both scales."""

    def of(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    return of(mscale) / of(mscale_all_dim) if mscale and mscale_all_dim else of(1.0)


def rotate(
    heads: Float[Array, "batch length heads size"], rotation: tuple[Float[Array, "*batch length half"], Array]
) -> Float[Array, "batch length heads size"]:
    """Turn dimension k together with k + size / 2, the pairing of Hugging Face's checkpoints."""
    cos, sin = (table[..., :, None, :].astype(heads.dtype) for table in rotation)
    first, second = jnp.split(heads, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
