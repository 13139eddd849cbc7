"""What comes back from a call: an answer with its tokens and dollars, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxroute.endpoints.usage import Usage
from jaxroute.errors import EndpointError, shortened

REASONS = {
    "connect": "no connection in time",
    "rate_limit": "status 429",
    "server_error": "a status of 500 or more, or an error in place of the answer",
    "first_byte_timeout": "no byte of the answer in time",
    "between_bytes_timeout": "the answer stopped coming",
    "total_timeout": "one try took too long",
    "cut": "the connection closed before the answer ended",
    "malformed": "the answer is not in OpenAI's form",
    "unauthorized": "status 401 or 403: the key is wrong",
    "rejected": "another status: the request itself is wrong",
    "deadline": "the deadline over all tries passed while waiting",
    "budget": "the ledger has too little left for the call's worst case",
}
FINAL = ("unauthorized", "rejected", "deadline", "budget")
"""Reasons after which no further try helps."""
FREE = ("connect", "rate_limit", "server_error", "unauthorized", "rejected", "deadline", "budget")
"""Reasons of tries that cost nothing. After the others an answer may have been generated, so the worst case is spent."""
MOST_DETAIL = 300


@dataclass(frozen=True)
class Try:
    """One request."""

    reason: str
    """Why it failed, one of REASONS; empty for the one that was answered."""
    detail: str
    """What the endpoint said about it."""
    status: int | None
    """HTTP's; None where there was no response."""
    seconds: float
    """From its start to its end."""
    spent_usd: float
    """What counts as spent on it: the true cost, 0 where it was free, else its worst case."""


@dataclass(frozen=True)
class Answer:
    """What a model has answered."""

    model: str
    """Its name here."""
    text: str
    """The content of the message; empty where there is none, as with calls of tools alone."""
    finish_reason: str | None
    """`stop`, `length` (truncated), `content_filter`, `tool_calls`, or what else the endpoint says."""
    refusal: str | None
    """What the model says in place of an answer that it refuses, where the endpoint marks that."""
    tool_calls: tuple[Mapping[str, Any], ...]
    """In OpenAI's form."""
    log_probabilities: tuple[float, ...] | None
    """Of the tokens of the text, in nats; None where they were not offered."""
    usage: Usage
    """Tokens as the endpoint counted them."""
    cost_usd: float | None
    """True dollars of this answer alone; None where the endpoint has not counted its tokens, or not credibly."""
    latency_seconds: float
    """Of the try that was answered, from its start to the last byte."""
    first_byte_seconds: float
    """Of the same, to the first byte of the body: the first token of a stream."""
    tries: tuple[Try, ...]
    """All requests that it took; the last one was answered."""
    message: Mapping[str, Any] = field(repr=False, default_factory=dict)
    """The assistant's message in OpenAI's form, with all fields that the endpoint has sent."""

    @property
    def spent_usd(self) -> float:
        """What counts as spent on all tries, dollars: what the ledger was charged."""
        return sum(one.spent_usd for one in self.tries)


class CallFailed(EndpointError):
    """A call without an answer: `model`, `reason` (one of REASONS), and the `tries` it took."""

    def __init__(self, model: str, reason: str, detail: str, tries: tuple[Try, ...] = ()) -> None:
        said = f" ({shortened(detail, MOST_DETAIL, quoted=False)})" if detail else ""
        times = f" after {len(tries)} tries" if len(tries) > 1 else ""
        super().__init__(f"{shortened(model, quoted=False)} has not answered{times}: {reason}: {REASONS[reason]}{said}")
        self.model, self.reason, self.detail, self.tries = model, reason, detail, tries

    @property
    def spent_usd(self) -> float:
        """What counts as spent on all tries, dollars."""
        return sum(one.spent_usd for one in self.tries)
