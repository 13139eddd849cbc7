"""Pricing: what is known, before any model runs, of what its answers will cost; CostModel: the same, for prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import Price, PriceList, price_entries, priced, token_cost_usd
from jaxroute.data.table import RoutingTable
from jaxroute.encoders import Encoder
from jaxroute.encoders.features import FeatureConfig, Reader, prompt_features
from jaxroute.errors import TableError, listed
from jaxroute.predictor.cost_head import ARRAYS, CostHead

DEFAULT_OUTPUT_TOKENS = 256.0
"""Expected length of an answer where nothing is known of it."""


@dataclass(frozen=True)
class Pricing:
    """What is known, before any model runs, of what its answers will cost."""

    models: list[str]
    mean_cost_usd: list[float]
    """Dollars per query, each model's mean over its outcomes."""
    prices: PriceList | None = None
    """Dollars per million tokens, of the models that are asked; None where only whole costs are known."""
    output_tokens: list[float] | None = None
    """Each model's mean over its outcomes; None where they were not counted."""
    input_ratio: list[float] | None = None
    """Input tokens that each model counted per token of the encoder; None = as many."""
    length_head: CostHead | None = None
    """Output tokens by model and prompt, where a head learnt them; it needs `output_tokens` beside it."""
    cost_head: CostHead | None = None
    """Dollars by model and prompt, for outcomes without prices."""

    def __post_init__(self) -> None:
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
        cost = self._token_cost_usd(counted, expected)
        return cost, f"prompt tokens, {counting}, at the input price; an answer of {words} at the output price"

    def select(self, models: list[str]) -> Pricing:
        """The same for some of the models, in the given order."""
        unknown = [model for model in models if model not in self.models]
        if unknown:
            raise TableError(f"unknown model {listed(unknown)}; known are {listed(self.models)}")
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

    def _token_cost_usd(self, input_tokens: np.ndarray, output_tokens: np.ndarray) -> Float[np.ndarray, "queries models"]:
        """NaN for a model that the list has no price for: it may be one that is not asked."""
        assert self.prices is not None
        cost = np.full((len(input_tokens), len(self.models)), np.nan)
        columns = [column for column, model in enumerate(self.models) if model in self.prices]
        known = [self.models[column] for column in columns]
        tokens = (np.broadcast_to(one, cost.shape)[:, columns] for one in (input_tokens, output_tokens))
        cost[:, columns] = token_cost_usd(self.prices, known, *tokens)
        return cost

    def _rest(self) -> str:
        """For which models the head speaks."""
        assert self.head is not None
        means = [model for model, learned in zip(self.models, self.head.learned, strict=True) if not learned]
        return f"the mean for {listed(means)}" if means else "for every model"


@dataclass(frozen=True)
class CostModel:
    """Expected dollars of every model's answer to every prompt: a pricing, and the encoder that reads prompts for it."""

    pricing: Pricing
    encoder: Encoder | None = None
    """Counts tokens; None where the pricing holds means alone."""
    features: FeatureConfig | None = None
    """What learnt lengths, or costs, are read from."""
    output_tokens: float | None = None
    """Tokens that every answer is taken to have, in place of what training learnt."""

    @property
    def needs_features(self) -> bool:
        """Whether prompts have to be encoded for it."""
        return self.pricing.head is not None and self.output_tokens is None

    def expected_cost_usd(
        self,
        prompts: list[str],
        *,
        features: Float[np.ndarray, "queries features"] | None = None,
        read: Reader = prompt_features,
    ) -> tuple[Float[np.ndarray, "queries models"], str]:
        """Dollars, `(queries, models)`, and the assumption behind them in words; `features` saves reading the prompts again."""
        tokens = np.zeros(len(prompts), np.int64)
        if self.needs_features or self.pricing.prices is not None:
            assert self.encoder is not None
            tokens = self.encoder.count_tokens(prompts)
        if self.needs_features and features is None:
            assert self.encoder is not None and self.features is not None
            features = read(self.encoder, prompts, self.features).values
        return self.pricing.expected_cost_usd(tokens, features=features, output_tokens=self.output_tokens)

    def priced(self, prices: PriceList | None = None, *, output_tokens: float | None = None) -> CostModel:
        """At other prices, or with another expected length of answers. Raises `TableError` where tokens are not counted."""
        if prices is not None and self.encoder is None:
            raise TableError("prices are per token, and this router counts none: leave them out, and means are taken")
        if output_tokens is not None and not output_tokens >= 0:
            raise TableError(f"output_tokens={output_tokens} must be >= 0")
        if output_tokens is not None and prices is None and self.pricing.prices is None:
            raise TableError(f"output_tokens={output_tokens:g} needs prices per token: give a price list")
        if prices is not None:
            _check_magnitude(prices, self.pricing.prices)
        pricing = self.pricing if prices is None else replace(self.pricing, prices=prices)
        return replace(self, pricing=pricing, output_tokens=self.output_tokens if output_tokens is None else output_tokens)


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


