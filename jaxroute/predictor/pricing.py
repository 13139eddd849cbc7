"""Pricing: what is known, before any model runs, of what its answers will cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import PriceList, priced, token_cost_usd
from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
from jaxroute.predictor.costs import CostHead

DEFAULT_OUTPUT_TOKENS = 256.0
"""Expected length of an answer where nothing is known of it."""


@dataclass(frozen=True)
class Pricing:
    """What is known, before any model runs, of what its answers will cost."""

    models: list[str]
    mean_cost_usd: list[float]
    """Dollars per query, each model's mean over its outcomes."""
    prices: PriceList | None = None
    """Dollars per million tokens; None where only whole costs are known."""
    output_tokens: list[float] | None = None
    """Each model's mean over its outcomes; None where they were not counted."""
    input_ratio: list[float] | None = None
    """Input tokens that each model counted per token of the encoder; None = as many."""
    length_head: CostHead | None = None
    """Output tokens by model and prompt, where a head learnt them; it needs `output_tokens` beside it."""
    cost_head: CostHead | None = None
    """Dollars by model and prompt, for outcomes without prices."""

    def __post_init__(self) -> None:
        if self.prices is not None:
            priced(self.prices, self.models)
        for name in ("length_head", "cost_head"):
            head = getattr(self, name)
            if head is not None and len(head.intercept) != len(self.models):
                raise TableError(f"{name} is for {len(head.intercept)} models, the prices are for {len(self.models)}")
        if self.length_head is not None and self.output_tokens is None:
            raise TableError("length_head needs output_tokens, the means of the models that it says nothing of")

    @property
    def head(self) -> CostHead | None:
        """What costs are predicted with: lengths where there are prices, else dollars."""
        return self.cost_head if self.prices is None else self.length_head

    def expected_cost_usd(
        self,
        prompt_tokens: Int[np.ndarray, " queries"],
        *,
        features: Float[np.ndarray, "queries features"] | None = None,
        output_tokens: float | None = None,
    ) -> tuple[Float[np.ndarray, "queries models"], str]:
        """Dollars for every model to answer every prompt, and the assumption in words.

        Prompt tokens at the input price and expected output tokens at the output price, where there are prices; else
        whole costs. What is expected is `head`'s estimate, for the prompts' `features`; without them, or without a head, each
        model's mean. `output_tokens` replaces the expectation of every model.
        """
        if self.prices is None:
            if output_tokens is not None:
                raise TableError(f"output_tokens={output_tokens:g} needs prices per token: give a price list")
            cost = np.tile(np.array(self.mean_cost_usd), (len(prompt_tokens), 1))
            if self.cost_head is not None and features is not None:
                cost = np.where(self.cost_head.learned, self.cost_head.expected(features, prompt_tokens), cost)
                return (
                    cost,
                    f"an answer costs what the prompt lets expect, learnt from the dollars of training ({self._rest()})",
                )
            return cost, "every answer of a model costs that model's mean over its training outcomes"
        if output_tokens is not None:
            expected, words = np.full(len(self.models), float(output_tokens)), f"{output_tokens:g} tokens"
        elif self.output_tokens is not None:
            expected, words = np.array(self.output_tokens), "each model's mean number of tokens in training"
            if self.length_head is not None and features is not None:
                expected = np.where(self.length_head.learned, self.length_head.expected(features, prompt_tokens), expected)
                words = f"as many tokens as the prompt lets expect, learnt from the lengths of training ({self._rest()}),"
        else:
            expected = np.full(len(self.models), DEFAULT_OUTPUT_TOKENS)
            words = f"{DEFAULT_OUTPUT_TOKENS:g} tokens (the training outcomes hold no counts; change it with output_tokens)"
        counted, counting = np.asarray(prompt_tokens)[:, None], "as the encoder counts them"
        if self.input_ratio is not None:
            counted, counting = counted * np.array(self.input_ratio), "as many per token of the encoder as in training"
        cost = token_cost_usd(self.prices, self.models, counted, expected)
        return cost, f"prompt tokens, {counting}, at the input price; an answer of {words} at the output price"

    def select(self, models: list[str]) -> Pricing:
        """The same for some of the models, in the given order."""
        unknown = [model for model in models if model not in self.models]
        if unknown:
            raise TableError(f"unknown model {', '.join(unknown)}; known are {', '.join(self.models)}")
        columns = [self.models.index(model) for model in models]
        return Pricing(
            models=models,
            mean_cost_usd=[self.mean_cost_usd[column] for column in columns],
            prices=self.prices,
            output_tokens=None if self.output_tokens is None else [self.output_tokens[column] for column in columns],
            input_ratio=None if self.input_ratio is None else [self.input_ratio[column] for column in columns],
            length_head=None if self.length_head is None else self.length_head.select(columns),
            cost_head=None if self.cost_head is None else self.cost_head.select(columns),
        )

    def _rest(self) -> str:
        """For which models the head speaks."""
        assert self.head is not None
        means = [model for model, learned in zip(self.models, self.head.learned, strict=True) if not learned]
        return f"the mean for {', '.join(means)}" if means else "for every model"


def table_pricing(table: RoutingTable, prices: PriceList | None) -> Pricing:
    """What the outcomes of `table`, with a price list or without, say about costs; `TableError` where the two contradict."""
    if prices is not None:
        table.check_prices(prices)
    run = ~np.isnan(table.quality)
    tokens = None
    if table.output_tokens is not None and (np.isfinite(table.output_tokens) & run).any(axis=0).all():
        tokens = np.nanmean(np.where(run, table.output_tokens, np.nan), axis=0).tolist()
    return Pricing(
        models=table.models,
        mean_cost_usd=table.mean_cost_usd().tolist(),
        prices=None if prices is None else dict(zip(table.models, priced(prices, table.models), strict=True)),
        output_tokens=tokens,
    )


def counted_ratio(table: RoutingTable, encoder_tokens: Int[np.ndarray, " queries"]) -> list[float] | None:
    """Input tokens per token of the encoder, by model, over the runs that were made; None unless known of every model."""
    if table.input_tokens is None:
        return None
    known = np.isfinite(table.input_tokens) & ~np.isnan(table.quality)
    if not known.any(axis=0).all():
        return None
    ours = np.where(known, np.asarray(encoder_tokens)[:, None], 0.0).sum(axis=0)
    return (np.where(known, table.input_tokens, 0.0).sum(axis=0) / ours).tolist()
