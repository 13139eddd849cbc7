"""How prompts are batched; apart from what does it, so that `--help` needs no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxroute.errors import EncoderError

Dtype = Literal["float32", "bfloat16", "auto"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class ScoringConfig:
    """How prompts are batched and computed; decides the speed, and of the result only the rounding."""

    tokens_per_batch: int = 1024
    """Tokens that a device computes at once. On a CPU they should fit its caches; a GPU or TPU wants some tens of thousands."""
    dispatch_threads: int = 2
    """Batches under way at once: one is prepared and launched while another computes."""
    devices: int | None = None
    """How many of this process's devices share the work; None = all."""
    dtype: Dtype = "float32"
    """Of the layers' matrices and of what is multiplied by them; sums, norms and the softmax are float32. `bfloat16` is faster
    on GPUs, TPUs and processors with instructions for it, slower on others, and moves estimates in the third digit. `auto` is
    `bfloat16` where it is faster, else `float32`; the process that was started decides it once, also for workers."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}={value} must be at least 1"
            for name in ("tokens_per_batch", "dispatch_threads", "devices")
            if (value := getattr(self, name)) is not None and (not isinstance(value, int) or value < 1)
        ]
        if self.dtype not in DTYPES:
            problems.append(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        if problems:
            raise EncoderError("; ".join(problems))

    def local_devices(self) -> list[Any]:
        """The devices that share the work; raises `EncoderError` where there are fewer than asked for."""
        import jax

        available = jax.local_devices()
        count = self.devices or len(available)
        if count > len(available):
            raise EncoderError(f"devices={count}: there are only {len(available)} ({available[0].platform})")
        return available[:count]
