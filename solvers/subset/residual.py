"""What is left of a pool once the models that are certain have been taken: what every other one adds to them, per query.

Required models are certain, and so are free ones where serving costs money. Queries that nobody adds anything to are left out,
and queries for which every model adds the same are counted together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from solvers.subset.coverage import Quality
from solvers.subset.limits import Limits


@dataclass(frozen=True, eq=False)
class Residual:
    """Models that may be added, and what they add."""

    certain: list[int]
    """Columns of the pool."""
    covered: float
    """The sum over the queries of the best quality among these."""
    models: Int[np.ndarray, " open"]
    """Columns of the pool."""
    gains: Float[np.ndarray, "open rows"]
    """What every model adds to what is covered, of a row's queries together; a model's gains lie side by side."""
    cost: Float[np.ndarray, " open"]
    room: float
    """The most that the costs of the added ones may sum to."""
    step: float
    """All gains are whole numbers of this; 0 where they are not."""

    def value(self, chosen: list[int]) -> float:
        """What these of the open models, by position, add together."""
        return float(self.gains[chosen].max(axis=0, initial=0.0).sum())


def residual_of(quality: Quality, limits: Limits) -> Residual:
    """The residual of a pool within the limits."""
    certain = list(limits.required)
    open_models = np.ones(quality.shape[1], bool)
    open_models[[*limits.required, *limits.banned]] = False
    if limits.cost_matters:
        certain += np.flatnonzero(open_models & (limits.cost == 0)).tolist()
    room = limits.budget - math.fsum(limits.cost[certain])
    open_models[certain] = False
    open_models &= np.array([limits.allows(limits.budget - room, cost) for cost in limits.cost.tolist()], bool)
    cells = np.nan_to_num(quality.astype(np.float64))
    best = cells[:, certain].max(axis=1, initial=0.0)
    gains = np.maximum(cells[:, open_models] - best[:, None], 0.0)
    rows, counts = np.unique(gains[gains.any(axis=1)], axis=0, return_counts=True)
    gains = np.ascontiguousarray((rows * counts[:, None]).T)
    adding = gains.any(axis=1)
    models = np.flatnonzero(open_models)[adding]
    step = float(rows.max(initial=0.0))
    # Right or wrong: every gain is nothing, or one step.
    step = step if ((rows == 0) | (rows == step)).all() else 0.0
    return Residual(certain, float(best.sum()), models, gains[adding], limits.cost[models], room, step)
