"""Estimates that need no learning: the oracle, the length of the prompt, chance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxroute.data.table import RoutingTable


def oracle_estimates(table: RoutingTable) -> Float[np.ndarray, "queries models"]:
    """The true quality as if it were known: assigned within budgets, no router can do better."""
    return table.quality


def prompt_length_estimates(table: RoutingTable, train: RoutingTable) -> Float[np.ndarray, "queries models"]:
    """Longer prompts to better models: each model's mean quality on `train`, spread by the rank of the prompt's length.

    The simplest router that reads a prompt. Estimates are mean + (mean - least mean) * (rank - 1/2): where budgets allow,
    the longest prompts are upgraded first.
    """
    mean = np.nanmean(train.quality, axis=0)
    rank = np.argsort(np.argsort([len(prompt) for prompt in table.prompts], kind="stable")) / len(table)
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)


def random_estimates(table: RoutingTable, train: RoutingTable, *, seed: int) -> Float[np.ndarray, "queries models"]:
    """The same with random numbers in place of the ranks: budgets are met by chance."""
    mean = np.nanmean(train.quality, axis=0)
    rank = np.random.default_rng(seed).permutation(len(table)) / len(table)
    return mean + (mean - mean.min()) * (rank[:, None] - 0.5)
