"""What a request asks for: the little that routing and money need to know of it; the rest is passed on unread.

chat         /v1/chat/completions    messages, tools, response_format, max_completion_tokens or max_tokens, n
completion   /v1/completions         prompt, max_tokens, n, best_of
response     /v1/responses           input, instructions, tools, text.format, max_output_tokens
embedding    /v1/embeddings          input
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jaxroute.data.messages import prompt_text
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.requests import TOOLS, most_prompt_tokens, output_limit_name
from jaxroute.errors import PromptError, shortened
from jaxroute.serve.bodies import BadBody, Body
from jaxroute.serve.refusals import invalid

Kind = Literal["chat", "completion", "response", "embedding"]
AUTO = "auto"
TEXTS = ("text", "refusal", "input_text", "output_text", "summary_text", "reasoning_text")
"""Types of the parts of a message that hold nothing but text."""
LIMITS: dict[Kind, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completion": ("max_tokens",),
    "response": ("max_output_tokens",),
    "embedding": (),
}
MOST_ANSWERS = 1_000
MOST_OUTPUT_TOKENS = 1_000_000_000
TEXT_BYTES_PER_TOKEN = 6
"""Of the longest tokens on average: a prompt of more bytes than this for every token of a context does not fit into it."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One request, checked."""

    kind: Kind
    body: Body
    model: str
    """As the client calls it: a model's name here, or `auto`."""
    stream: bool
    with_usage: bool
    """Whether the client itself asks for the usage of a stream."""
    usage_options: str | None
    """`stream_options` in which it is asked for, as JSON; None where that is not needed."""
    output_tokens: int | None
    """The limit of an answer that the client gives, None where it gives none."""
    answers: int
    """How many are generated: `n`, or `best_of`, times the prompts of a completion."""
    needs: tuple[str, ...]
    """What a model has to accept beside text: some of `tools`, `images`, `json_schema`."""
    texts_alone: bool
    """Whether the bytes of the request bound the tokens of its prompt."""

    @staticmethod
    def read(kind: Kind, data: bytes) -> Asked:
        """From the bytes of a request. Raises `Refused` with status 400 for what is not in OpenAI's form."""
        try:
            body = Body(data)
        except BadBody as error:
            raise invalid(f"The body is no JSON request: {error}.", code="invalid_json") from None
        model = body.get("model")
        if not isinstance(model, str) or not model.strip():
            raise invalid(f"model={shortened(model)} must be the name of a model, or {AUTO!r}.", "model")
        stream = body.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise invalid(f"stream={shortened(stream)} must be true or false.", "stream")
        options = body.get("stream_options")
        if options is not None and not isinstance(options, Mapping):
            raise invalid(f"stream_options={shortened(options)} must be an object.", "stream_options")
        with_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        prompts = _check_prompt(kind, body)
        parts = list(_parts(body.get("input" if kind == "response" else "messages")))
        texts_alone = all(_is_text(part) for part in parts) and not _continues(kind, body)
        return Asked(
            kind=kind,
            body=body,
            model=model,
            stream=stream is True,
            with_usage=with_usage,
            usage_options=_usage_options(body) if stream and not with_usage and kind in ("chat", "completion") else None,
            output_tokens=_output_limit(kind, body),
            answers=prompts * _answers(kind, body),
            needs=_needs(kind, body, images=any(not _is_text(part) for part in parts)),
            texts_alone=texts_alone,
        )

    @cached_property
    def prompt(self) -> str:
        """The text by which it is routed; empty where there is none, as with numbers of tokens or images alone."""
        given = self.body.get({"chat": "messages", "completion": "prompt"}.get(self.kind, "input"))
        instructions = self.body.get("instructions")
        try:
            if isinstance(instructions, str):
                turns = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
                return prompt_text([{"role": "system", "content": instructions}, *turns])
            return prompt_text(given)
        except PromptError:
            # Parts and roles that are not known yet are passed on; what they hold of text is enough to route by.
            texts = [instructions] if isinstance(instructions, str) else []
            joined = "\n".join([*texts, *_texts(given)])
            return joined.encode(errors="replace").decode()

    @property
    def continues(self) -> bool:
        """Whether it continues what one endpoint has stored, which no other knows."""
        return _continues(self.kind, self.body)

    def limit(self, endpoint: Endpoint) -> int:
        """The most tokens of each answer of that model."""
        if self.kind == "embedding":
            return 0
        return endpoint.output_tokens if self.output_tokens is None else self.output_tokens

    def worst_case_usd(self, endpoint: Endpoint) -> float | None:
        """The most that it can cost there, dollars; None where nothing bounds the tokens of its prompt."""
        most = most_prompt_tokens(endpoint, self.body.size, texts_alone=self.texts_alone)
        return None if most is None else endpoint.price.worst_case_usd(most, self.answers * self.limit(endpoint))

    def fits(self, endpoint: Endpoint) -> bool:
        """Whether that model accepts what the request holds, as far as that can be known before tokens are counted."""
        if any(need not in endpoint.accepts for need in self.needs):
            return False
        if endpoint.context_tokens is None:
            return True
        least = len(self.prompt.encode()) // TEXT_BYTES_PER_TOKEN
        return least + (self.output_tokens or 0) <= endpoint.context_tokens

    def bytes_for(self, endpoint: Endpoint, *, limited: bool) -> bytes:
        """The body as that endpoint gets it: with its own name of the model, the usage of a stream asked for, and, where
        `limited` and the client gave none, the model's limit of output tokens, without which no cost is bounded."""
        changes = {"model": json.dumps(endpoint.model)}
        if self.usage_options is not None:
            changes["stream_options"] = self.usage_options
        if limited and self.output_tokens is None and self.kind != "embedding":
            name = output_limit_name(endpoint) if self.kind == "chat" else LIMITS[self.kind][0]
            changes[name] = str(endpoint.output_tokens)
        return self.body.written(changes)


