"""TuneConfig: everything that decides training by gradients."""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path

from jaxroute.encoders.networks.lora import LoraConfig
from jaxroute.errors import TableError

MODES = ("frozen", "lora", "full")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work: batches are split over both axes, large weights over `fsdp`."""

    data: int = 1
    """Groups of devices with a whole copy of the weights between them; -1 = as many as there are devices for."""
    fsdp: int = 1
    """Devices that share one copy of the weights."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes work together; `auto` asks the cluster (TPU pods, Slurm)."""
    processes: int | None = None
    """How many processes; not with `auto`."""
    process: int | None = None
    """The number of this one, from 0; not with `auto`."""

    def __post_init__(self) -> None:
        problems = []
        if self.data != -1 and self.data < 1:
            problems.append(f"data={self.data} must be at least 1, or -1 for all devices")
        if self.fsdp < 1:
            problems.append(f"fsdp={self.fsdp} must be at least 1")
        named = self.processes is not None, self.process is not None
        if self.coordinator not in (None, "auto") and not all(named):
            problems.append(f"coordinator={self.coordinator!r} needs processes and process")
        if self.coordinator in (None, "auto") and any(named):
            problems.append(f"processes={self.processes} and process={self.process} need coordinator=HOST:PORT")
        if problems:
            raise TableError("mesh: " + "; ".join(problems))


@dataclass(frozen=True)
class TuneConfig:
    """Gradient training of encoder and head, from the head that was fitted to the frozen encoder."""

    mode: str = "frozen"
    """`frozen`: none of this, the head alone is fitted; `lora`: adapters and head; `full`: all weights and head."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    adapter: Path | None = None
    """A PEFT adapter folder to begin with; its rank, alpha and projections must be those of `lora`."""
    epochs: int = 3
    batch_size: int = 32
    """Queries per update."""
    tokens_per_batch: int = 1024
    """Tokens that pass through the encoder at once; gradients are accumulated over the parts of a batch."""
    encoder_learning_rate: float = 1e-4
    """Largest rate of the adapters, or of the encoder's weights."""
    head_learning_rate: float = 1e-4
    """Largest rate of the head and the model embeddings."""
    warmup: float = 0.1
    """Share of the updates in which both rates rise from 0; then they fall as a cosine, to 0 at the end."""
    weight_decay: float = 0.01
    """AdamW's, on matrices of the encoder; the head keeps the ridge penalties of its fit."""
    clip: float = 1.0
    """Largest norm of an update's gradient."""
    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over the levels."""
    held_out: float = 0.2
    """Share of the queries that choose the best step; 0 = train on all and keep the last."""
    evaluate_every: int = 0
    """Updates between evaluations on the held-out queries; 0 = an epoch."""
    patience: int = 3
    """Stop after so many evaluations without a new best."""
    save_every: int = 0
    """Updates between checkpoints of the run, besides those at evaluations; 0 = none besides."""
    keep: int = 2
    """Latest checkpoints of the run to keep, besides the best."""
    dtype: str = "float32"
    """Of the computation: `float32`, or `bfloat16` where the device has it; what is trained stays in float32."""
    remat: bool = False
    """Compute layers again in the backward pass rather than keep their insides: less memory, a third more time."""
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        problems = []
        if self.mode not in MODES:
            problems.append(f"mode={self.mode!r} must be one of {', '.join(MODES)}")
        if self.dtype not in DTYPES:
            problems.append(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        for name in ("epochs", "batch_size", "tokens_per_batch", "patience", "keep"):
            if getattr(self, name) < 1:
                problems.append(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("evaluate_every", "save_every"):
            if getattr(self, name) < 0:
                problems.append(f"{name}={getattr(self, name)} must be at least 0")
        for name in ("encoder_learning_rate", "head_learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                problems.append(f"{name}={getattr(self, name)} must be finite and at least 0")
        for name in ("warmup", "label_smoothing", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name}={getattr(self, name)} must be in [0, 1)")
        if not self.clip > 0:
            problems.append(f"clip={self.clip} must be positive")
        if self.mode == "frozen":
            given = [one.name for one in fields(self) if one.name != "dtype" and getattr(self, one.name) != _standard(one)]
            problems += [f"{name}={getattr(self, name)} goes with mode='lora' or 'full', not 'frozen'" for name in given]
        elif self.adapter is not None and self.mode != "lora":
            problems.append(f"adapter={str(self.adapter)!r} goes with mode='lora', not {self.mode!r}")
        if problems:
            raise TableError("tune: " + "; ".join(problems))


def _standard(one: Field) -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()
