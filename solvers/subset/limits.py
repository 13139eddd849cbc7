"""The limits that a set of models must keep to: a size is a budget of ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.problem import BUDGET_TOLERANCE


@dataclass(frozen=True)
class Limits:
    """At most `budget` of `cost`, all of `required`, none of `banned`; columns of models."""

    cost: Float[np.ndarray, " models"]
    budget: float
    required: list[int]
    banned: list[int]
    cost_matters: bool
    """False for a size, where every model costs 1."""

    def allows(self, spent: float, cost: float) -> bool:
        """Whether a further `cost` is within the budget, tolerance included."""
        return bool(math.fsum([spent, cost]) <= self.budget * (1 + BUDGET_TOLERANCE))


def per_cost(gains: Float[np.ndarray, " models"], cost: Float[np.ndarray, " models"]) -> Int[np.ndarray, " models"]:
    """Models by falling gain per cost; free ones first."""
    with np.errstate(over="ignore"):
        ratio = np.divide(gains, cost, out=np.full_like(gains, np.inf), where=cost > 0)
    return np.argsort(-ratio, kind="stable")


def most_gain(gains: Float[np.ndarray, " models"], cost: Float[np.ndarray, " models"], room: float) -> float:
    """The fractional knapsack: the largest gains per cost, the last one in part."""
    order = per_cost(gains, cost)
    gains, cost = gains[order], cost[order]
    left = room * (1 + 2 * BUDGET_TOLERANCE) - (np.cumsum(cost) - cost)
    share = np.clip(np.divide(left, cost, out=np.ones_like(cost), where=cost > 0), 0.0, 1.0)
    return float(gains @ share)