def _usage_options(body: Body) -> str:
    try:
        return body.with_member("stream_options", "include_usage", "true")
    except BadBody as error:
        raise invalid(f"stream_options is no JSON object: {error}.", "stream_options") from None


def _check_prompt(kind: Kind, body: Body) -> int:
    """Raise `Refused` where nothing is asked; returns how many prompts there are."""
    name = {"chat": "messages", "completion": "prompt"}.get(kind, "input")
    given = body.get(name)
    if kind == "chat":
        if not isinstance(given, list) or not given:
            raise invalid(f"messages={shortened(given)} must be a list of at least one message.", "messages")
        if wrong := [number for number, one in enumerate(given) if not isinstance(one, Mapping)]:
            raise invalid(f"messages[{wrong[0]}] must be an object.", f"messages[{wrong[0]}]")
        return 1
    if kind == "response" and given is None and isinstance(body.get("prompt"), Mapping):
        return 1
    if not isinstance(given, str | list) or not given:
        raise invalid(f"{name}={shortened(given)} must be a text or a list that is not empty.", name)
    several = kind == "completion" and isinstance(given, list) and not all(isinstance(one, int) for one in given)
    return len(given) if several else 1


def _output_limit(kind: Kind, body: Body) -> int | None:
    limits = []
    for name in LIMITS[kind]:
        value, least = body.get(name), 0 if kind == "completion" else 1
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_OUTPUT_TOKENS:
            raise invalid(f"{name}={shortened(value)} must be a whole number of at least {least}.", name)
        limits.append(value)
    return max(limits, default=None)


def _answers(kind: Kind, body: Body) -> int:
    counts = [1]
    for name in {"chat": ("n",), "completion": ("n", "best_of")}.get(kind, ()):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ANSWERS:
            raise invalid(f"{name}={shortened(value)} must be a whole number from 1 to {MOST_ANSWERS:,}.", name)
        counts.append(value)
    return max(counts)


def _needs(kind: Kind, body: Body, *, images: bool) -> tuple[str, ...]:
    form = body.get("response_format")
    if kind == "response":
        text = body.get("text")
        form = text.get("format") if isinstance(text, Mapping) else None
    found = {
        "tools": any(body.get(name) for name in TOOLS),
        "images": images,
        "json_schema": isinstance(form, Mapping) and form.get("type") in ("json_schema", "json_object"),
    }
    return tuple(name for name, needed in found.items() if needed)


def _continues(kind: Kind, body: Body) -> bool:
    """Whether a part of the prompt is stored at an endpoint: an earlier response, a conversation, a template, an item."""
    if kind != "response":
        return False
    given = body.get("input")
    items = given if isinstance(given, list) else ()
    stored = any(body.get(name) is not None for name in ("previous_response_id", "conversation", "prompt"))
    return stored or any(isinstance(one, Mapping) and one.get("type") == "item_reference" for one in items)


def _parts(messages: Any) -> Iterator[Any]:
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        yield from content if isinstance(content, list) else ()


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and part.get("type") in TEXTS)


def _texts(given: Any, depth: int = 0) -> Iterator[str]:
    """All texts in the contents of messages, of whatever form."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping) and depth < 8:
        for name in ("content", "text", "output", "arguments"):
            yield from _texts(given.get(name), depth + 1)
    elif isinstance(given, Sequence) and depth < 8:
        for one in given:
            yield from _texts(one, depth + 1)


def ends(text: str, most: int) -> str:
    """The first and the last half of `most` characters; a shorter text as it is."""
    return text if len(text) <= most else text[: most - most // 2] + text[len(text) - most // 2 :]
