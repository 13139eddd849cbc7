"""The oracle: true qualities as if they were known before (RouterBench's upper bound)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxroute.evaluation import Curve, cost_quality_curve
from jaxroute.table import RoutingTable


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    return cost_quality_curve(test, test.quality, expected_cost_usd=test.cost_usd)
