"""What needs an event loop, in a thread beside code that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_thread(served: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Hold `served` open on the event loop of a thread until the block ends; what it raises at its start is raised here."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    started, found, failed = threading.Event(), [], []

    async def hold() -> None:
        async with served as one:
            found.append(one)
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            # It also ends answers that nobody waits for any more.
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(hold())
        except BaseException as error:  # noqa: BLE001, raised again in the caller's thread
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    if failed:
        raise failed[0]
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
