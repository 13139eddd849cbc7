"""Simulated outcomes whose truth is known, as a plan meets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxroute.collect.plans.base import Collected
from jaxroute.data.table import Queries


@dataclass
class SimulatedCells:
    """Every cell of a pool in which the last model costs most and is best, the more so the harder a query is."""

    queries: int = 300
    models: int = 3
    strength: float = 2.0
    """How far the features move a logit; 0: they say nothing."""
    seed: int = 0

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        self.features = generator.standard_normal((self.queries, 6))
        hard = self.strength * self.features[:, :1]
        level, own = np.linspace(0.3, 1.5, self.models), np.linspace(-1.0, 1.0, self.models)
        self.chance = 1 / (1 + np.exp(-(level - hard + own * self.strength / 2 * self.features[:, 1:2])))
        self.quality = (generator.random(self.chance.shape) < self.chance).astype(float)
        self.cost_usd = np.geomspace(0.001, 0.1, self.models)

    def collected(self, asked: np.ndarray, failed: np.ndarray | None = None) -> Collected:
        """What is known where these cells were asked."""
        known = asked if failed is None else asked & ~failed
        cost = np.broadcast_to(self.cost_usd, asked.shape)
        return Collected(
            queries=Queries([f"question {row}" for row in range(self.queries)], [""] * self.queries),
            models=[f"model {column}" for column in range(self.models)],
            endpoints={},
            quality=np.where(known, self.quality, np.nan),
            cost_usd=np.where(known, cost, np.nan),
            asked=asked.copy(),
            worst_case_usd=2 * cost,
            left_usd=100.0,
        )
