"""Which headers pass, and which parts of a query: all but those of one connection, keys, cookies, and what we set ourselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from jaxroute.errors import shortened
from jaxroute.serve.refusals import Refused, invalid

OWN = "x-jaxroute-"
CONNECTION = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Of one connection (RFC 9110, section 7.6.1)."""
NOT_UP = CONNECTION | {
    "accept-encoding",
    "api-key",
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "openai-organization",
    "openai-project",
    "origin",
    "referer",
    "x-api-key",
    "x-real-ip",
}
"""The client's own key, account and place, and what is set anew."""
ONCE = {"authorization", "api-key", "content-length", "content-type", "host"}
"""That a request may have one of."""
NOT_DOWN = CONNECTION | {"alt-svc", "content-encoding", "content-length", "date", "server", "set-cookie"}
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
QUERY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*")
"""RFC 3986, section 3.4, and the brackets of lists, which OpenAI's clients send as they are."""
MOST_QUERY_BYTES = 8_192
NO_QUERY = ("api-key", "api_key", "apikey", "key", "access_token")
"""Keys in addresses: the client's own must not reach an endpoint."""
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Wishes:
    """What a client asks of routing, by the headers `x-jaxroute-max-cost-usd`, `-models` and `-minimum-quality`."""

    max_cost_usd: float | None = None
    """The most that all tries together may cost, dollars."""
    models: tuple[str, ...] | None = None
    """Only these."""
    minimum_quality: float | None = None
    """The cheapest model that is expected to reach it, in [0, 1]."""

    @staticmethod
    def read(headers: Mapping[str, str]) -> Wishes:
        """Raises `Refused` with status 400 for a wrong value."""
        listed = headers.get(f"{OWN}models")
        models = None if listed is None else tuple(name for one in listed.split(",") if (name := one.strip()))
        if models == ():
            raise invalid(f"{OWN}models is empty: give names of models with commas between them.", f"{OWN}models")
        return Wishes(
            max_cost_usd=_number(headers, f"{OWN}max-cost-usd", 9e6),
            models=models,
            minimum_quality=_number(headers, f"{OWN}minimum-quality", 1.0),
        )


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By lower-case name; of one that is there several times all values, with commas (RFC 9110, section 5.3).

    Raises `Refused` where one holds characters that end a line, or where a key or a wish is there twice: two readers might
    take different ones.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if CONTROL.search(raw_value):
            raise invalid(f"The header {shortened(name)} holds control characters.")
        if name in headers and (name in ONCE or name.startswith(OWN)):
            raise invalid(f"The header {shortened(name)} is there more than once.", name if name.startswith(OWN) else None)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def read_query(raw: bytes) -> str:
    """What follows the question mark and passes, as it was sent; keys do not pass. Raises `Refused` where it is no query."""
    if len(raw) > MOST_QUERY_BYTES:
        raise Refused(414, "query_too_long", f"The query of the address has more than {MOST_QUERY_BYTES:,} bytes.")
    if not QUERY.fullmatch(raw):
        raise invalid("The query of the address holds characters that must be percent-encoded.", code="invalid_query")
    pieces = raw.decode("ascii").split("&")
    return "&".join(one for one in pieces if unquote_plus(one.partition("=")[0]).lower() not in NO_QUERY)


def going_up(headers: Mapping[str, str], key: str | None, *, stream: bool) -> dict[str, str]:
    """What the endpoint gets."""
    passed = {
        name: value
        for name, value in headers.items()
        if name not in NOT_UP and not name.startswith((OWN, "x-forwarded-", "sec-"))
    }
    passed["content-type"] = "application/json"
    # Its usage is read while it passes.
    passed["accept-encoding"] = "identity"
    passed.setdefault("accept", "text/event-stream" if stream else "application/json")
    if key is not None:
        passed["authorization"] = f"Bearer {key}"
    return passed


def coming_down(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What the client gets of an endpoint's headers."""
    lowered = ((name.lower(), value) for name, value in raw)
    return [
        (name, value)
        for name, value in lowered
        if name.decode("latin-1") not in NOT_DOWN and not name.startswith(b"x-jaxroute-")
    ]


def _number(headers: Mapping[str, str], name: str, most: float) -> float | None:
    given = headers.get(name)
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise invalid(f"{name}={shortened(given)} must be a number from 0 to {most:,.0f}.", name)
    return value
