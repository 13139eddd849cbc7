"""Endpoints that answer in OpenAI's wire format: one client that asks them, and the ledger that counts the money.

- `models.py` reads `models.yaml`, `price_lists.py` the price lists that it names.
- `client.py` asks one model one prompt. Retries, time-outs, limits, and the reading of answers have files of their own.
- `ledger.py` holds the budget. Dollars that are reserved or spent are counted there and nowhere else.
- `answer_store.py` keeps every answer that was paid for beside the ledger, so that nothing is asked or paid twice.

Nothing here knows a table of outcomes, a router or an assignment; which model to ask is decided above. To add another wire
format, write a reader of its answers beside `wire.py`. To add another format of price lists, add it to `price_lists.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxroute.exports import exported

if TYPE_CHECKING:
    from jaxroute.endpoints.answer_store import AnswerStore
    from jaxroute.endpoints.answers import Answer, CallFailed, Try
    from jaxroute.endpoints.client import Client, ClientConfig, Stream
    from jaxroute.endpoints.ledger import Ledger
    from jaxroute.endpoints.models import Endpoint, load_models, read_keys
    from jaxroute.endpoints.money import Reservation, Totals
    from jaxroute.endpoints.prices import TokenPrice
    from jaxroute.endpoints.requests import Prompt, Request, build_request, needs
    from jaxroute.endpoints.stored_answers import STORED_REASONS, StoredAnswer
    from jaxroute.endpoints.usage import Usage, read_usage

# Where each name lives. It is imported when it is first asked for: a process that only counts money loads no HTTP and no YAML.
_HOMES = {
    "Answer": "answers",
    "AnswerStore": "answer_store",
    "CallFailed": "answers",
    "Try": "answers",
    "Client": "client",
    "ClientConfig": "client",
    "Stream": "client",
    "Ledger": "ledger",
    "Reservation": "money",
    "Totals": "money",
    "Endpoint": "models",
    "load_models": "models",
    "read_keys": "models",
    "TokenPrice": "prices",
    "Prompt": "requests",
    "Request": "requests",
    "build_request": "requests",
    "needs": "requests",
    "STORED_REASONS": "stored_answers",
    "StoredAnswer": "stored_answers",
    "Usage": "usage",
    "read_usage": "usage",
}

__all__ = [
    "STORED_REASONS",
    "Answer",
    "AnswerStore",
    "CallFailed",
    "Client",
    "ClientConfig",
    "Endpoint",
    "Ledger",
    "Prompt",
    "Request",
    "Reservation",
    "StoredAnswer",
    "Stream",
    "TokenPrice",
    "Totals",
    "Try",
    "Usage",
    "build_request",
    "load_models",
    "needs",
    "read_keys",
    "read_usage",
]


__getattr__ = exported(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
