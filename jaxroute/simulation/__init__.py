"""The simulated pool behind OpenAI's wire format: endpoints for demos and tests that need no key and cost nothing.

It lies above `data`, whose simulated pool it serves, and below everything that asks endpoints, so that demos may start it.
What asks endpoints belongs in `endpoints`.
"""

from jaxroute.simulation.pool import SimulatedPool
from jaxroute.simulation.server import Simulation, SimulationConfig, serving, serving_in_thread, simulated_endpoints

__all__ = ["SimulatedPool", "Simulation", "SimulationConfig", "serving", "serving_in_thread", "simulated_endpoints"]
