"""Price lists: dollars per million tokens in, dollars per query out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxroute.costs import CostHead
from jaxroute.errors import TableError
from jaxroute.table import RoutingTable

TOKENS_PER_PRICE = 1_000_000
DEFAULT_OUTPUT_TOKENS = 256.0
"""Expected length of an answer where nothing is known of it."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens of a model's input and output."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output)):
            if not (math.isfinite(value) and value >= 0):
                raise TableError(f"price.{name}={value} must be finite and >= 0 dollars per million tokens")

    @property
    def mean(self) -> float:
        """What stands for one price where only one is known, or where tokens are not."""
        return (self.input + self.output) / 2


PriceList = Mapping[str, Price]


def token_cost_usd(
    prices: PriceList,
    models: Iterable[str],
    input_tokens: Float[np.ndarray, "queries models"] | Float[np.ndarray, "queries 1"],
    output_tokens: Float[np.ndarray, "queries models"] | Float[np.ndarray, " models"],
) -> Float[np.ndarray, "queries models"]:
    """(input tokens x input price + output tokens x output price) / 10^6, in dollars per query."""
    chosen = priced(prices, models)
    input_price = np.array([price.input for price in chosen])
    output_price = np.array([price.output for price in chosen])
    return (np.asarray(input_tokens) * input_price + np.asarray(output_tokens) * output_price) / TOKENS_PER_PRICE


FLAT_COST_NOTE = "costs are mean prices, as if every query were one million tokens"


def flat_cost_usd(prices: PriceList, models: Iterable[str]) -> Float[np.ndarray, " models"]:
    """Each model's mean price, as if every query were one million tokens: for outcomes without token counts."""
    return np.array([price.mean for price in priced(prices, models)])


def priced(prices: PriceList, models: Iterable[str]) -> list[Price]:
    """The price of every model, in order; raises `TableError` naming all models that have none."""
    models = list(models)
    missing = [model for model in models if model not in prices]
    if missing:
        raise TableError(f"no price for {', '.join(missing)}; the list has: {', '.join(prices) or 'nothing'}")
    return [prices[model] for model in models]


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
    """What the outcomes of `table`, with a price list or without, say about costs."""
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


def load_prices(path: Path) -> dict[str, Price]:
    """Read `{"model": {"input": 0.2, "output": 0.6}, ...}`, dollars per million tokens; lists all that is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path} cannot be read as a price list: {error}") from error
    if not isinstance(content, dict) or not content:
        raise TableError(f'{path} is not a price list: expected {{"model": {{"input": 0.2, "output": 0.6}}, ...}}')
    prices, problems = {}, []
    for model, entry in content.items():
        if not isinstance(entry, dict) or set(entry) != {"input", "output"}:
            problems.append(f"{model}: {entry!r} needs exactly input and output")
        elif any(isinstance(number, bool) or not isinstance(number, int | float) for number in entry.values()):
            problems.append(f"{model}: {entry!r} must hold numbers")
        else:
            try:
                prices[model] = Price(**entry)
            except (TableError, OverflowError) as error:
                problems.append(f"{model}: {error}")
    if problems:
        raise TableError(f"{path}: " + "; ".join(problems))
    return prices


def price_entries(prices: PriceList) -> dict[str, dict[str, float]]:
    """The price list as `load_prices` reads it."""
    return {model: asdict(price) for model, price in prices.items()}


def _both(value: float) -> Price:
    return Price(input=value, output=value)


# Routoo (arXiv:2401.13979), Table 1: 7B and 8B models 0.2, Mixtral 8x7B 0.6, GPT-4 Turbo 20 dollars per million tokens.
ROUTOO_TABLE_1: PriceList = {
    "mistralai/Mistral-7B-v0.1": _both(0.2),
    "meta-math/MetaMath-Mistral-7B": _both(0.2),
    "itpossible/Chinese-Mistral-7B-v0.1": _both(0.2),
    "HuggingFaceH4/zephyr-7b-beta": _both(0.2),
    "cognitivecomputations/dolphin-2.6-mistral-7b": _both(0.2),
    "meta-llama/Meta-Llama-3-8B": _both(0.2),
    "cognitivecomputations/dolphin-2.9-llama3-8b": _both(0.2),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": _both(0.6),
    "gpt-4-1106-preview": _both(20.0),
}
