"""How far a model's own outcomes are to be believed, and how far the pool of all models: rarely run models lean on the pool.

    level of model m ~ pool +- spread,      mean of its n_m outcomes ~ level +- noise / sqrt(n_m)
    estimate = pool + reliability_m (own - pool),      reliability_m = spread^2 / (spread^2 + noise^2 / n_m)

Empirical Bayes, with `spread` by the method of moments (DerSimonian & Laird 1986, "Meta-analysis in clinical trials"). A model
with thousands of outcomes keeps its own mean to a percent of its distance from the pool; one with a single outcome, right
or wrong, is estimated near the pool.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.errors import FewOutcomes, listed

LEAST_SPREAD = 0.1
"""Models that look alike by a handful of outcomes, or two that are alike, may still differ by that much."""
LARGEST_VARIANCE = 0.25
"""Of an outcome in [0, 1]."""


@dataclass(frozen=True)
class PoolLevels:
    """What the outcomes of all models say about a model of which nothing else is known, in units of quality."""

    count: Int[np.ndarray, " models"]
    """Outcomes of each model."""
    mean: float
    spread: float
    """Standard deviation of the models' levels around `mean`."""
    noise: float
    """Standard deviation of one outcome around its model's level."""

    @property
    def reliability(self) -> Float[np.ndarray, " models"]:
        """From 0 (only the pool says something about the model) to 1 (only its own outcomes do)."""
        return self.spread**2 / (self.spread**2 + self.noise**2 / np.maximum(self.count, 1e-9))


def pool_levels(quality: Float[np.ndarray, "queries models"]) -> PoolLevels:
    """Estimated from a table of outcomes in [0, 1], NaN where a model was not run."""
    run = ~np.isnan(quality)
    count = run.sum(axis=0)
    means = np.where(run, quality, 0.0).sum(axis=0) / np.maximum(count, 1)
    within = (np.where(run, quality - means, 0.0) ** 2).sum()
    # One more outcome of the largest variance: a few equal outcomes do not say that there is no noise.
    noise = (within + LARGEST_VARIANCE) / (max(count.sum() - np.count_nonzero(count), 0) + 1)
    weight = count / noise
    centre = (weight * means).sum() / max(weight.sum(), 1e-300)
    excess = (weight * (means - centre) ** 2).sum() - (np.count_nonzero(count) - 1)
    scale = weight.sum() - (weight**2).sum() / max(weight.sum(), 1e-300)
    spread = max(excess / scale if scale > 0 else 0.0, LEAST_SPREAD**2)
    weight = 1.0 / (spread + noise / np.maximum(count, 1e-9))
    return PoolLevels(count, float((weight * means).sum() / weight.sum()), float(np.sqrt(spread)), float(np.sqrt(noise)))


def relative_reliability(quality: Float[np.ndarray, "queries models"]) -> Float[np.ndarray, " models"]:
    """The models' reliability as a share of the best-known one's: 1 for all where all were run equally often, so that a
    published method keeps its numbers on a complete table."""
    reliability = pool_levels(quality).reliability
    return reliability / reliability.max()


def shrunk_means(quality: Float[np.ndarray, "queries models"]) -> Float[np.ndarray, " models"]:
    """Each model's mean quality, shrunk to the pool's by its relative reliability."""
    count = np.maximum((~np.isnan(quality)).sum(axis=0), 1)
    return towards_pool((np.nansum(quality, axis=0) / count)[None], relative_reliability(quality))[0]


def towards_pool(
    values: Float[np.ndarray, "queries models"], reliability: Float[np.ndarray, " models"]
) -> Float[np.ndarray, "queries models"]:
    """Estimates of models of which little is known, shrunk to what the pool of all models gives for the same query."""
    pool = values @ (reliability / reliability.sum())
    return np.where(reliability == 1.0, values, pool[:, None] + reliability * (values - pool[:, None]))


def leaning(
    values: Float[np.ndarray, "queries models"], state: Mapping[str, np.ndarray]
) -> Float[np.ndarray, "queries models"]:
    """`towards_pool` by the `reliability` in a router's state; routers saved by earlier versions have none."""
    return towards_pool(values, state["reliability"]) if "reliability" in state else values


def warn_of_few(
    models: Sequence[str],
    quality: Float[np.ndarray, "queries models"],
    reliability: Float[np.ndarray, " models"] | None = None,
) -> None:
    """Warn (`FewOutcomes`) of models of which the pool says more than their own outcomes do.

    `reliability` is how far a router takes each model's own outcomes; where it is 1, and without it, it takes nothing else.
    """
    levels = pool_levels(quality)
    few = np.flatnonzero(levels.reliability < 0.5).tolist()
    if not few or len(models) == 1:
        return
    leans = [models[column] for column in few if reliability is not None and reliability[column] < 1]
    if len(leans) == len(few):
        said = "the estimates of these models lean on those of the others"
    elif leans:
        said = f"the estimates of {listed(leans)} lean on those of the others, the rest on their own outcomes alone"
    else:
        said = "the estimates of these models rest on their own outcomes alone"
    named = listed([f"{models[column]} ({levels.count[column]})" for column in few])
    warnings.warn(f"few outcomes: {named}; {said}", FewOutcomes, stacklevel=3)
