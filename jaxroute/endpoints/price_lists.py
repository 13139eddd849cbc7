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
OWN = ("input", "output", "cached_input", "reasoning")
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
    (1, OWN),
)
NEEDED = "needs input and output, dollars per million tokens, and at most cached_input and reasoning beside them"
ABOVE = re.compile(r"(?:input|output)_cost_per_token_above_(\d+)k_tokens")


def read_price_list(path: Path) -> dict[str, object]:
    """The entries of a JSON file by name, not looked at yet. Raises `EndpointError` where it holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else shortened(str(error), 200, quoted=False)
        raise EndpointError(f"{path} cannot be read as a price list: {reason}") from error
    if not isinstance(content, dict) or not content:
        raise EndpointError(f'{path} is not a price list: expected {{"model": {{"input": 0.2, "output": 0.6}}, ...}}')
    return content


def entry_price(entry: object, context_tokens: int | None) -> TokenPrice:
    """One entry, in any of the formats, for prompts of at most `context_tokens`.

    Further fields of a foreign format do not matter. Raises `EndpointError`.
    """
    if not isinstance(entry, Mapping):
        raise EndpointError(f"{shortened(entry)} {NEEDED}")
    for scale, names in FORMATS:
        if names[0] not in entry or names[1] not in entry:
            continue
        if names is OWN and (unknown := sorted(set(map(str, entry)) - set(OWN))):
            raise EndpointError(f"{shortened(entry)} {NEEDED}, but has {listed(unknown)}")
        _check_one_rate([int(k) * 1000 for k in ABOVE.findall(" ".join(entry))], context_tokens)
        values = [_number(entry, key, scale) for key in names]
        if values[0] is None or values[1] is None:
            break
        return TokenPrice(values[0], values[1], values[2], values[3])
    raise EndpointError(f"{shortened(entry)} {NEEDED}")


def listed_price(path: Path, content: Mapping[str, object], name: str, context_tokens: int | None) -> TokenPrice:
    """Of one model in the list that was read from `path`. Raises `EndpointError`."""
    if name not in content:
        near = difflib.get_close_matches(name, content, 3)
        hint = f"near it are {listed(near)}" if near else "give its price"
        raise EndpointError(f"{path.name} has no price of {shortened(name)}; {hint}")
    return entry_price(content[name], context_tokens)


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


def _number(entry: Mapping, key: str, scale: int) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EndpointError(f"{key}={shortened(value)} is not a number")
    # In decimals: 2e-07 dollars per token are 0.2 per million, not 0.19999999999999998.
    return float(Decimal(repr(value)) * scale) if scale > 1 else float(value)
