"""Small tables of outcomes that several tests share."""

from __future__ import annotations

import numpy as np

from jaxroute import RoutingTable


def small_table() -> RoutingTable:
    return RoutingTable(
        prompts=["a", "bb", "ccc"],
        models=["cheap", "good"],
        quality=np.array([[1.0, 1.0], [0.0, 1.0], [0.5, np.nan]]),
        cost_usd=np.array([[1.0, 10.0], [2.0, 20.0], [3.0, np.nan]]),
    )


def seeded_table(queries: int = 150, seed: int = 0) -> RoutingTable:
    """Right or wrong answers of three models, dearer ones better, hard queries hard for all; one cost per model."""
    generator = np.random.default_rng(seed)
    ease = generator.normal(size=(queries, 1))
    chance = 1 / (1 + np.exp(-(ease + np.array([-0.5, 0.5, 1.5]))))
    return RoutingTable(
        prompts=["x" * int(length) for length in generator.integers(1, 500, queries)],
        models=["small", "middle", "large"],
        quality=(generator.uniform(size=(queries, 3)) < chance).astype(float),
        cost_usd=np.array([0.1, 0.3, 1.0]),
    )
