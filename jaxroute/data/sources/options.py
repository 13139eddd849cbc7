"""Options of a source's loader as a command takes them: `decontaminate`, `binary=true`, `queries=500`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jaxroute.data.prices import load_prices
from jaxroute.errors import SourceError

YES, NO = ("true", "yes", "1"), ("false", "no", "0")
PRICES = "prices"
OWN = (PRICES, "paid")
"""What commands decide in other ways."""


def loader_options(source: str, load: Callable[..., Any], given: Sequence[str], prices: Path | None = None) -> dict[str, Any]:
    """`name=value` texts as keyword arguments of `load`; a name alone switches on. `prices` is the file of a price list.

    Raises `SourceError` naming what the loader knows.
    """
    known = {name: hint for name, hint in get_type_hints(load).items() if name in _keywords(load) and name not in OWN}
    found: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if name not in known:
            extra = "; a price list has an option of its own, --prices" if name == PRICES else ""
            raise SourceError(f"option={one!r}: the source {source!r} knows {', '.join(known) or 'no options'}{extra}")
        if name in found:
            raise SourceError(f"option={one!r}: {name} is given twice, give it once")
        found[name] = _value(one, text if equals else YES[0], known[name])
    if prices is not None:
        if PRICES not in _keywords(load):
            raise SourceError(f"prices={str(prices)!r}: the source {source!r} has dollars of its own, leave the list out")
        # A loader that takes a file reads the list itself, since only its own models matter.
        found[PRICES] = prices if takes_price_file(load) else load_prices(prices)
    return found


def takes_price_file(load: Callable[..., Any]) -> bool:
    """Whether the loader makes dollars from tokens with a price list."""
    return PRICES in _keywords(load) and Path in get_args(get_type_hints(load)[PRICES])


def takes_unpaid(load: Callable[..., Any]) -> bool:
    """Whether outcomes without dollars can be loaded, for what reads qualities only."""
    return "paid" in _keywords(load)


def _keywords(load: Callable[..., Any]) -> list[str]:
    return [name for name, one in inspect.signature(load).parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]


def _value(given: str, text: str, hint: Any) -> Any:
    allowed = get_args(hint) if get_origin(hint) is Literal else (*YES, *NO) if hint is bool else ()
    if allowed and text.lower() not in allowed:
        raise SourceError(f"option={given!r} must be one of {', '.join(allowed)}")
    if hint is bool:
        return text.lower() in YES
    if get_origin(hint) is Literal:
        return text.lower()
    try:
        return hint(text)
    except (TypeError, ValueError):
        raise SourceError(
            f"option={given!r} must be a number" if hint in (int, float) else f"option={given!r} does not fit"
        ) from None
