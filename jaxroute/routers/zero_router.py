"""The zero router: a share of the queries to one model, the rest to another, whatever the prompt says (RouterBench, section 3).

RouterBench (arXiv:2403.12031) takes the hull of the single models on the very queries that are answered, in hindsight. Here its
corners are chosen on the training rows, as every router's choices are: it is the opponent over which gains are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxroute.data.table import RoutingTable
from jaxroute.evaluation import Curve, zero_router


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def curve(train: RoutingTable, test: RoutingTable, config: Config) -> Curve:
    return zero_router(train, test)
