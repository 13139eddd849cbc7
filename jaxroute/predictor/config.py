"""TrainConfig: everything that decides a trained predictor, besides the table."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxroute.encoders.features import FeatureConfig
from jaxroute.errors import TableError
from jaxroute.predictor.costs import CostConfig
from jaxroute.predictor.tuning import TuneConfig

HEADS = ("difference", "interaction")
MOST_LEVELS = 100


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a trained predictor, besides the table."""

    encoder: str = "smollm2"
    """`smollm2` or `minilm` (packaged), the path of a .gguf file, or a Hugging Face folder."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    head: str = "interaction"
    """`difference` as published, or `interaction`: with a correction per model where it helps."""
    levels: int = 2
    """Quality levels K; 2 = right or wrong."""
    folds: int = 5
    """Parts for choosing the penalties: each is held out once."""
    seed: int = 0
    """Decides the folds; the fits themselves are convex."""
    penalties: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    """Ridge penalties of what all models share to try, from strong to weak; the path ends when the held-out loss has risen
    twice."""
    corrections: tuple[float, ...] = (0.15, 0.2, 0.3, 0.45, 0.6, 0.9, 1.25)
    """How far a model's correction may move a logit, to try: standard deviations of its prior, whatever the number of
    outcomes. No correction is always tried."""
    clear: float = 0.0
    """A model's correction is kept if it lowers its held-out log-loss by more than this many standard errors."""
    domains: bool = True
    """Whether the interaction head gets an effect for every model and domain of the table, where they lower the held-out
    log-loss."""
    tune: TuneConfig = field(default_factory=TuneConfig)
    """Training of the encoder itself, after the head's fit."""
    costs: CostConfig = field(default_factory=CostConfig)
    """What is learnt of the lengths, or the costs, of answers."""

    def __post_init__(self) -> None:
        for name in ("penalties", "corrections"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        problems = []
        if self.head not in HEADS:
            problems.append(f"head={self.head!r} must be one of {', '.join(HEADS)}")
        if not 2 <= self.levels <= MOST_LEVELS or self.levels != int(self.levels):
            problems.append(f"levels={self.levels} must be a whole number from 2 to {MOST_LEVELS}")
        if self.folds < 2:
            problems.append(f"folds={self.folds} must be at least 2")
        if not self.penalties or not all(0 < penalty < math.inf for penalty in self.penalties):
            problems.append(f"penalties={self.penalties} must be at least one number, all positive and finite")
        if not all(0 < spread < math.inf for spread in self.corrections):
            problems.append(f"corrections={self.corrections} must be positive and finite")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if not self.clear >= 0:
            problems.append(f"clear={self.clear} must be at least 0")
        if problems:
            raise TableError("; ".join(problems))


def described(config: TrainConfig) -> dict[str, Any]:
    """What decides the parameters, as JSON; devices, the keeping of checkpoints and costs, learnt afterwards, do not."""
    fields = json.loads(json.dumps(asdict(config), default=str))
    del fields["costs"]
    for name in ("mesh", "keep", "save_every"):
        del fields["tune"][name]
    return fields
