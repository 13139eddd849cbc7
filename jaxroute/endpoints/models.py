"""`models.yaml`: which models can be asked, where, under which name there, at which price, and how fast.

    prices: genai-prices                 # for all models below that have no price of their own; or the path of a price list
    models:
      small:                             # the model's name here
        base_url: https://api.example.com/v1
        model: small-2026-05             # its name there; left out: as here
        api_key_env: EXAMPLE_API_KEY     # the environment variable that holds the key; left out: no key is sent
        price: {input: 0.15, cached_input: 0.075, output: 0.6, reasoning: 0.6}      # dollars per million tokens
        context_tokens: 128000
        output_tokens: 1024
        accepts: [tools, images, json_schema]
        requests_per_minute: 500
        concurrent_requests: 32
      edge:
        base_url: http://127.0.0.1:8000/v1
        local: true                      # costs nothing; its capacity is its limits
        concurrent_requests: 2

The fields are those of `Endpoint`. Keys are read from the environment when a client is made, and are in no file, message or
log.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from jaxroute.endpoints.price_lists import GENAI, genai_price, listed_price, read_price_list
from jaxroute.endpoints.prices import MOST_USD_PER_MILLION, TokenPrice
from jaxroute.endpoints.yaml_fields import Problems, Section, read_yaml
from jaxroute.errors import EndpointError, JaxrouteWarning, listed

ACCEPTS = ("tools", "images", "json_schema")
TOP = ("models", "prices")
PRICE_FIELDS = tuple(one.name for one in fields(TokenPrice))
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
"""In capitals, as such variables are: a key that is given in place of a name does not look like that."""
KEY = re.compile(r"[!-~]+")
MOST_TOKENS = 100_000_000
MOST_REQUESTS = 10_000_000
LEAST_USD_PER_MILLION = 0.001
"""Every list has a model that costs more: lower prices are dollars per token."""


@dataclass(frozen=True)
class Endpoint:
    """One model and how to ask it; all but the first two are optional in `models.yaml` where they have a default here."""

    name: str
    """What it is called here: in tables, checkpoints and results."""
    base_url: str
    """Its address up to `/v1`: requests go to `base_url/chat/completions`."""
    model: str
    """What it is called there; as `name` where it is left out."""
    price: TokenPrice
    """Dollars per million tokens: `price` with `input`, `output`, `cached_input` and `reasoning`, or `prices`, a price list."""
    api_key_env: str | None = None
    """The environment variable that holds the key; without it no key is sent."""
    context_tokens: int | None = None
    """How many tokens a prompt and its answer may have together; None: not known."""
    output_tokens: int = 1024
    """How many tokens an answer may have, where a request does not say; it decides the worst case of a call's cost."""
    accepts: tuple[str, ...] = ()
    """What it accepts beside text: some of `tools`, `images`, `json_schema`."""
    requests_per_minute: float | None = None
    """How many requests may begin in a minute; None: no limit."""
    concurrent_requests: int = 16
    """How many requests may be under way at once."""
    local: bool = False
    """Whether it runs on a machine of one's own: it costs nothing, and the two limits above are its capacity."""
    price_name: str = field(default="", repr=False)
    """What it is called in the price list; as `model` where it is left out."""


FIELDS = (*(one.name for one in fields(Endpoint) if one.name != "name"), "prices")


def load_models(path: Path | str) -> dict[str, Endpoint]:
    """The endpoints of a file by name, in its order. Raises `EndpointError` with everything that is wrong, and where."""
    path, problems = Path(path), Problems()
    top = Section(read_yaml(path), "", problems, TOP)
    prices, lists = top.text("prices"), _PriceLists(path.parent)
    models = top.section("models", None)
    found = {}
    for name, node in models.nodes.items() if models else ():
        section = Section(node, f"models.{name}", problems, FIELDS)
        endpoint = _endpoint(name, section, prices, lists)
        if endpoint is not None:
            found[name] = endpoint
    if not found and not problems:
        top.wrong("models", "must hold a mapping for at least one model")
    problems.raise_any(path)
    highest = max(max(one.price.input, one.price.output) for one in found.values())
    if 0 < highest < LEAST_USD_PER_MILLION:
        warnings.warn(
            f"{path}: its highest price is {highest:g} dollars per million tokens: are these dollars per token? "
            "Prices are to be given per million",
            JaxrouteWarning,
            stacklevel=2,
        )
    return found


