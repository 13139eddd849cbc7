"""Models that have asked not to be asked for a while (`Retry-After`): what is known to one worker is known to all.

A pause is the endpoint's, whoever asks. A toll is the price of a worker's own places, a share of the model's, and stays its
own (`places.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from jaxroute.serve.remembered import Remembered
from jaxroute.serve.shared import Shared, SharedRemembered

MOST_MODELS = 10_000


class Pauses:
    """By model; `shared` is what all workers know."""

    def __init__(self, shared: Shared | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Until when, in seconds since 1970: the clock of all workers.
        self._until: Remembered[str, float] | SharedRemembered[float] = Remembered(MOST_MODELS)
        if shared is not None:
            self._until = shared.remembered("paused", MOST_MODELS, repr, float)

    def asked(self, model: str, seconds: float) -> None:
        """A model has asked not to be asked for so long."""
        self._until.put(model, self._clock() + seconds)

    def among(self, models: Sequence[str]) -> set[str]:
        """Those of them that are not to be asked now."""
        now = self._clock()
        return {model for model, until in self._until.several(models).items() if until > now}
