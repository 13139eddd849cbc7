"""What a pool of models says of its training questions beyond their text: kept, so that a new model needs few answers.

    s_j = h_j W + mean over the models of the domain's effect       what all logits have in common, held out
    u_j = sum over the models of (outcome - held-out estimate) / (outcomes + 1)

A question whose u_j is low is harder than its text says. The texts themselves are not kept: a question is known by the number
that `RoutingTable.prompt_numbers` gives it. How outcomes follow s and u is measured on the pool's own models, each with the u
of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, UInt64

from jaxroute.data.table import RoutingTable
from jaxroute.predictor.heads import level_targets
from jaxroute.predictor.softmax import centred_places, fit_directions

LEAST_SPREAD = 0.1
"""Of the slopes between models, as a share of their mean: a few models that agree do not say that the next one will."""
FEW = 3
"""Fewer models say nothing of how models differ."""
MOST_OUTCOMES = 2000
"""Of a model; more tell nothing new of two slopes."""


@dataclass(frozen=True, eq=False)
class PoolQuestions:
    """The training questions, each once, in the order of their numbers; arrays in float64."""

    numbers: UInt64[np.ndarray, " questions"]
    shared: Float[np.ndarray, "questions levels"]
    """s, held out."""
    residual: Float[np.ndarray, " questions"]
    """u."""
    slopes: Float[np.ndarray, " 5"]
    """Of s where u is not known; of s and its spread over the models, of u and its spread, where it is."""

    @staticmethod
    def of(
        table: RoutingTable, shared: Float[np.ndarray, "queries levels"], estimates: Float[np.ndarray, "queries models"]
    ) -> PoolQuestions | None:
        """From held-out logits and estimates; None where the pool has too few models to measure slopes."""
        if len(table.models) < FEW:
            return None
        error = np.nan_to_num(table.quality - estimates)
        count = (~np.isnan(table.quality)).sum(axis=1)
        numbers, first = np.unique(table.prompt_numbers, return_index=True)
        slopes = _slopes(table.quality, shared, error, count)
        return PoolQuestions(numbers, shared[first], (error.sum(axis=1) / (count + 1))[first], slopes)

    @property
    def attenuation(self) -> float:
        """How much smaller logits are where u is not known."""
        return float(self.slopes[0] / self.slopes[1])

    def rows(self, numbers: UInt64[np.ndarray, " queries"]) -> tuple[np.ndarray, np.ndarray]:
        """The row of each question, and whether it is known at all."""
        row = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return row, self.numbers[row] == numbers

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """All numbers by name, for a checkpoint."""
        return {f"{prefix}/{one.name}": getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def restored(arrays: Mapping[str, np.ndarray], prefix: str) -> PoolQuestions | None:
        """What `arrays` named; None in checkpoints of earlier versions."""
        names = [one.name for one in fields(PoolQuestions)]
        if not all(f"{prefix}/{name}" in arrays for name in names):
            return None
        return PoolQuestions(**{name: arrays[f"{prefix}/{name}"] for name in names})


def _slopes(quality: np.ndarray, shared: np.ndarray, error: np.ndarray, count: np.ndarray) -> Float[np.ndarray, " 5"]:
    """Each model's slopes of s alone, and of s and the others' u together; their means, and the spreads of the latter."""
    levels = shared.shape[1]
    target, places = level_targets(quality, levels).astype(np.float64), centred_places(levels)
    alone, both = [], []
    for column in range(quality.shape[1]):
        rows = np.flatnonzero(~np.isnan(quality[:, column]))[:MOST_OUTCOMES]
        if len(rows) < 2 * FEW:
            continue
        others = (error[rows].sum(axis=1) - error[rows, column]) / count[rows]
        level = np.broadcast_to(np.eye(levels)[:, 1:], (len(rows), levels, levels - 1))
        directions = [shared[rows, :, None], others[:, None, None] * places[:, None]]
        # Weak: it keeps a model that was always right finite.
        ridge, start = np.array([1.0, 0.04, *[0.01] * (levels - 1)]), np.array([1.0, 0.0, *[0.0] * (levels - 1)])
        alone.append(fit_directions(target[rows, column], np.concatenate([directions[0], level], axis=2), np.delete(ridge, 1),
                                    np.delete(start, 1))[0])  # fmt: skip
        both.append(fit_directions(target[rows, column], np.concatenate([*directions, level], axis=2), ridge, start)[:2])
    if len(both) < FEW:
        return np.array([1.0, 1.0, 0.25, 0.0, 0.0])
    mean, spread = np.mean(both, axis=0), np.std(both, axis=0, ddof=1)
    spread = np.maximum(spread, LEAST_SPREAD * np.abs(mean))
    # What is known of a question cannot make its outcomes less certain.
    slope = float(np.clip(np.mean(alone), 0.25, 4.0))
    return np.array([slope, max(mean[0], slope), spread[0], max(mean[1], 0.0), spread[1]])
