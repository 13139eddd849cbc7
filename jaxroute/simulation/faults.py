"""What can go wrong with an endpoint, on demand: by rates, by a request's header, or in the order that a test gives.

With rates, whether a request fails depends on the seed, the model, the prompt, and how often that prompt was asked, so that a
run can be repeated and a second try may succeed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxroute.errors import EndpointError, listed, shortened

HEADER = "x-simulated-fault"
KINDS = {
    "rate_limit": "status 429 with Retry-After",
    "server_error": "status 500",
    "slow_first_byte": "the first byte comes late",
    "cut": "the connection closes in the middle of the answer",
    "malformed": "the answer is no JSON",
    "wrong_usage": "the counts of tokens are missing, negative or far too large",
}
SECONDS = {"rate_limit": 1.0, "slow_first_byte": 5.0}
"""Until a retry is allowed, and until the first byte, where no seconds are given."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    """One of KINDS."""
    seconds: float = 0.0
    """Of Retry-After, or until the first byte."""


def read_fault(text: str) -> Fault | None:
    """`KIND`, `KIND:SECONDS`, or `none`. Raises `EndpointError` for anything else."""
    kind, colon, seconds = text.strip().partition(":")
    if kind == "none":
        return None
    if kind not in KINDS:
        raise EndpointError(f"fault={shortened(text)} is unknown; known are {listed([*KINDS, 'none'])}")
    try:
        given = float(seconds) if colon else SECONDS.get(kind, 0.0)
    except ValueError:
        given = -1.0
    if not 0 <= given <= 3600:
        raise EndpointError(f"fault={shortened(text)}: the seconds must be a number from 0 to 3600")
    return Fault(kind, given)


def read_rates(texts: Sequence[str]) -> dict[str, float]:
    """`KIND=SHARE` texts as shares of requests. Raises `EndpointError` where one is unknown or they exceed 1."""
    rates: dict[str, float] = {}
    for text in texts:
        kind, _, share = text.partition("=")
        if kind not in KINDS:
            raise EndpointError(f"faults={shortened(text)} is unknown; known are {listed(KINDS)}, such as rate_limit=0.1")
        try:
            rates[kind] = float(share)
        except ValueError:
            rates[kind] = -1.0
        if not 0 <= rates[kind] <= 1:
            raise EndpointError(f"faults={shortened(text)}: the share must be a number from 0 to 1, such as {kind}=0.1")
    if sum(rates.values()) > 1 + 1e-9:
        raise EndpointError(f"faults={listed(texts)}: the shares exceed 1 together")
    return rates


def drawn(rates: Mapping[str, float], *what: object, retry_after: float, slow: float) -> Fault | None:
    """The fault of one request, if any; `what` identifies it: seed, model, prompt, and the number of the try."""
    text = "\0".join(map(str, what)).encode(errors="surrogatepass")
    place = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2**64
    for kind, share in rates.items():
        if place < share:
            return Fault(kind, {"rate_limit": retry_after, "slow_first_byte": slow}.get(kind, 0.0))
        place -= share
    return None
