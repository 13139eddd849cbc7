"""Which batch is answered, by whom, within which budget, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from jaxroute.errors import OutputError
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW
from jaxroute.routing.request import CAPACITY

STATE = ".db"
SOLVERS = ("auto", "lagrangian", "exact")
"""The greedy one buys the most quality per dollar and leaves most of a budget unused."""


@dataclass(frozen=True)
class RunOptions:
    """How a batch is answered."""

    format: Literal["jsonl", "openai-batch"] = "jsonl"
    """Of the output: the fields of each row and its answer, or OpenAI's batch output for a batch file as input."""
    only: tuple[str, ...] | None = None
    """Only these models; default: all that both the checkpoint and models.yaml know."""
    output_tokens: int | None = None
    """The longest answer, where a row sets no limit; default: each model's in models.yaml. It decides what a call can cost at
    most."""
    capacity: Annotated[Mapping[str, int] | None, CAPACITY] = None
    """MODEL=COUNT for every model that takes only so many prompts; others take all."""
    solver: Literal["auto", "lagrangian", "exact"] = "lagrangian"
    """How the prompts that are left are assigned, each time; exact searches for at most a second, then takes the best."""
    concurrent_calls: int = 64
    """The most calls under way at once, of all models together."""
    deadline_seconds: float = 900.0
    """For one prompt, over all tries and models, from its first call on."""
    guarantee: bool = False
    """Keep the cheapest worst case of every prompt still to come, so that none stays unanswered for want of money. Uses less of
    a small budget."""
    promise: bool = False
    """Ask for every prompt the model that the checkpoint's promise says, which `jaxroute guarantee` has made; the budget still
    holds. A prompt whose model fails, or for which the budget does not reach, stays unanswered and is counted."""
    again: bool = False
    """Ask models once more that failed on a prompt in the run that is resumed."""
    unknown_below: float = UNKNOWN_BELOW
    """A prompt unlike all training prompts goes to the model that is best on the whole at the price: one whose p-value is under
    this, which holds for at most this share of prompts like the training prompts. 0: none does."""
    seed: int = 0
    """Of the order of the calls."""

    def __post_init__(self) -> None:
        problems = []
        if self.output_tokens is not None and self.output_tokens < 1:
            problems.append(f"output_tokens={self.output_tokens} must be at least 1")
        if self.concurrent_calls < 1:
            problems.append(f"concurrent_calls={self.concurrent_calls} must be at least 1")
        if not self.deadline_seconds > 0:
            problems.append(f"deadline_seconds={self.deadline_seconds} must be above 0")
        if self.seed < 0:
            problems.append(f"seed={self.seed} must be at least 0")
        if self.promise and (self.only is not None or self.capacity):
            problems.append("promise leaves no choice of models: leave only and capacity out")
        if not 0 <= self.unknown_below < 1:
            problems.append(f"unknown_below={self.unknown_below} must be from 0 (off) to below 1")
        if self.solver not in SOLVERS:
            problems.append(f"solver={self.solver!r} must be one of {', '.join(SOLVERS)}")
        if problems:
            raise OutputError("; ".join(problems))


@dataclass(frozen=True)
class RunConfig:
    """Which batch is answered by whom, within which budget."""

    checkpoint: Path
    """Folder of an estimator."""
    prompts: Path
    """A file that `read_prompts` reads."""
    models: Path
    """models.yaml."""
    budget_usd: float
    """Dollars for all calls together, failed ones too. Never exceeded."""
    output: Path
    """One line per prompt; the state lies beside it."""
    options: RunOptions = field(default_factory=RunOptions)
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.budget_usd) and self.budget_usd >= 0):
            raise OutputError(f"budget_usd={self.budget_usd} must be a number of dollars")

    @property
    def state(self) -> Path:
        """Where answers and dollars are kept."""
        return self.output.with_name(self.output.name + STATE)
