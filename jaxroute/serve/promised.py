"""Routing as was promised: the promised models at the promised price, by the costs that the promise was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jaxroute.endpoints.models import Endpoint
from jaxroute.errors import EndpointError, listed
from jaxroute.guarantees.promise import Promise
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate, Chooser, Ranked


class Promised:
    """A chooser that keeps to a promise; requests for which it cannot are answered all the same, and counted."""

    def __init__(self, chooser: Chooser, promise: Promise, endpoints: Mapping[str, Endpoint]) -> None:
        check_served(promise, endpoints)
        self.chooser, self.promise, self.multiplier = chooser, promise, promise.multiplier
        self.outside = 0
        """Requests for which some promised model was no candidate, that asked for another quality, or were not estimated."""

    @property
    def models(self) -> Sequence[str]:
        return self.promise.models

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        given = {one.model: one for one in candidates}
        # By the expected costs alone, as on the calibration rows: worst cases and warm conversations move no choice.
        plain = [replace(one, worst_case_usd=None, saved_usd=0.0) for one in candidates]
        order = await self.chooser.rank(asked, plain, self.multiplier, minimum_quality)
        read = all(one.quality is not None for one in order)
        self.outside += minimum_quality is not None or not read or len(given) < len(self.promise.models)
        return [replace(one, candidate=given[one.candidate.model]) for one in order]

    def figures(self) -> dict[str, float]:
        """For the metrics: name -> number."""
        return {**getattr(self.chooser, "figures", dict)(), "requests_outside_promise_total": float(self.outside)}


def check_served(promise: Promise, endpoints: Mapping[str, Endpoint]) -> None:
    """Raise `EndpointError` where a promised model is not served."""
    if lacking := [model for model in promise.models if model not in endpoints]:
        raise EndpointError(
            f"models.yaml lacks {listed(lacking)}, which the promise routes to: add them, or make the promise with --models"
        )