def read_keys(endpoints: Iterable[Endpoint]) -> dict[str, str]:
    """The key of every endpoint that needs one, by the endpoint's name.

    Raises `EndpointError` naming all environment variables that are missing, and whose they are; never a key.
    """
    keys, missing = {}, {}
    for one in endpoints:
        if one.api_key_env is None:
            continue
        key = os.environ.get(one.api_key_env, "").strip()
        if not key:
            missing.setdefault(one.api_key_env, []).append(one.name)
        elif not KEY.fullmatch(key):
            raise EndpointError(f"the environment variable {one.api_key_env} holds blanks or special characters: it is no key")
        else:
            keys[one.name] = key
    if missing:
        named = "; ".join(f"{variable} (of {listed(names)})" for variable, names in list(missing.items())[:12])
        more = f"; and {len(missing) - 12} more" if len(missing) > 12 else ""
        raise EndpointError(f"the key is missing, set the environment variable: {named}{more}")
    return keys


class _PriceLists:
    """Each list is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.read = folder, dict[str, dict[str, object] | EndpointError]()

    def price(self, which: str, name: str, base_url: str, context_tokens: int | None) -> TokenPrice:
        if which == GENAI:
            return genai_price(name, base_url, context_tokens)
        if which not in self.read:
            try:
                self.read[which] = read_price_list(self.folder / which)
            except EndpointError as error:
                self.read[which] = error
        found = self.read[which]
        if isinstance(found, EndpointError):
            raise found
        return listed_price(self.folder / which, found, name, context_tokens)


def _endpoint(name: str, section: Section, prices: str | None, lists: _PriceLists) -> Endpoint | None:
    base_url, variable, local = _address(section), section.text("api_key_env"), section.flag("local")
    if variable is not None and not VARIABLE.fullmatch(variable):
        section.wrong("api_key_env", "must be the NAME of an environment variable, in capitals, not the key itself")
    context = section.whole("context_tokens", 1, MOST_TOKENS)
    output = section.whole("output_tokens", 1, MOST_TOKENS)
    if context and output and output > context:
        section.wrong("output_tokens", f"is {output:,}, more than context_tokens, {context:,}")
    model = section.text("model") or name
    values = {
        "context_tokens": context,
        "output_tokens": output,
        "accepts": section.words("accepts", ACCEPTS),
        "requests_per_minute": section.number("requests_per_minute", 1e-3, MOST_REQUESTS),
        "concurrent_requests": section.whole("concurrent_requests", 1, MOST_REQUESTS),
        "price_name": section.text("price_name"),
    }
    if local and "requests_per_minute" not in section.nodes and "concurrent_requests" not in section.nodes:
        section.wrong("local", "needs a capacity: requests_per_minute or concurrent_requests")
    price = _price(section, values["price_name"] or model, base_url, context, prices, lists, local)
    if base_url is None or price is None:
        return None
    given = {key: value for key, value in values.items() if value is not None}
    return Endpoint(name, base_url, model, price, variable, local=local, **given)


def _address(section: Section) -> str | None:
    """The address; what is wrong with it is said without showing it, since it may hold a password."""
    if "base_url" not in section.nodes:
        section.wrong("base_url", "is missing: the address up to /v1, such as https://api.example.com/v1")
        return None
    if (text := section.text("base_url")) is None:
        return None
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or any(one.isspace() for one in text):
        section.wrong("base_url", "must be an address such as https://api.example.com/v1")
    elif parts.username is not None or parts.query or parts.fragment:
        section.wrong("base_url", "must hold no name, password, query or fragment; keys belong in api_key_env")
    elif parts.path.rstrip("/").endswith("/chat/completions"):
        section.wrong("base_url", "ends in /chat/completions, which is added to it: give the address up to /v1")
    else:
        return text.rstrip("/")
    return None


def _price(
    section: Section,
    name: str,
    base_url: str | None,
    context_tokens: int | None,
    prices: str | None,
    lists: _PriceLists,
    local: bool,
) -> TokenPrice | None:
    own = section.text("prices")
    if "price" in section.nodes and "prices" in section.nodes:
        section.wrong("prices", "is there beside price: keep one of them")
        return None
    if local:
        if "price" in section.nodes or "prices" in section.nodes:
            section.wrong("local", "is true, and a local model costs nothing: leave price and prices out")
        return TokenPrice(0.0, 0.0)
    if (inner := section.section("price", PRICE_FIELDS)) is not None:
        values = {key: inner.number(key, 0, MOST_USD_PER_MILLION) for key in PRICE_FIELDS}
        for key in ("input", "output"):
            if inner.nodes.get(key) is None and not any(inner.place in one for _, one in section.problems):
                inner.wrong(key, "is missing: dollars per million tokens")
        if values["input"] is None or values["output"] is None:
            return None
        return TokenPrice(values["input"], values["output"], values["cached_input"], values["reasoning"])
    if (which := own or prices) is None:
        section.wrong("price", "is missing: dollars per million tokens, or prices, a price list; or local: true")
        return None
    try:
        return None if base_url is None else lists.price(which, name, base_url, context_tokens)
    except EndpointError as error:
        section.wrong("prices" if own else "", f"does not help: {error}" if own else f"has no price: {error}")
        return None
