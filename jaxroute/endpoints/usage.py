"""How many tokens a call took, as the endpoint counted them; what it does not report is None, and 0 is a count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 100_000_000
"""No call has as many: a hundred times the longest contexts."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call; each None where the endpoint does not report it."""

    prompt_tokens: int | None = None
    """Of the prompt, cached ones among them."""
    cached_tokens: int | None = None
    """Of the prompt, that the endpoint had cached."""
    completion_tokens: int | None = None
    """Of the answer, reasoning among them."""
    reasoning_tokens: int | None = None
    """Of the answer, that were reasoning and are not in its text."""
    wrong: str = ""
    """Why the endpoint's counts are not to be believed, and so are None here; empty where they are."""


def read_usage(usage: object, output_limit: int | None = None) -> Usage:
    """The counts of a `usage` object of OpenAI's form.

    Counts that cannot be (negative, no whole numbers, a part larger than the whole, an answer longer than `output_limit`
    allows) give a `Usage` without any, whose `wrong` says why: what the call cost is then unknown.
    """
    if not isinstance(usage, Mapping):
        return Usage()
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    cached = _part(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _part(usage, "completion_tokens_details", "reasoning_tokens")
    counts = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion, "reasoning_tokens": reasoning}
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_TOKENS):
            return Usage(wrong=f"{name} is no count of tokens")
    if (cached or 0) > (prompt or 0):
        return Usage(wrong="more cached_tokens than prompt_tokens")
    if (reasoning or 0) > (completion or 0):
        return Usage(wrong="more reasoning_tokens than completion_tokens")
    if output_limit is not None and (completion or 0) > output_limit:
        return Usage(wrong=f"more completion_tokens than the {output_limit:,} that were allowed")
    if prompt == 0:
        return Usage(wrong="no prompt_tokens at all")
    return Usage(prompt, cached, completion, reasoning)


def _part(usage: Mapping[str, Any], details: str, name: str) -> Any:
    inner = usage.get(details)
    return inner.get(name) if isinstance(inner, Mapping) else None
