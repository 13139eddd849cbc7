"""A worker's process, from its first moment on: it watches its parent before it imports anything that takes time.

A worker that does not answer yet ends at once with its parent, so that another may listen there; one that answers ends as on
SIGTERM, and loses nothing that it has begun. That the parent is gone is seen at the end of a pipe, which the kernel closes
however a process ends; no signal and no system call of one platform is needed.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from jaxroute.errors import EndpointError
from jaxroute.serve.shared import Worker


@dataclass(frozen=True)
class Place:
    """What a worker gets from its parent."""

    worker: Worker
    bound: socket.socket
    connection: Connection
    """To say that it is ready, or what is wrong; closed where the parent has gone."""
    answers: threading.Event
    """Whether it does; the worker's own."""

    def ready(self, greeting: str) -> None:
        """It answers from now on."""
        self.answers.set()
        # Where the parent has gone, `asked_to_end` sees that.
        with suppress(OSError):
            self.connection.send((True, greeting))

    def end_with_parent(self) -> None:
        """In a thread: end at once where the parent goes before this worker answers."""
        with suppress(OSError):
            self.connection.poll(None)
        if not self.answers.is_set():
            os._exit(1)

    async def asked_to_end(self, stopped: asyncio.Event) -> None:
        """Returns when the worker is asked to end, or when its parent has ended without a word."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.connection.fileno(), stopped.set)
        try:
            await stopped.wait()
        finally:
            loop.remove_reader(self.connection.fileno())


Work = Callable[[Any, Place], None]
"""What a worker does: a function of a module, with the settings that the parent was given."""


def packed(work: Work, settings: object) -> bytes:
    """For `live`: unpacking imports whatever the two need, which takes seconds."""
    return pickle.dumps((work, settings))


def live(worker: Worker, bound: socket.socket, connection: Connection, task: bytes) -> None:
    """A worker's whole life; `task` is `packed`."""
    place = Place(worker, bound, connection, threading.Event())
    threading.Thread(target=place.end_with_parent, daemon=True).start()
    try:
        # Until it has handlers of its own, it ends at once; what the terminal sends it gets from the parent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        work, settings = pickle.loads(task)
        work(settings, place)
    except Exception as error:  # noqa: BLE001, the parent says it
        with suppress(OSError):
            connection.send((False, str(error)))
        raise SystemExit(1) from (None if isinstance(error, EndpointError) else error)
