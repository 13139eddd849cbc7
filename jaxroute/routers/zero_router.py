"""The zero router: a share of the queries to one model, the rest to another (RouterBench, arXiv:2403.12031, section 3).

Its points are the single models; its hull is what they reach without reading a prompt. Which models lie on the hull is read off
the very queries that are answered: `best_single` is the same with what training says.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation import Curve, single_models


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    return single_models(test)
