"""Training the encoder with the head, by gradients: adapters or all weights, on any mesh, stopped and resumed at will."""

from jaxroute.predictor.tuning.config import MeshConfig, TuneConfig
from jaxroute.predictor.tuning.loop import tune
from jaxroute.predictor.tuning.mesh import connect
from jaxroute.predictor.tuning.results import FittedHead, Tuned, TuningReport

__all__ = ["FittedHead", "MeshConfig", "TuneConfig", "Tuned", "TuningReport", "connect", "tune"]
