"""Ranking by a predictor's estimates within milliseconds; when too many wait, by length and price within microseconds."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.estimates import Estimates
from jaxroute.encoders.live import LiveConfig, LiveEncoder, LiveFeatures
from jaxroute.endpoints.models import Endpoint
from jaxroute.errors import JaxrouteError
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW, with_safe_choice
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.routing.router import Router
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate, EstimatorChooser, Ranked, at_prices, by_price, ranked
from jaxroute.serve.live_reader import BYTES_PER_TOKEN, LiveReader

LOG = logging.getLogger("jaxroute.serve")
PRIOR_WEIGHT = 5.0
"""Prompts of a length that what is known of all lengths counts for."""
MEMORY = 200.0
"""Prompts of a length, after which an estimate counts 1/e."""
MOST_SIZES = 32

Estimated = tuple[Float[np.ndarray, " models"], Float[np.ndarray, " models"]]
"""Quality and expected dollars."""


class LiveChooser:
    """A `Chooser` for predictors; `patience_seconds` is how long a request may have to wait for the estimates of others."""

    def __init__(
        self,
        predictor: Predictor,
        endpoints: Mapping[str, Endpoint],
        config: LiveConfig | None = None,
        *,
        patience_seconds: float = 0.25,
        own_costs: bool = False,
        unknown_below: float = UNKNOWN_BELOW,
    ) -> None:
        self._models = [model for model in predictor.models if model in endpoints]
        self._columns = {model: column for column, model in enumerate(predictor.models)}
        priced = predictor if own_costs else at_prices(predictor, endpoints)
        assert isinstance(priced, Predictor)
        self.predictor, self.patience_seconds, self.unknown_below = priced, patience_seconds, unknown_below
        self.reader = LiveReader(LiveEncoder(predictor.encoder, predictor.features, config), self._finish)
        self._by_size = SizeTable(self._typical)
        self.without_estimates = 0
        """Requests that were ranked by length and price."""

    @property
    def estimator(self) -> Predictor:
        """Whose estimates they are."""
        return self.predictor

    @property
    def models(self) -> Sequence[str]:
        return self._models

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        prompt = asked.prompt
        estimated, p_value = None, None
        if prompt.strip() and self.reader.wait_seconds <= self.patience_seconds:
            try:
                estimated, p_value = await asyncio.wrap_future(self.reader.submit(prompt, keeps=is_conversation(asked)))
                self._by_size.add(len(prompt), estimated)
            except JaxrouteError as error:
                # Of its kind, never of its text.
                LOG.warning("a prompt could not be read for an estimate: %s", type(error).__name__)
        if estimated is None:
            self.without_estimates += 1
            if not prompt.strip():
                return by_price(candidates)
            estimated = self._by_size.of(len(prompt))
        columns = [self._columns[one.model] for one in candidates]
        quality, cost_usd = estimated
        return ranked(candidates, quality[columns], cost_usd[columns], multiplier, minimum_quality, p_value)

    def training_sample(self) -> list[dict[str, tuple[float, float]]]:
        """Quality and expected dollars by model on some training prompts, at the endpoints' prices; none where unknown."""
        sample, pricing = self.predictor.sample, self.predictor.pricing
        if sample is None or pricing is None:
            return []
        columns = [column for column, model in enumerate(sample.models) if model in self._models]
        cost = sample.cost_usd_at(pricing.prices)
        rows = (
            {sample.models[column]: (float(quality[column]), float(usd[column])) for column in columns if usd[column] >= 0}
            for quality, usd in zip(sample.quality, cost, strict=True)
        )
        return [row for row in rows if row]

    def warm(self) -> float:
        """Compile everything, so that no request waits for it, nor for a garbage collection of what lives by then; returns the
        seconds that it took."""
        seconds = self.reader.warm()
        width = self.reader.live.network.hidden_size * len(self.reader.live.taps)
        for rows in self.reader.live.config.rows:
            self._finish(np.zeros((rows, width), np.float32), np.ones(rows, int))
        keep_from_collection()
        return seconds

    def close(self) -> None:
        """Let its thread end."""
        self.reader.close()

    def figures(self) -> dict[str, float]:
        """For the metrics: name -> number."""
        conversations = self.reader.conversations
        found = {
            "routed_without_estimates_total": float(self.without_estimates),
            "prompts_read_total": float(self.reader.prompts),
            "prompt_batches_total": float(self.reader.batches),
            "reading_wait_seconds": self.reader.wait_seconds,
        }
        if conversations is not None:
            found["conversations_remembered"] = float(len(conversations))
            found["conversation_bytes"] = float(conversations.bytes_used)
            found["conversation_tokens_not_read_again_total"] = float(conversations.hits)
        return found

    def _finish(
        self, features: Float[np.ndarray, "prompts features"], counts: Int[np.ndarray, " prompts"]
    ) -> list[tuple[Estimated, float | None]]:
        """Of every prompt what is expected of the models, and its p-value against the training prompts."""
        predictor = self.predictor
        quality, cost = head_estimates(predictor.head, features, kind=predictor.kind), self._cost(counts, features)
        estimates = Estimates(predictor.models, quality, cost, "", np.zeros(len(quality), bool))
        if predictor.familiarity is not None:
            estimates, _ = with_safe_choice(predictor.familiarity.said_of(estimates, features), self.unknown_below)
        p_values = [None] * len(quality) if estimates.p_value is None else estimates.p_value.tolist()
        return list(zip(zip(estimates.quality, cost, strict=True), p_values, strict=True))

    def _cost(self, counts: Int[np.ndarray, " prompts"], features: np.ndarray | None) -> Float[np.ndarray, "prompts models"]:
        predictor = self.predictor
        if predictor.pricing is None:
            return np.full((len(counts), len(predictor.models)), np.nan)
        pricing, tokens = predictor.pricing, predictor.output_tokens
        return pricing.expected_cost_usd(counts, features=features, output_tokens=tokens)[0]

    def _typical(self, size: int) -> Estimated:
        """Of a prompt of so many characters of which nothing else is known: the estimates at the mean of training."""
        mean = np.asarray(self.predictor.head.mean[...])[None]
        quality = head_estimates(self.predictor.head, mean, kind=self.predictor.kind)[0]
        return quality, self._cost(np.array([max(size // BYTES_PER_TOKEN, 1)]), None)[0]


def live_chooser(
    router: Router,
    endpoints: Mapping[str, Endpoint],
    config: LiveConfig | None = None,
    *,
    patience_seconds: float = 0.25,
    own_costs: bool = False,
    unknown_below: float = UNKNOWN_BELOW,
) -> LiveChooser | EstimatorChooser:
    """What ranks by that router: a `LiveChooser` for a predictor; others estimate one prompt after the other.

    With `own_costs`, at the checkpoint's prices in place of the endpoints'.
    """
    if isinstance(router.estimator, Predictor):
        return LiveChooser(
            router.estimator,
            endpoints,
            config,
            patience_seconds=patience_seconds,
            own_costs=own_costs,
            unknown_below=unknown_below,
        )
    # Without the cache on disk, in which what is asked here has no place.
    live = Router(router.estimator.reading(LiveFeatures(config)))
    return EstimatorChooser(live, endpoints, own_costs=own_costs, unknown_below=unknown_below)


def keep_from_collection() -> None:
    """Garbage collections pass over what lives now: one of all that JAX and its programs are stops every request for 0.1 s.

    What was kept before and has become garbage, such as an earlier checkpoint's, is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class SizeTable:
    """Mean estimates by the length of prompts, in powers of two: what is known without reading one."""

    def __init__(self, typical) -> None:
        self._typical = [typical(3 << size >> 1) for size in range(MOST_SIZES)]
        self._seen: dict[int, tuple[float, np.ndarray]] = {}

    def add(self, characters: int, estimated: Estimated) -> None:
        """A prompt of so many characters was read."""
        weight, mean = self._seen.get(self._size(characters), (0.0, np.zeros_like(np.stack(estimated))))
        weight = (1 - 1 / MEMORY) * weight + 1
        self._seen[self._size(characters)] = weight, mean + (np.stack(estimated) - mean) / weight

    def of(self, characters: int) -> Estimated:
        """What is expected of one."""
        size = self._size(characters)
        weight, mean = self._seen.get(size, (0.0, 0.0))
        prior = np.stack(self._typical[size])
        quality, cost_usd = (weight * mean + PRIOR_WEIGHT * prior) / (weight + PRIOR_WEIGHT)
        return quality, cost_usd

    @staticmethod
    def _size(characters: int) -> int:
        return min(max(characters, 1).bit_length() - 1, MOST_SIZES - 1)


def is_conversation(asked: Asked) -> bool:
    """Whether it may be the beginning of a longer request: it has more than one message."""
    turns = asked.body.get({"chat": "messages", "completion": "prompt"}.get(asked.kind, "input"))
    several = isinstance(turns, list) and len(turns) > 1
    return asked.kind != "completion" and (several or isinstance(asked.body.get("instructions"), str))
