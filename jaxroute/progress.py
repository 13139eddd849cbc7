"""Progress bars of long work, on standard error, and a way to do the same work without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

_silent: ContextVar[bool] = ContextVar("silent", default=False)


def progress_bar(*given: Any, disable: bool = False, **options: Any) -> tqdm:
    """A bar with tqdm's arguments, which draws nothing within `without_bars`."""
    return tqdm(*given, disable=disable or _silent.get(), **options)


@contextmanager
def without_bars() -> Iterator[None]:
    """No bars of what this thread does inside the block: a server has other lines on its standard error."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)
