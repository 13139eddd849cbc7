"""What a run of gradient training begins with and what it leaves: heads, weights, and the report of how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.table import RoutingTable
from jaxroute.encoders.weights.trained import Trained
from jaxroute.predictor.heads import Head


@dataclass(frozen=True)
class FittedHead:
    """A head fitted to the frozen encoder, and the ridge penalties that it chose (infinite = no correction)."""

    head: Head
    penalty: float
    penalties: Float[np.ndarray, " models"]
    report: str
    """How it went, for people."""


Fit = Callable[[RoutingTable, Float[np.ndarray, "queries features"] | None], FittedHead]
"""Finds the head for the frozen encoder's features of a table's prompts, which it makes itself where none are given."""


@dataclass(frozen=True)
class TuningReport:
    """How the run went; losses are log-losses in nats per observed held-out cell, NaN without held-out queries."""

    fit: str
    """How the head was found that the run began with."""
    updates: int
    best_step: int
    first_loss: float
    """Of the frozen encoder with the fitted head."""
    held_out_loss: float
    """Of the best step."""
    held_out: Int[np.ndarray, " rows"]
    held_out_estimates: Float[np.ndarray, "rows models"]
    """As the trained predictor gives them."""
    cut: int
    """Prompts that were longer than the encoder reads."""

    def __str__(self) -> str:
        cut = f"{self.cut} prompts were longer than the encoder reads and were cut\n" if self.cut else ""
        if not len(self.held_out):
            return f"{cut}{self.fit}\n{self.updates} updates on all queries"
        return (
            f"{cut}{self.fit}\nheld-out log-loss {self.first_loss:.4f} with the frozen encoder, {self.held_out_loss:.4f} after "
            f"update {self.best_step} of {self.updates} ({len(self.held_out)} queries held out)"
        )


@dataclass(frozen=True)
class Tuned:
    """A trained encoder, its head, and how they came about."""

    trained: Trained
    head: Head
    report: TuningReport
