"""What a call costs: dollars per million tokens, by kind of token, times what the endpoint has counted.

In OpenAI's usage, cached tokens are a part of the prompt's and reasoning tokens a part of the completion's:

    cost = [(prompt - cached) input + cached cached_input + (completion - reasoning) output + reasoning reasoning_price] / 10^6
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxroute.endpoints.usage import Usage
from jaxroute.errors import EndpointError

TOKENS_PER_PRICE = 1_000_000
MOST_USD_PER_MILLION = 1_000_000
"""A dollar per token: no model costs as much."""


@dataclass(frozen=True)
class TokenPrice:
    """Dollars per million tokens of each kind."""

    input: float
    """Of the prompt."""
    output: float
    """Of the answer."""
    cached_input: float | None = None
    """Of the part of the prompt that the endpoint had cached; None: as `input`."""
    reasoning: float | None = None
    """Of hidden reasoning; None: as `output`."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "reasoning"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST_USD_PER_MILLION:
                raise EndpointError(
                    f"price.{name}={value} must be from 0 to {MOST_USD_PER_MILLION:,} dollars per million tokens"
                )

    def cost_usd(self, usage: Usage) -> float | None:
        """Dollars of a call; None where the endpoint has not counted its tokens."""
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        cached, reasoning = usage.cached_tokens or 0, usage.reasoning_tokens or 0
        cached_price = self.input if self.cached_input is None else self.cached_input
        reasoning_price = self.output if self.reasoning is None else self.reasoning
        return (
            (usage.prompt_tokens - cached) * self.input
            + cached * cached_price
            + (usage.completion_tokens - reasoning) * self.output
            + reasoning * reasoning_price
        ) / TOKENS_PER_PRICE

    def worst_case_usd(self, prompt_tokens: int, output_tokens: int) -> float:
        """The most that a call with at most so many tokens can cost, dollars."""
        into = max(self.input, self.cached_input or 0.0)
        out = max(self.output, self.reasoning or 0.0)
        return (prompt_tokens * into + output_tokens * out) / TOKENS_PER_PRICE
