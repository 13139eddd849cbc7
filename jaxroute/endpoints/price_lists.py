"""Published price lists, of which only the models that are named are read: LiteLLM's, RouterArena's, and genai-prices.

- LiteLLM's `model_prices_and_context_window.json`: dollars per token, `input_cost_per_token`, `output_cost_per_token`,
  `cache_read_input_token_cost` and `output_cost_per_reasoning_token`.
- RouterArena's `cost.json`: dollars per million tokens, `input_token_price_per_million` and `output_token_price_per_million`.
- `{"input": 0.2, "output": 0.6}`: dollars per million tokens, with `cached_input` and `reasoning` where they differ.
- The Python package genai-prices, which finds the provider by the address of the endpoint.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from jaxroute.endpoints.prices import TOKENS_PER_PRICE, TokenPrice
from jaxroute.errors import EndpointError, listed, shortened

GENAI = "genai-prices"
# Per format: dollars per million tokens of one unit, and the names of input, output, cached input and reasoning.
FORMATS: tuple[tuple[int, tuple[str, str, str, str]], ...] = (
    (
        TOKENS_PER_PRICE,
        (
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_read_input_token_cost",
            "output_cost_per_reasoning_token",
        ),
    ),
    (1, ("input_token_price_per_million", "output_token_price_per_million", "", "")),
    (1, ("input", "output", "cached_input", "reasoning")),
)
ABOVE = re.compile(r"(?:input|output)_cost_per_token_above_(\d+)k_tokens")


class PriceList:
    """A JSON file; `price(name)` raises `EndpointError` where that model has none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else shortened(str(error), 200, quoted=False)
            raise EndpointError(f"{path} cannot be read as a price list: {reason}") from error
        if not isinstance(content, dict) or not content:
            raise EndpointError(f'{path} is not a price list: expected {{"model": {{"input": 0.2, "output": 0.6}}, ...}}')
        self.content: Mapping[str, object] = content

    def price(self, name: str, context_tokens: int | None) -> TokenPrice:
        """Of one model, whose prompts have at most `context_tokens`."""
        if name not in self.content:
            near = difflib.get_close_matches(name, self.content, 3)
            hint = f"near it are {listed(near)}" if near else "give its price"
            raise EndpointError(f"{self.path.name} has no price of {shortened(name)}; {hint}")
        entry = self.content[name]
        if not isinstance(entry, Mapping):
            raise EndpointError(f"{self.path.name} has {shortened(entry)} for {shortened(name)}, not an object")
        for scale, (first, second, cached, reasoning) in FORMATS:
            if first in entry and second in entry:
                _check_one_rate([int(k) * 1000 for k in ABOVE.findall(" ".join(entry))], context_tokens)
                values = [_number(entry, key, scale, name) for key in (first, second, cached, reasoning)]
                return TokenPrice(values[0] or 0.0, values[1] or 0.0, values[2], values[3])
        raise EndpointError(f"{self.path.name} has no prices of input and output tokens for {shortened(name)}")


def genai_price(name: str, base_url: str, context_tokens: int | None) -> TokenPrice:
    """From the package genai-prices: `MODEL` at the provider whose address it is, or `PROVIDER/MODEL`."""
    try:
        from genai_prices import Usage, calc_price
        from genai_prices.types import TieredPrices
    except ImportError as error:
        raise EndpointError(f"prices: {GENAI} needs that package: pip install 'jaxroute[prices]'") from error
    try:
        try:
            found = calc_price(Usage(input_tokens=1), name, provider_api_url=base_url)
        except LookupError:
            provider, slash, model = name.partition("/")
            if not slash:
                raise
            found = calc_price(Usage(input_tokens=1), model, provider_id=provider)
    except LookupError as error:
        raise EndpointError(
            f"{GENAI} has no price of {shortened(name)} at this base_url: give price_name: PROVIDER/MODEL, or its price"
        ) from error
    rates = found.model_price
    values: list[float | None] = []
    for key in ("input_mtok", "output_mtok", "cache_read_mtok", "output_reasoning_mtok"):
        rate = getattr(rates, key, None)
        if isinstance(rate, TieredPrices):
            _check_one_rate([tier.start for tier in rate.tiers], context_tokens)
            rate = rate.base
        values.append(None if rate is None else float(rate))
    if values[0] is None or values[1] is None:
        raise EndpointError(f"{GENAI} has no prices of input and output tokens for {shortened(name)}")
    return TokenPrice(values[0], values[1], values[2], values[3])


def _check_one_rate(starts: list[int], context_tokens: int | None) -> None:
    """Prices that rise with the length of the prompt: a call's worst case would depend on it."""
    if starts and (context_tokens is None or context_tokens > min(starts)):
        raise EndpointError(
            f"its price rises from {min(starts):,} tokens on: set context_tokens to at most {min(starts)}, or give its price"
        )


def _number(entry: Mapping, key: str, scale: int, name: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EndpointError(f"{key}={shortened(value)} of {shortened(name)} is not a number")
    # In decimals: 2e-07 dollars per token are 0.2 per million, not 0.19999999999999998.
    return float(Decimal(repr(value)) * scale)
