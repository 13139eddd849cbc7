"""Price lists: dollars per million tokens in, dollars per query out; formats of their files, a check against known dollars."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Real

from jaxroute.endpoints.price_lists import entry_price, read_price_list
from jaxroute.endpoints.prices import MOST_USD_PER_MILLION, TOKENS_PER_PRICE
from jaxroute.errors import EndpointError, JaxrouteWarning, TableError, listed, shortened

MOST_WRONG = 12
MOST_NEAR = 20
LEAST_USD_PER_MILLION = 0.001
"""Every list has a model that costs more: a tenth of the lowest prices of hosted models."""
LARGEST_DIFFERENCE = 2.0
"""Powers of ten between tokens times prices and dollars that caching, hidden reasoning or discounts may explain."""
MOST_TOKENS = 10_000_000
"""No query is as long: ten times the longest context of current models."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens of a model's input and output."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output)):
            if not 0 <= value <= MOST_USD_PER_MILLION:
                raise TableError(f"price.{name}={value} must be from 0 to {MOST_USD_PER_MILLION:,} dollars per million tokens")

    @property
    def mean(self) -> float:
        """What serves as the one price where only one is known, or where tokens are not."""
        return (self.input + self.output) / 2


PriceList = Mapping[str, Price]
Entry = TypeVar("Entry")


def token_cost_usd(
    prices: PriceList,
    models: Iterable[str],
    input_tokens: Real[np.ndarray, "queries #models"],
    output_tokens: Real[np.ndarray, "queries #models"] | Real[np.ndarray, " models"],
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


def priced(prices: Mapping[str, Entry], models: Iterable[str]) -> list[Entry]:
    """The price of every model, in order; raises `TableError` naming the models that have none, and names near theirs."""
    models = list(models)
    missing = [model for model in models if model not in prices]
    if missing:
        near = dict.fromkeys(name for model in missing[:MOST_NEAR] for name in difflib.get_close_matches(model, prices, 2))
        named_near = bool(near) and len(prices) > MOST_NEAR
        others = f"near them are {listed(near)}" if named_near else f"the list has: {listed(prices) or 'nothing'}"
        raise TableError(f"no price for {listed(missing)}; {others}")
    return [prices[model] for model in models]


def load_prices(path: Path, models: Iterable[str] | None = None) -> dict[str, Price]:
    """A price list from JSON: `{"model": ENTRY, ...}`, where an entry is one of

        {"input": 0.2, "output": 0.6}                                                         dollars per million tokens;
                                                    `cached_input` and `reasoning` may stand beside them and are not read here
        {"input_cost_per_token": 2e-7, "output_cost_per_token": 6e-7, ...}                    LiteLLM's list, dollars per token
        {"input_token_price_per_million": 0.2, "output_token_price_per_million": 0.6, ...}    RouterArena's list

    With `models` only these are read, and wrong entries of others do not matter; they must all be there. Raises `TableError`
    naming everything that is wrong.
    """
    try:
        content = read_price_list(path)
    except EndpointError as error:
        raise TableError(str(error)) from error
    if models is not None:
        wanted = list(dict.fromkeys(models))
        try:
            # The values are looked at below: here only the names matter.
            priced(content, wanted)
        except TableError as error:
            raise TableError(f"{path}: {error}") from error
        content = {model: content[model] for model in wanted}
    prices, problems = {}, []
    for model, entry in content.items():
        try:
            # Of a price that rises with the length of the prompt, the one for short prompts.
            found = entry_price(entry, context_tokens=0)
            prices[model] = Price(found.input, found.output)
        except (EndpointError, OverflowError) as error:
            problems.append(f"{shortened(model, quoted=False)}: {error}")
    if problems:
        more = f"; and {len(problems) - MOST_WRONG:,} more" if len(problems) > MOST_WRONG else ""
        raise TableError(f"{path}: {'; '.join(problems[:MOST_WRONG])}{more}")
    highest = max(max(price.input, price.output) for price in prices.values())
    if 0 < highest < LEAST_USD_PER_MILLION:
        warnings.warn(
            f"{path}: its highest price is {highest:g} dollars per million tokens: are these dollars per token? "
            "Prices are to be given per million",
            JaxrouteWarning,
            stacklevel=2,
        )
    return prices


def check_against_dollars(
    prices: PriceList,
    models: Iterable[str],
    cost_usd: Float[np.ndarray, " models"],
    input_tokens: Float[np.ndarray, " models"] | None = None,
    output_tokens: Float[np.ndarray, " models"] | None = None,
) -> None:
    """Raise `TableError` where prices contradict known dollars by powers of ten, as prices per token do.

    All arrays are means per query and model, NaN where unknown; `cost_usd` in dollars. Without tokens, prices are wrong when
    the median model would have to take more than MOST_TOKENS per query, or less than one, to cost what it did.
    """
    models, cost = list(models), np.asarray(cost_usd, np.float64)
    chosen = priced(prices, models)
    counted = input_tokens is not None and output_tokens is not None
    if counted:
        expected = token_cost_usd(prices, models, np.asarray(input_tokens)[None], np.asarray(output_tokens)[None])[0]
    else:
        expected = np.array([price.mean for price in chosen])
    known = np.isfinite(cost) & np.isfinite(expected) & (cost > 0) & (expected > 0)
    if not known.any():
        return
    ratio = np.where(known, expected, 1.0) / np.where(known, cost, 1.0)
    # Half of the models decide: one model may have a price of its own that is wrong, or a discount.
    where = int(np.flatnonzero(known)[np.argsort(ratio[known])[known.sum() // 2]])
    low, high = (10.0**-LARGEST_DIFFERENCE, 10.0**LARGEST_DIFFERENCE) if counted else (TOKENS_PER_PRICE / MOST_TOKENS, 1e6)
    if low <= ratio[where] <= high:
        return
    if counted:
        reason = f"the tokens of a query give {expected[where]:.3g} dollars, and it cost {cost[where]:.3g}"
    else:
        reason = f"a query that cost {cost[where]:.3g} dollars would have had {TOKENS_PER_PRICE / ratio[where]:,.3g} tokens"
    power = 3 * round(math.log10(ratio[where]) / 3) if counted else 0
    likely = {-6: "they look like dollars per token", -3: "they look like dollars per thousand tokens"}
    unsure = "they may be dollars per token" if ratio[where] < low else "they are too high by powers of ten"
    at = f"at {chosen[where].input:g} and {chosen[where].output:g} dollars per million input and output tokens"
    raise TableError(
        f"the prices contradict the known dollars of {models[where]!r}: {at}, {reason}; {likely.get(power, unsure)}: "
        "give dollars per million tokens"
    )


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
