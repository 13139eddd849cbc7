"""What a conversation saves where it stays: the model that has read its beginning may have that in its prompt cache.

A request whose first messages are all the messages of an earlier one continues it. Its answer then costs, at the model of
the earlier request alone,

    c(q, warm) = c(q) - cached tokens x (input price - price of cached input)

for some minutes, as endpoints keep a prompt for about five. Nothing of a message is kept but a hash. Several workers have one
memory of them, since the next turn may come to another.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TOKENS_PER_PRICE
from jaxroute.endpoints.usage import Usage
from jaxroute.serve.asking import Asked
from jaxroute.serve.remembered import Remembered
from jaxroute.serve.shared import Shared, SharedRemembered

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
    """Seconds since 1970: the clock of all workers."""

    def saved_usd(self, endpoint: Endpoint) -> float:
        """What a request that continues it costs less there, dollars."""
        price = endpoint.price
        if endpoint.name != self.model or price.cached_input is None:
            return 0.0
        return self.tokens * max(0.0, price.input - price.cached_input) / TOKENS_PER_PRICE


class Conversations:
    """The latest ones, of a bounded number; `shared` is what all workers know."""

    def __init__(self, shared: Shared | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._warm: Remembered[str, Warm] | SharedRemembered[Warm] = Remembered(MOST_CONVERSATIONS)
        if shared is not None:
            self._warm = shared.remembered(
                "warm", MOST_CONVERSATIONS, lambda warm: json.dumps(asdict(warm)), lambda text: Warm(**json.loads(text))
            )

    def find(self, asked: Asked, client: str | None) -> Warm | None:
        """Who has read the longest beginning of what is asked."""
        marks = _marks(asked, client)[:-1]
        return self._warm.first(marks[::-1], lambda warm: warm.until > self._clock()) if marks else None

    def answered(self, asked: Asked, client: str | None, model: str, usage: Usage) -> None:
        """That model has read all that was asked."""
        marks = _marks(asked, client)
        if marks and usage.prompt_tokens:
            self._warm.put(marks[-1], Warm(model, usage.prompt_tokens, self._clock() + KEPT_SECONDS))


def _marks(asked: Asked, client: str | None) -> list[str]:
    """A hash of the first message, of the first two, and so on; of one client and one set of tools."""
    messages = asked.body.get("messages")
    if asked.kind != "chat" or not isinstance(messages, list) or len(messages) > MOST_MESSAGES:
        return []
    hashed = hashlib.sha256(json.dumps([client, asked.body.get("tools")]).encode())
    marks = []
    for message in messages:
        hashed.update(json.dumps(message, sort_keys=True).encode())
        marks.append(hashed.hexdigest())
    return marks
