"""The limits that a set of models must keep to: a size is a budget of ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

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
