"""What a conversation saves where it stays: the model that has read its beginning may have that in its prompt cache.

A request whose first messages are all the messages of an earlier one continues it. Its answer then costs, at the model of
the earlier request alone,

    c(q, warm) = c(q) - cached tokens x (input price - price of cached input)

for some minutes, as endpoints keep a prompt for about five. Nothing of a message is kept but a hash.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TOKENS_PER_PRICE
from jaxroute.endpoints.usage import Usage
from jaxroute.serve.asking import Asked
from jaxroute.serve.remembered import Remembered

KEPT_SECONDS = 300.0
MOST_CONVERSATIONS = 20_000
MOST_MESSAGES = 200
"""Of which a beginning is looked for."""


@dataclass(frozen=True)
class Warm:
    """A model that has read the beginning of a conversation."""

    model: str
    tokens: int
    """Of that beginning."""
    until: float
    """By the clock of `Conversations`."""

    def saved_usd(self, endpoint: Endpoint) -> float:
        """What a request that continues it costs less there, dollars."""
        price = endpoint.price
        if endpoint.name != self.model or price.cached_input is None:
            return 0.0
        return self.tokens * max(0.0, price.input - price.cached_input) / TOKENS_PER_PRICE


class Conversations:
    """The latest ones, of a bounded number."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._warm: Remembered[bytes, Warm] = Remembered(MOST_CONVERSATIONS)

    def find(self, asked: Asked, client: str | None) -> Warm | None:
        """Who has read the longest beginning of what is asked."""
        if len(self._warm) == 0:
            return None
        for mark in reversed(_marks(asked, client)[:-1]):
            warm = self._warm.get(mark)
            if warm is not None and warm.until > self._clock():
                return warm
        return None

    def answered(self, asked: Asked, client: str | None, model: str, usage: Usage) -> None:
        """That model has read all that was asked."""
        marks = _marks(asked, client)
        if marks and usage.prompt_tokens:
            self._warm.put(marks[-1], Warm(model, usage.prompt_tokens, self._clock() + KEPT_SECONDS))


def _marks(asked: Asked, client: str | None) -> list[bytes]:
    """A hash of the first message, of the first two, and so on; of one client and one set of tools."""
    messages = asked.body.get("messages")
    if asked.kind != "chat" or not isinstance(messages, list) or len(messages) > MOST_MESSAGES:
        return []
    hashed = hashlib.sha256(json.dumps([client, asked.body.get("tools")]).encode())
    marks = []
    for message in messages:
        hashed.update(json.dumps(message, sort_keys=True).encode())
        marks.append(hashed.digest())
    return marks
