"""Ctrl-C while calls are under way: the first one lets them end, since they are paid for already."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `stop`, the next one cancels the task that is inside of this."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        stop() if count == 1 else task.cancel()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (NotImplementedError, ValueError, RuntimeError):
        # On Windows, and outside of the main thread, loops take no signals: there Ctrl-C raises KeyboardInterrupt as ever.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
