"""The predictor: prompts in, an estimate of every model's quality and cost out, before any model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt64

from jaxroute.data.estimates import Estimates, as_queries, renamed
from jaxroute.data.prices import PriceList
from jaxroute.data.table import Queries
from jaxroute.encoders import Encoder, check_prompts
from jaxroute.encoders.features import FeatureConfig, Reader, prompt_features
from jaxroute.errors import TableError, listed
from jaxroute.predictor.domain_effects import domain_numbers
from jaxroute.predictor.familiarity import Familiarity
from jaxroute.predictor.heads import AnyArray, Head, argmax_level, expected_level
from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.pricing import CostModel, Pricing
from jaxroute.predictor.training_sample import TrainingSample

KINDS = {"expected": expected_level, "argmax": argmax_level}


@dataclass(frozen=True, repr=False)
class Predictor:
    """A frozen or trained encoder, how its states become features, the trained head, and what answers cost: an `Estimator`."""

    encoder: Encoder
    features: FeatureConfig
    head: Head
    models: list[str]
    levels: int
    pricing: Pricing | None = None
    """What is known of the costs of answers; None where nothing is."""
    kind: str = "expected"
    """`expected` quality (the mean over the levels), or `argmax`: the likeliest level, as Routoo publishes."""
    output_tokens: float | None = None
    """Tokens that every answer is taken to have, in place of what training learnt."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: the table, the number of queries, the held-out log-loss, the configuration."""
    seen: UInt64[np.ndarray, " prompts"] | None = None
    """`RoutingTable.prompt_numbers` of the training prompts, so that none of them is judged on."""
    read: Reader = prompt_features
    """How prompts become features; by default with a cache on disk."""
    domains: list[str] = field(default_factory=list)
    """The domains that the head has effects for; a query of any other is estimated without."""
    pool: PoolQuestions | None = None
    """What the models of training say of their questions, for models that are added later; None where it was not kept."""
    familiarity: Familiarity | None = None
    """What is kept of the training prompts to know a prompt that is unlike them; None where nothing is."""
    sample: TrainingSample | None = None
    """What is expected on some training prompts, held out; None where nothing was, and where levels have moved since."""

    def __repr__(self) -> str:
        """Without its numbers, of which there are thousands."""
        table = self.about.get("trained_on")
        return f"Predictor(encoder={self.encoder.name!r}, models=[{listed(self.models)}], trained_on={table!r})"

    @property
    def name(self) -> str:
        return "predictor"

    @property
    def note(self) -> str:
        return ""

    @property
    def costs(self) -> CostModel | None:
        """The pricing with the encoder that counts tokens for it."""
        if self.pricing is None:
            return None
        return CostModel(self.pricing, self.encoder, self.features, output_tokens=self.output_tokens)

    @property
    def knows_costs(self) -> bool:
        return self.costs is not None and not self.costs.needs_features

    def estimate(self, queries: Queries | Sequence[str]) -> Estimates:
        """Expected quality, in [0, 1], and dollars of every model on every query.

        Raises `PromptError` for an empty batch or an empty prompt.
        """
        queries = as_queries(queries)
        check_prompts(queries.prompts)
        features = self.read(self.encoder, queries.prompts, self.features)
        cost, assumption = self._costs(queries.prompts, features.values)
        domain = domain_numbers(queries.domains, self.domains)
        quality = head_estimates(self.head, features.values, domain=domain, kind=self.kind)
        estimates = Estimates(self.models, quality, cost, assumption, features.cut, features.values)
        return estimates if self.familiarity is None else self.familiarity.said_of(estimates, features.values)

    def expected_cost_usd(self, queries: Queries | Sequence[str]) -> tuple[Float[np.ndarray, "queries models"], str]:
        """Dollars of every model's answer to every query, and the assumption behind them."""
        prompts = as_queries(queries).prompts
        check_prompts(prompts)
        return self._costs(prompts, None)

    def priced(self, prices: PriceList | None = None, *, output_tokens: float | None = None) -> Predictor:
        """The same predictor at other prices, or with another expected number of output tokens of every answer."""
        if self.costs is None:
            raise TableError("this predictor holds no prices and no mean costs: train it with `train_costs`")
        costs = self.costs.priced(prices, output_tokens=output_tokens)
        return replace(self, pricing=costs.pricing, output_tokens=costs.output_tokens)

    def transferred(self, models: list[str]) -> Predictor:
        """The same predictor for other models in the places of its own, whose costs are not known."""
        return replace(self, models=renamed(models, self.models), pricing=None, sample=None)

    def reading(self, read: Reader) -> Predictor:
        """The same predictor, which reads prompts in another way: say without the cache on disk."""
        return replace(self, read=read)

    def save(self, folder: Path | str) -> None:
        """Write a checkpoint atomically; an earlier one at `folder` is replaced, anything else is rejected."""
        from jaxroute.predictor.checkpoint import save_predictor

        save_predictor(self, Path(folder))

    def _costs(self, prompts: list[str], features: np.ndarray | None) -> tuple[np.ndarray, str]:
        if self.costs is None:
            return np.full((len(prompts), len(self.models)), np.nan), "nothing is known of costs"
        return self.costs.expected_cost_usd(prompts, features=features, read=self.read)


def head_estimates(
    head: Head,
    features: Float[np.ndarray, "queries features"],
    *,
    domain: Int[np.ndarray, " queries"] | None = None,
    kind: str = "expected",
) -> Float[np.ndarray, "queries models"]:
    """The head's estimates in float64, for features that are at hand; `domain` as `Head` takes it.

    The head sees a number of rows that is a power of two, since each number compiles once.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    filled = np.zeros((1 << (len(features) - 1).bit_length(), features.shape[1]), np.float32)
    filled[: len(features)] = features
    known = np.full(len(filled), -1)
    known[: len(features)] = -1 if domain is None else domain
    return np.asarray(_estimates(*nnx.split(head), filled, known, kind), np.float64)[: len(features)]


@partial(jax.jit, static_argnames=("graph", "kind"))
def _estimates(
    graph: nnx.GraphDef,
    state: nnx.State,
    features: Float[AnyArray, "queries features"],
    domain: Int[AnyArray, " queries"],
    kind: str,
):
    logits = nnx.merge(graph, state)(features, domain)
    # One model after the other: rounding depends on the shape, and a further model must not move the others.
    return jax.lax.map(KINDS[kind], logits.swapaxes(0, 1)[:, :, None])[:, :, 0].T
