"""jaxroute decides, before any model is called, which language model answers which prompt."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from jaxroute.exports import exported

if TYPE_CHECKING:
    from jaxroute.batch.streams import estimate_stream
    from jaxroute.data.estimates import Estimates, Estimator
    from jaxroute.data.sources import load_source
    from jaxroute.data.table import Queries, RoutingTable, join
    from jaxroute.encoders.scoring_config import ScoringConfig
    from jaxroute.errors import (
        CheckpointError,
        EncoderError,
        GraderError,
        JaxrouteError,
        OutputError,
        PromptError,
        RouterError,
        SourceError,
        TableError,
    )
    from jaxroute.predictor.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from jaxroute.predictor.config import TrainConfig
    from jaxroute.predictor.predictor import Predictor
    from jaxroute.predictor.training import train, train_costs, train_estimator
    from jaxroute.routers.base import load
    from jaxroute.routing.request import RouteRequest
    from jaxroute.routing.router import Router

# Where each name lives. It is imported when it is first asked for, so that `import jaxroute` loads neither JAX nor pandas.
_HOMES = {
    "estimate_stream": "batch.streams",
    "Estimates": "data.estimates",
    "Estimator": "data.estimates",
    "load_source": "data.sources",
    "Queries": "data.table",
    "RoutingTable": "data.table",
    "join": "data.table",
    "ScoringConfig": "encoders.scoring_config",
    "CheckpointError": "errors",
    "EncoderError": "errors",
    "GraderError": "errors",
    "JaxrouteError": "errors",
    "OutputError": "errors",
    "PromptError": "errors",
    "RouterError": "errors",
    "SourceError": "errors",
    "TableError": "errors",
    "Checkpoint": "predictor.checkpoint",
    "load_checkpoint": "predictor.checkpoint",
    "save_checkpoint": "predictor.checkpoint",
    "TrainConfig": "predictor.config",
    "Predictor": "predictor.predictor",
    "train": "predictor.training",
    "train_costs": "predictor.training",
    "train_estimator": "predictor.training",
    "load": "routers.base",
    "RouteRequest": "routing.request",
    "Router": "routing.router",
}

try:
    __version__ = version("jaxroute")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "EncoderError",
    "Estimates",
    "Estimator",
    "GraderError",
    "JaxrouteError",
    "OutputError",
    "Predictor",
    "PromptError",
    "Queries",
    "RouteRequest",
    "Router",
    "RouterError",
    "RoutingTable",
    "ScoringConfig",
    "SourceError",
    "TableError",
    "TrainConfig",
    "__version__",
    "estimate_stream",
    "join",
    "load",
    "load_checkpoint",
    "load_source",
    "save_checkpoint",
    "train",
    "train_costs",
    "train_estimator",
]


__getattr__ = exported(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
