"""Rows of a prompt file as requests: what is sent to a model, with the options of each row, and what a model must accept.

A row has a `prompt` (a text, or chat messages), `messages`, or the `body` of a request, as in OpenAI's batch files. Fields of a
body beside the messages are options of its request. Beside a prompt or messages, `tools`, `tool_choice` and `response_format`
are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.data.messages import prompt_field
from jaxroute.data.prompts import Prompts
from jaxroute.endpoints import Endpoint, build_request
from jaxroute.endpoints.requests import LIMITS, OWN, exceeds_context
from jaxroute.errors import EndpointError, PromptError, listed, shortened

OPTIONS = ("tools", "tool_choice", "response_format")
CHAT = "/v1/chat/completions"
SHOWN = 20


@dataclass(frozen=True)
class Asked:
    """One row as a request."""

    prompt: Any
    """A text, or chat messages."""
    options: Mapping[str, Any]
    """Further fields of the request."""
    output_tokens: int | None
    """The limit that the row itself sets."""

    @property
    def content(self) -> dict[str, Any]:
        """All that decides what is sent, beside the model."""
        return {"prompt": self.prompt, "options": dict(self.options), "output_tokens": self.output_tokens}


def read_asked(path: Path, prompts: Prompts, *, batch: bool = False) -> list[Asked]:
    """The requests of all rows; with `batch` as OpenAI's batch files must have them. Raises `PromptError` naming wrong rows."""
    found, wrong = [], []
    for number, fields in enumerate(prompts.fields, start=1):
        try:
            if batch:
                _check_line(fields)
            found.append(_asked(fields))
        except PromptError as error:
            wrong.append(f"row {number} {error}")
    if batch:
        counts = Counter(str(fields.get("custom_id")) for fields in prompts.fields)
        if twice := [name for name, count in counts.items() if count > 1]:
            wrong.append(f"custom_id must be there once: {listed(twice)}")
    if wrong:
        more = f"\n  - and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        lines = "".join(f"\n  - {one}" for one in wrong[:SHOWN])
        raise PromptError(f"prompts={str(path)!r} cannot be asked:{lines}{more}")
    return found


def worst_cases(
    asked: Sequence[Asked], endpoints: Mapping[str, Endpoint], output_tokens: int | None
) -> tuple[Float[np.ndarray, "queries models"], Bool[np.ndarray, "queries models"], dict[int, str]]:
    """The most dollars of every answer, which models can answer which row, and for rows that none can, why.

    A model cannot where it does not accept the row's tools, images or schema, or where the row exceeds its context.
    """
    worst = np.zeros((len(asked), len(endpoints)))
    available = np.zeros(worst.shape, bool)
    reasons: dict[int, str] = {}
    for row, one in enumerate(asked):
        lacking = []
        for column, endpoint in enumerate(endpoints.values()):
            try:
                limit = one.output_tokens or output_tokens
                request = build_request(endpoint, one.prompt, output_tokens=limit, options=one.options)
            except EndpointError as error:
                lacking.append(str(error))
                continue
            if too_long := exceeds_context(request, one.prompt):
                lacking.append(too_long)
                continue
            worst[row, column], available[row, column] = request.worst_case_usd, True
        if len(lacking) == len(endpoints):
            reasons[row] = lacking[0]
    return worst, available, reasons


def _check_line(fields: Mapping[str, Any]) -> None:
    """One line of an OpenAI batch file."""
    custom_id = fields.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise PromptError(f"has custom_id={shortened(custom_id)}, not a text")
    if fields.get("method", "POST") != "POST" or fields.get("url", CHAT) != CHAT:
        raise PromptError(
            f"asks for {shortened(fields.get('method'))} {shortened(fields.get('url'))}; only POST {CHAT} is known"
        )
    if not isinstance(fields.get("body"), Mapping):
        raise PromptError("has no body, an object with messages")


def _asked(fields: Mapping[str, Any]) -> Asked:
    field = prompt_field(fields)
    value = fields.get(field)
    if field != "prompt" and isinstance(value, str):
        value = json.loads(value)
    options = {name: fields[name] for name in OPTIONS if fields.get(name)}
    if field == "body":
        assert isinstance(value, Mapping)
        body, value = value, next(value[name] for name in ("messages", "input", "prompt") if value.get(name))
        options = {name: one for name, one in body.items() if name not in (*OWN, "input", "prompt") and one is not None}
        if body.get("n") not in (None, 1):
            raise PromptError(f"asks for n={shortened(body['n'])} answers; one is given")
    limits = [options.pop(name) for name in LIMITS if name in options]
    limit = limits[0] if limits else None
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise PromptError(f"has the limit {shortened(limit)} of output tokens, not a whole number of at least 1")
    if isinstance(value, Mapping):
        value = value["messages"]
    return Asked(value, options, limit)
