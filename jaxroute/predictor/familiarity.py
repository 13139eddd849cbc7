"""Familiarity: how like the training prompts a prompt is, as a p-value that any estimator with features carries.

    d(x) = mean squared distance to the 10 nearest reference prompts, in 150 principal directions
    p(x) = (1 + #{calibration: d >= d(x)}) / (n + 1)

Training prompts are split at random: reference prompts give the directions and are what is near, n calibration prompts say
which distances are usual. So p is exact: of prompts drawn like the training prompts at most a share a has p <= a, whatever the
encoder (inductive conformal prediction: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", section 4.1).
An encoder that was itself trained on these prompts may find them nearer than new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from jaxroute.data.estimates import Estimates

DIRECTIONS = 150
NEIGHBOURS = 10
MOST_REFERENCE = 2_000
"""Prompts that are kept."""
MOST_CALIBRATION = 4_000
"""Prompts whose distances are kept."""
LEAST_PROMPTS = 40
"""Distinct training prompts below which nothing is said."""
PREFIX = "familiarity"
ROWS = 1_024
"""Prompts whose distances are computed together."""


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What `learn_familiarity` keeps of the training prompts."""

    centre: Float[np.ndarray, " features"]
    directions: Float[np.ndarray, "features directions"]
    """Principal directions of the standardised features, divided by the features' standard deviations."""
    reference: Float[np.ndarray, "prompts directions"]
    distances: Float[np.ndarray, " calibration"]
    """Of the calibration prompts, rising."""
    mean_quality: Float[np.ndarray, " models"]
    """Every model's mean estimate over the training prompts: what is expected of it on a prompt of which nothing is known. NaN
    for a model of which that is not known."""

    @property
    def least_p_value(self) -> float:
        """No prompt has a smaller one."""
        return 1 / (len(self.distances) + 1)

    def p_values(self, features: Float[np.ndarray, "queries features"]) -> Float[np.ndarray, " queries"]:
        """In (0, 1]; small where a prompt is unlike all training prompts."""
        distance = self.distance(features)
        as_far = len(self.distances) - np.searchsorted(self.distances, distance, side="left")
        return (1 + as_far) / (len(self.distances) + 1)

    def said_of(self, estimates: Estimates, features: Float[np.ndarray, "queries features"]) -> Estimates:
        """The estimates with the p-values of these features, and the models' means over the training prompts."""
        # A model that was added later, as the last, has no mean unless it was given one.
        means = np.full(len(estimates.models), np.nan)
        means[: len(self.mean_quality)] = self.mean_quality[: len(means)]
        return replace(estimates, p_value=self.p_values(features), mean_quality=means)

    def with_mean_quality(self, mean_quality: Sequence[float] | Float[np.ndarray, " models"]) -> Familiarity:
        """The same prompts, for an estimator of other models, or with other means."""
        return replace(self, mean_quality=np.asarray(mean_quality, np.float64))

    def with_reference(self, features: Float[np.ndarray, "prompts features"]) -> Familiarity:
        """Prompts like these are known too, once they are about as many as the nearest that count.

        Those like the training prompts are flagged no more often than before.
        """
        further = _projected(features, self.centre, self.directions)
        return replace(self, reference=np.concatenate([self.reference, further]))

    def arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint: about 1.5 MB with 2,000 prompts."""
        return {f"{PREFIX}/{name}": getattr(self, name) for name in ARRAYS}

    def distance(self, features: Float[np.ndarray, "queries features"]) -> Float[np.ndarray, " queries"]:
        """Mean squared distance to the nearest reference prompts, in single precision, as `distances` are."""
        found = np.empty(len(features), np.float32)
        for start in range(0, len(features), ROWS):
            rows = slice(start, start + ROWS)
            found[rows] = _mean_distance(
                self.reference, self._squares, _projected(features[rows], self.centre, self.directions)
            )
        return found

    @cached_property
    def _squares(self) -> Float[np.ndarray, " prompts"]:
        return (self.reference**2).sum(axis=1)


ARRAYS = ("centre", "directions", "reference", "distances", "mean_quality")


def learn_familiarity(
    features: Float[np.ndarray, "prompts features"], quality: Float[np.ndarray, "prompts models"], *, seed: int = 0
) -> Familiarity | None:
    """From the features of distinct training prompts and what the estimator expects on them; None where they are too few.

    Of more than 6,000 prompts, so many are drawn at random.
    """
    if len(features) < LEAST_PROMPTS:
        return None
    order = np.random.default_rng(seed).permutation(len(features))
    first = min(len(features) // 2, MOST_REFERENCE)
    near, usual = order[:first], order[first : first + MOST_CALIBRATION]
    values = np.asarray(features[near], np.float64)
    centre, spread = values.mean(axis=0), values.std(axis=0)
    # A feature that never varies says nothing by itself; its scale keeps it from being infinitely far for a new prompt.
    floor = 1e-3 * np.sqrt((spread**2).mean()) if spread.any() else 1.0
    directions = _principal((values - centre) / np.maximum(spread, floor)) / np.maximum(spread, floor)[:, None]
    centre, directions = centre.astype(np.float32), directions.astype(np.float32)
    reference = _projected(features[near], centre, directions)
    squares = (reference**2).sum(axis=1)
    distances = [
        _mean_distance(reference, squares, _projected(features[usual[start : start + ROWS]], centre, directions))
        for start in range(0, len(usual), ROWS)
    ]
    used = np.concatenate([near, usual])
    return Familiarity(centre, directions, reference, np.sort(np.concatenate(distances)), quality[used].mean(axis=0))


def sampled(prompts: list[str], most: int = MOST_REFERENCE + MOST_CALIBRATION, *, seed: int = 0) -> list[str]:
    """Distinct prompts to learn from, at most so many; none where they are too few."""
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) > most:
        rows = np.random.default_rng(seed).choice(len(distinct), most, replace=False)
        distinct = [distinct[row] for row in rows]
    return distinct if len(distinct) >= LEAST_PROMPTS else []


def restored_familiarity(arrays: Mapping[str, np.ndarray]) -> Familiarity | None:
    """Of a checkpoint's arrays; None where it holds none, as those of earlier versions."""
    names = [f"{PREFIX}/{name}" for name in ARRAYS]
    return Familiarity(*(arrays[name] for name in names)) if all(name in arrays for name in names) else None


def _principal(values: Float[np.ndarray, "prompts features"]) -> Float[np.ndarray, "features directions"]:
    """The directions of the largest variances, from the smaller of the two products."""
    from scipy.linalg import eigh

    prompts, width = values.shape
    most = min(prompts - 1, width)
    product = values.T @ values if width <= prompts else values @ values.T
    count = min(DIRECTIONS, most)
    size = len(product)
    variances, vectors = eigh(product, subset_by_index=(size - count, size - 1))
    kept = variances > 1e-9 * max(variances[-1], 1e-300)
    vectors = vectors[:, kept]
    return vectors if width <= prompts else values.T @ vectors / np.sqrt(variances[kept])


def _projected(values: np.ndarray, centre: np.ndarray, directions: np.ndarray) -> Float[np.ndarray, "queries directions"]:
    return (np.asarray(values, np.float32) - centre) @ directions


def _mean_distance(reference: np.ndarray, squares: np.ndarray, asked: np.ndarray) -> Float[np.ndarray, " queries"]:
    distance = squares - 2 * (asked @ reference.T) + (asked**2).sum(axis=1, keepdims=True)
    nearest = min(NEIGHBOURS, len(reference))
    return np.maximum(np.partition(distance, nearest - 1, axis=1)[:, :nearest], 0).mean(axis=1)
