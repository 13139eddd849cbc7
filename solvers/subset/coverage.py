"""What a growing set of models answers between them: in packed bits for right or wrong, else in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt64

from solvers.subset.bits import are_right_or_wrong, packed_by_model

Quality = Bool[np.ndarray, "queries models"] | Integer[np.ndarray, "queries models"] | Float[np.ndarray, "queries models"]
CHUNK_BYTES = 2**23
"""Memory for the bits that are counted at once."""


def coverage_of(quality: Quality) -> Coverage:
    """Bits where every quality is 0, 1 or NaN, else numbers; NaN (never run) counts as 0."""
    right_or_wrong = quality.dtype == bool or are_right_or_wrong(quality)
    return BitCoverage(quality) if right_or_wrong else GradedCoverage(quality)


@runtime_checkable
class Coverage(Protocol):
    """A set of models that starts empty and grows; `covered` is the sum over the queries of the best quality in it."""

    queries: int
    models: int
    covered: float

    def reset(self) -> None:
        """Start with the empty set."""
        ...

    def take(self, model: int) -> None:
        """Add a model to the set."""
        ...

    def gains(self, models: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """What every one of them would add to `covered`."""
        ...

    def value(self, models: Sequence[int]) -> float:
        """The mean over the queries of the best quality in a set."""
        ...


class BitCoverage:
    """One bit per query and model; a gain is a count of bits."""

    def __init__(self, quality: Quality):
        self.queries, self.models = quality.shape
        self.words: UInt64[np.ndarray, "models words"] = packed_by_model(quality)
        self.reset()

    def reset(self) -> None:
        self.open = ~np.zeros(self.words.shape[1], np.uint64)
        self.covered = 0.0

    def take(self, model: int) -> None:
        self.covered += float(self.gains(np.array([model]))[0])
        self.open &= ~self.words[model]

    def gains(self, models: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        found = np.empty(len(models))
        step = max(1, CHUNK_BYTES // self.words[0].nbytes)
        for start in range(0, len(models), step):
            words = self.words[models[start : start + step]]
            words &= self.open
            found[start : start + step] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
        return found

    def value(self, models: Sequence[int]) -> float:
        if not len(models):
            return 0.0
        answered = np.bitwise_or.reduce(self.words[list(models)], axis=0)
        return float(np.bitwise_count(answered).sum(dtype=np.int64) / self.queries)


class GradedCoverage:
    """Qualities model by model, so that a gain is one pass over neighbouring numbers."""

    def __init__(self, quality: Quality):
        self.queries, self.models = quality.shape
        self.quality = np.nan_to_num(np.ascontiguousarray(quality.T, np.float64))
        self.reset()

    def reset(self) -> None:
        self.best = np.zeros(self.queries)
        self.covered = 0.0

    def take(self, model: int) -> None:
        self.best = np.maximum(self.best, self.quality[model])
        self.covered = float(self.best.sum())

    def gains(self, models: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        # One model at a time: a few thousand numbers stay in the cache, and the sum does not depend on its neighbours.
        more = np.empty(self.queries)
        found = np.empty(len(models))
        for place, model in enumerate(models):
            np.subtract(self.quality[model], self.best, out=more)
            np.maximum(more, 0.0, out=more)
            found[place] = more.sum()
        return found

    def value(self, models: Sequence[int]) -> float:
        return float(self.quality[list(models)].max(axis=0, initial=0.0).sum() / self.queries)
