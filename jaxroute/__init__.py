"""jaxroute decides, before any model is called, which language model answers which prompt."""

from jaxroute.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from jaxroute.errors import (
    CheckpointError,
    EncoderError,
    JaxrouteError,
    OutputError,
    PromptError,
    RouterError,
    SourceError,
    TableError,
)
from jaxroute.predictor import Predictor
from jaxroute.router import Router
from jaxroute.scoring import ScoringConfig
from jaxroute.sources import load_source
from jaxroute.streaming import estimate_stream
from jaxroute.table import RoutingTable, join
from jaxroute.train_config import TrainConfig
from jaxroute.training import train, train_costs

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "EncoderError",
    "JaxrouteError",
    "OutputError",
    "Predictor",
    "PromptError",
    "Router",
    "RouterError",
    "RoutingTable",
    "ScoringConfig",
    "SourceError",
    "TableError",
    "TrainConfig",
    "estimate_stream",
    "join",
    "load_checkpoint",
    "load_source",
    "save_checkpoint",
    "train",
    "train_costs",
]
