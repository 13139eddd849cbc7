"""What a place at each model is worth: tolls that follow how many want it, its limits, and how long its answers take.

`solvers.Toll` has the mathematics. A model can begin

    r = min(concurrent_requests / mean seconds of an answer, requests_per_minute / 60)

requests a second; before its first answer only the second part is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from jaxroute.serve.state import Upstream
from solvers import Toll

MEMORY = 50.0
"""Answers, after which how long one has taken counts 1/e."""
LEAST_SECONDS = 1e-3
"""Of an answer."""


class Places:
    """Tolls by model; they outlast a change of the files."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tolls: dict[str, Toll] = {}
        self._seconds: dict[str, float] = {}

    def toll(self, model: str) -> float:
        """In units of quality, at this moment."""
        found = self._tolls.get(model)
        return 0.0 if found is None else found.at(self._clock())

    def wanted(self, upstream: Upstream) -> None:
        """A request has that model as its best, or asks for it by its name."""
        model, limits = upstream.endpoint.name, upstream.limits
        toll = self._tolls.get(model)
        if toll is None:
            toll = self._tolls[model] = Toll(now=self._clock())
        seconds = self._seconds.get(model)
        rates = [] if seconds is None else [limits.places / seconds]
        if limits.per_second is not None:
            rates.append(limits.per_second)
        toll.per_second = min(rates, default=float("inf"))
        toll.wanted(self._clock())

    def held(self, model: str, seconds: float) -> None:
        """A request has had a place there for so long."""
        before, seconds = self._seconds.get(model), max(seconds, LEAST_SECONDS)
        self._seconds[model] = seconds if before is None else before + (seconds - before) / MEMORY

    def tolls(self) -> dict[str, float]:
        """Those that are known, by model."""
        return {model: self.toll(model) for model in self._tolls}
