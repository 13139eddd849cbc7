"""Which model answers: whatever ranks them for one request is a `Chooser`, and the price at which it ranks is a `Pace`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jaxroute.data.estimates import Estimator, as_queries
from jaxroute.data.prices import Price
from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.models import Endpoint
from jaxroute.errors import TableError
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW, with_safe_choice
from jaxroute.progress import without_bars
from jaxroute.routing.router import Router
from jaxroute.serve.asking import Asked, ends

MOST_WAITING = 64
MOST_CHARACTERS = 1_000_000
"""Of a prompt that is read for an estimate, about 200,000 tokens; of a longer one the ends, lest all others wait for it."""


@dataclass(frozen=True)
class Candidate:
    """A model that may answer a request: it is allowed, accepts what the request holds, and its worst case fits."""

    endpoint: Endpoint
    worst_case_usd: float | None
    """The most that it can cost, dollars; None where nothing bounds it and nobody counts."""
    saved_usd: float = 0.0
    """What it costs less than it would for a new conversation, since it has read the beginning of this one."""
    toll: float = 0.0
    """What a place at it is worth to others, in quality: it rises as more requests want it than it can take."""

    @property
    def model(self) -> str:
        """Its name here."""
        return self.endpoint.name


@dataclass(frozen=True)
class Ranked:
    """One candidate, with what is expected of it."""

    candidate: Candidate
    quality: float | None = None
    """Estimated, in [0, 1]; None where nobody has estimated it."""
    cost_usd: float | None = None
    """Expected dollars."""
    p_value: float | None = None
    """How like the training prompts the prompt is; None where that is not known."""


class Chooser(Protocol):
    """Ranks models for one request."""

    @property
    def models(self) -> Sequence[str]:
        """Those that it knows."""
        ...

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        """The candidates, best first, by quality - multiplier x cost - toll; with `minimum_quality` the cheapest of those that
        reach it first. It never waits for long, and raises nothing because of what the request holds."""
        ...


class Pace(Protocol):
    """The price of quality as a stream of requests passes; it learns of every try that is paid, by name or routed."""

    @property
    def multiplier(self) -> float:
        """Quality per dollar, at this moment."""
        ...

    def most_usd(self, ledger: Ledger, left_usd: float, lowest_usd: float) -> float:
        """The largest worst case that a request may have, of so many dollars that are left in that ledger; the rest is kept for
        requests to come. `lowest_usd` is the worst case of its cheapest answer, which may take all that is left."""
        ...

    def saw(self, order: Sequence[Ranked]) -> None:
        """What was estimated of a request that is routed."""
        ...

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        """A try begins, whose worst case the ledger holds."""
        ...

    def end(self, expected_usd: float, worst_case_usd: float | None = None, *, paid_usd: float) -> None:
        """The try that began with these two numbers is settled."""
        ...

    def figures(self) -> dict[str, float]:
        """For the metrics: name -> number."""
        ...


@dataclass(frozen=True)
class FixedPace:
    """The same price for ever."""

    multiplier: float = 0.0
    """Quality per dollar: 0 buys the best, whatever it costs."""

    def most_usd(self, ledger: Ledger, left_usd: float, lowest_usd: float) -> float:
        return left_usd

    def saw(self, order: Sequence[Ranked]) -> None:
        return

    def begin(self, expected_usd: float, worst_case_usd: float | None = None) -> None:
        return

    def end(self, expected_usd: float, worst_case_usd: float | None = None, *, paid_usd: float) -> None:
        return

    def figures(self) -> dict[str, float]:
        return {}


class EstimatorChooser:
    """Ranks by the estimates of a router, made one after the other in a thread, at the endpoints' prices.

    While too many wait for their turn, and for requests without any text, the cheapest comes first: that needs no estimate.
    """

    def __init__(
        self,
        router: Router,
        endpoints: Mapping[str, Endpoint],
        *,
        own_costs: bool = False,
        unknown_below: float = UNKNOWN_BELOW,
    ) -> None:
        self._models = [model for model in router.models if model in endpoints]
        self._unknown_below = unknown_below
        self._estimator = router.estimator if own_costs else at_prices(router.estimator, endpoints)
        self._columns = {model: column for column, model in enumerate(router.models)}
        self._thread = ThreadPoolExecutor(1, "estimates")
        self._waiting = 0
        self.without_estimates = 0
        """Requests that were ranked by price alone."""

    @property
    def estimator(self) -> Estimator:
        """Whose estimates they are."""
        return self._estimator

    @property
    def models(self) -> Sequence[str]:
        return self._models

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        if not asked.prompt.strip() or self._waiting >= MOST_WAITING:
            self.without_estimates += 1
            return by_price(candidates)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            quality, cost, p_value = await loop.run_in_executor(
                self._thread, self._estimate, ends(asked.prompt, MOST_CHARACTERS)
            )
        finally:
            self._waiting -= 1
        columns = [self._columns[one.model] for one in candidates]
        return ranked(candidates, quality[columns], cost[columns], multiplier, minimum_quality, p_value)

    def warm(self) -> None:
        """Estimate once, so that no request waits for what is compiled at the first time."""
        self._estimate("What is 12 plus 30?")

    def figures(self) -> dict[str, float]:
        """For the metrics: name -> number."""
        return {"routed_without_estimates_total": float(self.without_estimates)}

    def _estimate(self, prompt: str) -> tuple[np.ndarray, np.ndarray, float | None]:
        with without_bars():
            estimates, _ = with_safe_choice(self._estimator.estimate(as_queries([prompt])), self._unknown_below)
        p_value = None if estimates.p_value is None else float(estimates.p_value[0])
        return estimates.quality[0], estimates.cost_usd[0], p_value


def ranked(
    candidates: Sequence[Candidate],
    quality: np.ndarray,
    cost_usd: np.ndarray,
    multiplier: float,
    minimum_quality: float | None,
    p_value: float | None = None,
) -> list[Ranked]:
    """Candidates with an estimated quality and an expected cost (dollars, `(candidates,)` each) in the order in which to ask.

    By q - lambda c - toll, ties by cost; with a minimum, those that reach it by cost, then the others by quality.
    """
    expected = []
    for one, value, cost in zip(candidates, quality, cost_usd, strict=True):
        worst = float("inf") if one.worst_case_usd is None else one.worst_case_usd
        # Nothing is expected to cost more than it can.
        money = min(worst, max(0.0, float(cost) - one.saved_usd)) if cost == cost else min(worst, 9e6)
        expected.append(Ranked(one, float(value), money, p_value))

    def order(one: Ranked) -> tuple[float, ...]:
        assert one.quality is not None and one.cost_usd is not None
        if minimum_quality is None:
            return (-(one.quality - multiplier * one.cost_usd - one.candidate.toll), one.cost_usd)
        reached = one.quality >= minimum_quality
        return (0.0, one.cost_usd) if reached else (1.0, -one.quality)

    return sorted(expected, key=order)


def by_price(candidates: Sequence[Candidate]) -> list[Ranked]:
    """The cheapest first, without estimates."""
    return [Ranked(one) for one in sorted(candidates, key=lambda one: (one.endpoint.price.output, one.endpoint.price.input))]


def at_prices(estimator: Estimator, endpoints: Mapping[str, Endpoint]) -> Estimator:
    """The same, with the endpoints' prices where tokens are counted; models that are not served keep a price of 0."""
    prices = {model: Price(0.0, 0.0) for model in estimator.models}
    for name, endpoint in endpoints.items():
        if name in prices:
            prices[name] = Price(endpoint.price.input, endpoint.price.output)
    try:
        return estimator.priced(prices)
    except TableError:
        # Its costs are the dollars of its training: they hold as they are.
        return estimator
