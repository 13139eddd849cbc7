"""Who asks: `clients.yaml` names the clients with the hashes of their keys, their budgets, and the models they may ask.

    clients:
      alice:
        key_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        budget_usd: 5
        per: day                     # hour, day, month or total, which is the default
        models: [small, large]       # left out: all

A key is a random text of 256 bits, so that a plain SHA-256 tells nothing of it. The keys themselves are in no file of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxroute.endpoints.yaml_fields import Problems, Section, read_yaml
from jaxroute.serve.accounts import WINDOWS, Budget
from jaxroute.serve.refusals import Refused

PREFIX = "jaxroute-"
HASH = re.compile(r"[0-9a-fA-F]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FIELDS = ("key_sha256", "budget_usd", "per", "models")


@dataclass(frozen=True)
class ServedClient:
    """One who may ask."""

    name: str
    """In logs and in the names of ledgers."""
    key_sha256: str
    """Of its key."""
    budget: Budget | None = None
    """Its own limit, beside that of all."""
    models: frozenset[str] | None = None
    """What it may ask; None: all."""


def new_key(name: str) -> tuple[str, str]:
    """A key, which is kept nowhere, and the lines for `clients.yaml`."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f"clients:\n  {name}:\n    key_sha256: {_hashed(key)}\n    budget_usd: 5\n    per: day\n"


def find_client(clients: Collection[ServedClient], headers: Mapping[str, str]) -> ServedClient | None:
    """Whose key a request carries, as `Authorization: Bearer KEY` or `api-key: KEY`; compared in constant time with all."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    key = given.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")
    hashed = _hashed(key)
    found = [one for one in clients if hmac.compare_digest(hashed, one.key_sha256)]
    return found[0] if found and key else None


def authorised(clients: Collection[ServedClient] | None, headers: Mapping[str, str]) -> ServedClient | None:
    """Whose key a request carries; None where nobody needs one. Raises `Refused` where it needs one and has none."""
    if clients is None:
        return None
    client = find_client(clients, headers)
    if client is None:
        raise Refused(401, "invalid_api_key", "Incorrect API key: send one of this proxy's own as Authorization: Bearer KEY.")
    return client


def load_clients(path: Path, models: Collection[str]) -> list[ServedClient]:
    """The clients of a file; `models` are those that there are. Raises `EndpointError` with all that is wrong."""
    problems = Problems()
    top = Section(read_yaml(path), "", problems, ("clients",))
    section = top.section("clients", None)
    if section is None:
        top.wrong("", "needs clients: the names of clients and their fields")
        problems.raise_any(path)
        raise AssertionError("the problem above is raised")
    clients = []
    for name in section.nodes:
        if not NAME.fullmatch(name):
            section.wrong(name, "is no name: letters, digits, dots, dashes and underscores")
        if (one := section.section(name, FIELDS)) is not None:
            clients.append(_client(name, one, models))
    hashes = [one.key_sha256 for one in clients if one.key_sha256]
    if len(set(hashes)) < len(hashes):
        top.wrong("clients", "has two clients with the same key")
    problems.raise_any(path)
    return clients


def _client(name: str, section: Section, models: Collection[str]) -> ServedClient:
    hashed = section.text("key_sha256") or ""
    if not HASH.fullmatch(hashed):
        section.wrong("key_sha256", "must be the SHA-256 of a key, 64 hexadecimal digits: see `jaxroute serve --new-key NAME`")
    usd, per = section.number("budget_usd", 0, 9_000_000), section.text("per")
    if per is not None and per not in WINDOWS:
        section.wrong("per", f"must be one of {', '.join(WINDOWS)}")
        per = None
    if per is not None and usd is None:
        section.wrong("per", "needs budget_usd beside it")
    allowed = frozenset(section.words("models", sorted(models))) if "models" in section.nodes else None
    budget = None if usd is None else Budget(usd, per or "total")
    return ServedClient(name, hashed.lower(), budget, allowed)


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
