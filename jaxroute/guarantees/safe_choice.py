"""The safe choice: a prompt unlike all training prompts goes to the model that is best on the whole, at the price in force.

What an estimator says of such a prompt is extrapolation. In its place, every model is expected to do as well as on the training
prompts on average, so that at a price lambda the choice is argmax_m mean quality_m - lambda cost_m, within the same budget,
capacities and masks as every other prompt's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from jaxroute.data.estimates import Estimates
from jaxroute.errors import TableError

UNKNOWN_BELOW = 0.01
"""The p-value under which a prompt counts as unknown, unless another is asked for."""


def unknown(estimates: Estimates, below: float = UNKNOWN_BELOW) -> Bool[np.ndarray, " queries"]:
    """Which prompts are unlike the training prompts: their p-value is under `below`; none where nothing is known of that."""
    if estimates.p_value is None:
        return np.zeros(len(estimates.quality), bool)
    return estimates.p_value < below


def with_safe_choice(estimates: Estimates, below: float = UNKNOWN_BELOW) -> tuple[Estimates, int]:
    """The estimates with every model's mean on the rows of unknown prompts, and how many these are.

    `below` = 0 leaves all as they are, and so do estimates without p-values. A model whose mean is not known counts as 0,
    the worst that there is: nothing speaks for it but its cost.
    """
    check_unknown_below(below)
    rows = unknown(estimates, below)
    if not rows.any() or estimates.mean_quality is None:
        return estimates, 0
    means = estimates.mean_quality
    if np.isnan(means).all():
        return estimates, 0
    quality = estimates.quality.copy()
    quality[rows] = np.nan_to_num(means)
    return replace(estimates, quality=quality), int(rows.sum())


def check_unknown_below(below: float) -> None:
    """Raises `TableError` for what is no share of prompts."""
    if not 0 <= below < 1:
        raise TableError(f"unknown_below={below} must be from 0 (off) to below 1")


def unknown_words(count: int, prompts: int, below: float) -> str:
    """For people: how many prompts took the safe choice; empty where none did."""
    if not count:
        return ""
    share = 100 * count / prompts
    return (
        f"{count:,} of {prompts:,} prompts ({share:.2g} percent) are unlike the training prompts (p < {below:g}): each goes to "
        "the model that is best on the whole at the price"
    )
