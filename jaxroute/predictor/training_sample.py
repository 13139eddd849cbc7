"""What a predictor expects on its training prompts, each by a fit that did not see it: a stand-in for prompts to come.

`jaxroute serve` begins with it, before it has seen requests: it says what a price per quality would make them cost. Tokens are
kept beside dollars, so that costs can be restated at other prices. No text is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import TOKENS_PER_PRICE, Price, PriceList, token_cost_usd
from jaxroute.predictor.pricing import Pricing

MOST_PROMPTS = 1_000
PREFIX = "sample"
"""Before the names of its arrays in a checkpoint."""


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """At most MOST_PROMPTS training prompts; all arrays float32, `(prompts, models)` over `models`."""

    models: list[str]
    quality: Float[np.ndarray, "prompts models"]
    """Expected, in [0, 1], held out."""
    input_tokens: Float[np.ndarray, "prompts models"]
    """As each model counts them."""
    output_tokens: Float[np.ndarray, "prompts models"]
    """Expected."""
    cost_usd: Float[np.ndarray, "prompts models"]
    """Expected dollars, as they were in training."""

    @staticmethod
    def of(
        pricing: Pricing,
        quality: Float[np.ndarray, "prompts models"],
        prompt_tokens: Int[np.ndarray, " prompts"],
        features: Float[np.ndarray, "prompts features"],
    ) -> TrainingSample:
        """From held-out estimates, the prompts' tokens as the encoder counts them, and what costs are read from."""

        def cost(one: Pricing) -> np.ndarray:
            return one.expected_cost_usd(prompt_tokens, features=features)[0].astype(np.float32)

        # At a dollar per token of one kind, dollars are tokens.
        inputs = dict.fromkeys(pricing.models, Price(TOKENS_PER_PRICE, 0.0))
        outputs = dict.fromkeys(pricing.models, Price(0.0, TOKENS_PER_PRICE))
        input_tokens, output_tokens = (cost(replace(pricing, prices=prices)) for prices in (inputs, outputs))
        return TrainingSample(list(pricing.models), quality.astype(np.float32), input_tokens, output_tokens, cost(pricing))

    def cost_usd_at(self, prices: PriceList | None) -> Float[np.ndarray, "prompts models"]:
        """Expected dollars at other prices, NaN for a model that has none there; those of training without any."""
        if prices is None:
            return self.cost_usd
        known = [column for column, model in enumerate(self.models) if model in prices]
        cost, names = np.full(self.quality.shape, np.nan), [self.models[column] for column in known]
        cost[:, known] = token_cost_usd(prices, names, self.input_tokens[:, known], self.output_tokens[:, known])
        return cost

    def arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint: 16 bytes for each prompt and model."""
        return {f"{PREFIX}/{one.name}": np.asarray(getattr(self, one.name)) for one in fields(self)}


def restored_sample(arrays: Mapping[str, np.ndarray]) -> TrainingSample | None:
    """Of a checkpoint's arrays; None where it holds none, as those of earlier versions."""
    names = [f"{PREFIX}/{one.name}" for one in fields(TrainingSample)]
    if not all(name in arrays for name in names):
        return None
    models, *rest = (arrays[name] for name in names)
    return TrainingSample(models.tolist(), *rest)