def _check_magnitude(prices: PriceList, before: PriceList | None) -> None:
    """Raise `TableError` where all prices differ from those of training by a thousand or more: per token, not per million."""
    shared = [(prices[model].mean, known.mean) for model, known in (before or {}).items() if model in prices]
    ratios = [new / old for new, old in shared if new > 0 and old > 0]
    if ratios and (max(ratios) < 1e-3 or min(ratios) > 1e3):
        raise TableError(
            f"prices are {ratios[0]:.2g} times those that the checkpoint was trained with: give dollars per million tokens"
        )


COST_HEADS = ("length_head", "cost_head")


def described_pricing(pricing: Pricing) -> dict[str, Any]:
    """All but its heads, as JSON; the heads are in `pricing_arrays`."""
    return {
        "mean_cost_usd": pricing.mean_cost_usd,
        "prices": None if pricing.prices is None else price_entries(pricing.prices),
        "output_tokens": pricing.output_tokens,
        "input_ratio": pricing.input_ratio,
        "heads": [name for name in COST_HEADS if getattr(pricing, name) is not None],
    }


def pricing_arrays(pricing: Pricing) -> dict[str, np.ndarray]:
    """The numbers of its heads, by name."""
    heads = {name: head for name in COST_HEADS if (head := getattr(pricing, name)) is not None}
    return {f"{name}/{part}": getattr(head, part) for name, head in heads.items() for part in ARRAYS}


def restored_pricing(models: list[str], described: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Pricing:
    """What `described_pricing` and `pricing_arrays` say together."""
    prices = described["prices"]
    return Pricing(
        models=models,
        mean_cost_usd=described["mean_cost_usd"],
        prices=None if prices is None else {model: Price(**entry) for model, entry in prices.items()},
        output_tokens=described["output_tokens"],
        input_ratio=described["input_ratio"],
        **{name: CostHead(**{part: arrays[f"{name}/{part}"] for part in ARRAYS}) for name in described["heads"]},
    )


def misshapen_pricing(described: Any, models: Sequence[str]) -> list[str]:
    """Everything that is wrong with a description of a pricing for so many models."""
    if not isinstance(described, dict):
        return [f"pricing={described!r} must be an object"]
    problems = []
    for name in ("mean_cost_usd", "output_tokens", "input_ratio"):
        numbers = described.get(name)
        if numbers is None and name != "mean_cost_usd":
            continue
        if not isinstance(numbers, list) or len(numbers) != len(models):
            problems.append(f"pricing.{name} must be a list with a number for each of the {len(models)} models")
        elif not all(isinstance(number, int | float) and 0 <= number < math.inf for number in numbers):
            problems.append(f"pricing.{name} must hold numbers, finite and >= 0")
    heads = described.get("heads", [])
    if not isinstance(heads, list | dict) or not set(heads) <= set(COST_HEADS):
        problems.append(f"pricing.heads must name some of {', '.join(COST_HEADS)}")
    return problems
