"""Price lists: dollars per million tokens in, dollars per query out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxroute.errors import TableError

TOKENS_PER_PRICE = 1_000_000


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
