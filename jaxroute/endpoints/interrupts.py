"""Ctrl-C while calls are under way: the first one lets them end, since they are paid for already; the second gives them up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from jaxroute.errors import LedgerError


def given_up(work: Coroutine[Any, Any, None]) -> bool:
    """Run what is `interrupted_by` Ctrl-C on an event loop of its own; whether a second Ctrl-C gave it up.

    Raises `LedgerError`, saying that the same command resumes.
    """
    try:
        with asyncio.Runner() as runner:
            runner.run(work)
    except asyncio.CancelledError:
        return True
    except LedgerError as error:
        raise LedgerError(f"{error}. What is stored is kept: the same command resumes from it") from error
    return False


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
