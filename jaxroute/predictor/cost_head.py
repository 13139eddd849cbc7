"""CostHead: expected lengths, or costs, of every model's answer to a prompt; `costs.py` fits it.

amount_jm = exp(w_m . (features_j, log(1 + prompt tokens_j)) + b_m) - offset_m,  within what training saw
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class CostHead:
    """Expected amounts, tokens or dollars, of every model's answer to a prompt; arrays in float64."""

    mean: Float[np.ndarray, " inputs"]
    """Of the training queries' features, then of log(1 + prompt tokens)."""
    scale: Float[np.ndarray, " inputs"]
    weight: Float[np.ndarray, "inputs models"]
    """All 0 for a model that keeps its mean."""
    intercept: Float[np.ndarray, " models"]
    """With the logarithm of the smearing factor."""
    offset: Float[np.ndarray, " models"]
    """What is added to an amount before its logarithm is taken."""
    low: Float[np.ndarray, " models"]
    high: Float[np.ndarray, " models"]
    """The amounts seen in training; no estimate lies outside."""

    @property
    def learned(self) -> Bool[np.ndarray, " models"]:
        """The models that do not keep their mean."""
        return (self.weight != 0).any(axis=0)

    def expected(
        self, features: Float[np.ndarray, "queries features"], prompt_tokens: Int[np.ndarray, " queries"]
    ) -> Float[np.ndarray, "queries models"]:
        """The expected amount of every model's answer to every prompt."""
        inputs = (inputs_of(features, prompt_tokens) - self.mean) / self.scale
        bounds = np.log(self.offset + self.low), np.log(self.offset + self.high)
        # Clipped as logarithms: the exponential of a prompt unlike all others would overflow.
        # One product per model: of a product over all, sums round differently with another number of models.
        products = np.stack([inputs @ column for column in self.weight.T.copy()], axis=1)
        amount = np.exp(np.clip(products + self.intercept, *bounds)) - self.offset
        return np.clip(amount, self.low, self.high)

    def select(self, columns: Sequence[int]) -> CostHead:
        """The same for some of the models, in the given order."""
        per_model = {name: getattr(self, name)[..., list(columns)] for name in PER_MODEL}
        return CostHead(mean=self.mean, scale=self.scale, **per_model)

    @property
    def digest(self) -> str:
        """SHA-256 over every number."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            digest.update(f"{name} {getattr(self, name).shape}".encode())
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    @staticmethod
    def load(path: Path, *, features: int, models: int) -> CostHead:
        """What earlier versions wrote. Raises `ValueError` where it does not fit so many features and models."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name], np.float64) for name in ARRAYS}
        for name, array in arrays.items():
            shape = {"weight": (features + 1, models)}.get(name, (models if name in PER_MODEL else features + 1,))
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}, all finite")
        return CostHead(**arrays)


ARRAYS = tuple(one.name for one in fields(CostHead))
PER_MODEL = ("weight", "intercept", "offset", "low", "high")


def inputs_of(
    features: Float[np.ndarray, "queries features"], prompt_tokens: Int[np.ndarray, " queries"]
) -> Float[np.ndarray, "queries inputs"]:
    """The features, then log(1 + prompt tokens)."""
    return np.column_stack([np.asarray(features, np.float64), np.log1p(np.asarray(prompt_tokens, np.float64))])
