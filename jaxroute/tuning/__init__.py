"""Training the encoder with the head, by gradients: adapters or all weights, on any mesh, stopped and resumed at will."""

from jaxroute.tuning.config import MeshConfig, TuneConfig
from jaxroute.tuning.loop import FittedHead, Tuned, TuningReport, tune
from jaxroute.tuning.mesh import connect

__all__ = ["FittedHead", "MeshConfig", "TuneConfig", "Tuned", "TuningReport", "connect", "tune"]
