"""A request for a chat completion: its body, and the most that it can cost before anybody has counted a token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from jaxroute.endpoints.models import Endpoint
from jaxroute.errors import EndpointError, listed, shortened

Prompt = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A text, a list of chat messages, or `{"messages": [...]}`."""
LIMITS = ("max_completion_tokens", "max_tokens")
TOOLS = ("tools", "functions")
OWN = ("model", "messages", "stream", "stream_options", "n")
NEWER = ("openai.com", "openai.azure.com")
"""Hosts whose newer models take `max_completion_tokens` and no `max_tokens`, which is what the others know."""
BYTES_PER_TOKEN = 4
"""Of ordinary text; a prompt that is longer than a model's context by this measure is not sent to it."""
TEMPLATE_TOKENS = 128
"""What an endpoint may write around the messages, such as a default system prompt with the date."""


@dataclass(frozen=True)
class Request:
    """One call, ready to be sent any number of times."""

    endpoint: Endpoint
    body: bytes
    """JSON."""
    output_tokens: int
    """The limit of the answer's length."""
    prompt_tokens: int
    """The prompt has no more; usually far fewer."""
    stream: bool

    @property
    def worst_case_usd(self) -> float:
        """Prompt tokens at the input price and the output limit at the output price, dollars."""
        return self.endpoint.price.worst_case_usd(self.prompt_tokens, self.output_tokens)


def build_request(
    endpoint: Endpoint,
    prompt: Prompt,
    *,
    output_tokens: int | None = None,
    options: Mapping[str, Any] | None = None,
    stream: bool = False,
) -> Request:
    """The request of that prompt; `options` are further fields of the body, such as `temperature` or `tools`.

    Raises `EndpointError` where the prompt is in no known form, or the worst case of its cost cannot be bounded.
    """
    options = dict(options or {})
    if wrong := [name for name in OWN if name in options]:
        raise EndpointError(f"options must not hold {wrong[0]}, which the client sets itself")
    given = [options.pop(name) for name in LIMITS if name in options]
    limit = next((one for one in (output_tokens, *given) if one is not None), endpoint.output_tokens)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise EndpointError(f"output_tokens={shortened(limit)} must be a whole number of at least 1")
    messages = _messages(prompt)
    if lacking := [one for one in needs(messages, options) if one not in endpoint.accepts]:
        raise EndpointError(
            f"{endpoint.name} does not accept {listed(lacking)}, which the request holds: choose another model, or list "
            "it in the model's accepts in models.yaml"
        )
    body = {"model": endpoint.model, "messages": messages, output_limit_name(endpoint): limit, **options}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise EndpointError(f"the request to {endpoint.name} is no JSON: {shortened(str(error), quoted=False)}") from error
    most = most_prompt_tokens(endpoint, len(text), texts_alone=all(_is_text(one.get("content")) for one in messages))
    if most is None:
        raise EndpointError(
            f"a prompt to {endpoint.name} holds images or other parts, whose tokens only context_tokens bounds: set it in "
            "models.yaml"
        )
    return Request(endpoint, text, limit, most, stream)


def longest_body(endpoint: Endpoint, output_tokens: int | None) -> int | None:
    """The most bytes of a request that fits into the context, by the measure of `exceeds_context`; None where any does."""
    if endpoint.context_tokens is None:
        return None
    return BYTES_PER_TOKEN * (endpoint.context_tokens - (output_tokens or endpoint.output_tokens))


def exceeds_context(request: Request, prompt: Prompt) -> str:
    """Why a request is too long for its model's context, by the measure of ordinary text; empty where it is not.

    Images have no such measure, so a request that holds some is not judged.
    """
    endpoint, size = request.endpoint, len(request.body) // BYTES_PER_TOKEN
    context = endpoint.context_tokens
    if context is None or size + request.output_tokens <= context or "images" in needs(prompt):
        return ""
    return (
        f"about {size:,} tokens and {request.output_tokens:,} of an answer exceed the context of {endpoint.name}, {context:,} "
        "tokens"
    )


def needs(prompt: Prompt, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What a model has to accept beside text to be asked this: some of `tools`, `images`, `json_schema`."""
    options = options or {}
    form = options.get("response_format")
    found = {
        "tools": any(options.get(name) for name in TOOLS),
        "images": not all(_is_text(one.get("content")) for one in _messages(prompt)),
        "json_schema": isinstance(form, Mapping) and form.get("type") in ("json_schema", "json_object"),
    }
    return tuple(name for name, needed in found.items() if needed)


def _messages(prompt: Prompt) -> list[Any]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, Mapping):
        prompt = prompt.get("messages", ())
    if isinstance(prompt, Sequence) and prompt and all(isinstance(one, Mapping) for one in prompt):
        return list(prompt)
    raise EndpointError(f"prompt={shortened(prompt)} is neither a text nor a list of chat messages")


def most_prompt_tokens(endpoint: Endpoint, size: int, *, texts_alone: bool) -> int | None:
    """The most tokens that a request's prompt can have, whose JSON has so many bytes; None where nothing bounds them.

    A token is at least one byte of UTF-8, in byte-level vocabularies and in those with bytes as a fallback; JSON's own marks
    around every message outweigh what templates put there. Images and the like have no such bound but the context's length.
    """
    context = endpoint.context_tokens
    if not texts_alone:
        return context
    most = size + TEMPLATE_TOKENS
    return most if context is None else min(most, context)


def output_limit_name(endpoint: Endpoint) -> str:
    """Which field limits the output tokens of a chat completion there."""
    host = urlsplit(endpoint.base_url).hostname or ""
    return LIMITS[0] if host.endswith(NEWER) else LIMITS[1]


def _is_text(content: object) -> bool:
    if isinstance(content, list):
        return all(isinstance(one, Mapping) and one.get("type") in ("text", "refusal") for one in content)
    return isinstance(content, str | None)
