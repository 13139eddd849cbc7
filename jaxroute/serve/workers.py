"""Several processes that answer on one address: a parent binds the socket, starts them, and starts again what dies.

All workers accept from one socket, so that the end of one loses nobody who waits to be accepted. What they share besides is in
files: the ledger and what it says of the price (`shared_price`), and what one worker has to know of the answers of another
(`shared`). A worker ends when it is asked to, and when its parent has gone (`worker_process`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from jaxroute.errors import EndpointError
from jaxroute.serve.metrics import METRICS_FOLDER
from jaxroute.serve.server import ENDING, Listening, bound_socket
from jaxroute.serve.shared import Worker
from jaxroute.serve.worker_process import Work, live, packed

LOG = logging.getLogger("jaxroute.serve")
MOST_WORKERS = 64
START_SECONDS = 600.0
"""In which a worker has to be ready."""
GRACE_SECONDS = 10.0
"""After the time that answers may go on: then a worker is killed."""
PAUSE_SECONDS = 1.0
"""Before a worker is started again that has lived for no longer than that."""
MOST_PAUSE_SECONDS = 60.0
"""The pause doubles with every start that has failed, as it does while the files are wrong."""


@dataclass
class _Running:
    process: Any
    connection: Connection
    started: float
    answered: bool = False
    """Whether it has ever."""


class Workers:
    """The parent's side; `start` them, then `watch` until they have ended."""

    def __init__(self, count: int, listening: Listening, work: Work, settings: object) -> None:
        if not 1 <= count <= MOST_WORKERS:
            raise EndpointError(f"workers={count} must be from 1 to {MOST_WORKERS}")
        self.count, self.listening, self.work, self.settings = count, listening, work, settings
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, _Running] = {}
        self._later: dict[int, float] = {}
        """When which worker is started again."""
        self._failed: dict[int, int] = {}
        """How often its start has failed, since the last that has not."""
        self._ends: float | None = None
        """When those that have been asked to end are killed."""
        self.forced = False
        """Whether they were killed since the parent was asked to end for the second time."""
        # Signals wake the parent through this pair, wherever it waits.
        self._wake, self._woken = socket.socketpair()
        for one in (self._wake, self._woken):
            one.setblocking(False)
        self._hang_up = False

    @contextmanager
    def started(self) -> Iterator[str]:
        """All of them answer within the block, which gets what the first one has said; they are killed if it raises.

        The first one is awaited before the others begin: what is wrong with the files it says once, and what it compiles they
        find. Raises `EndpointError`.
        """
        with tempfile.TemporaryDirectory(prefix="jaxroute-workers-") as folder, self._signals():
            self._folder = Path(folder)
            metrics = self._folder / "metrics"
            metrics.mkdir()
            os.environ[METRICS_FOLDER] = str(metrics)
            self._bound = bound_socket(self.listening)
            try:
                self._start(0)
                greeting = self._await_ready(0)
                for number in range(1, self.count):
                    if self._ends is None:
                        self._start(number)
                for number in range(1, self.count):
                    if self._ends is None:
                        self._await_ready(number)
                yield greeting
            finally:
                self._bound.close()
                for one in self._running.values():
                    one.process.kill()
                    one.process.join()
                os.environ.pop(METRICS_FOLDER, None)

    def watch(self) -> None:
        """Until SIGTERM or SIGINT, and the end of all workers; a second one kills them, and their reservations are settled at
        the next start."""
        while self._running or (self._later and self._ends is None):
            due = [*self._later.values(), *([] if self._ends is None else [self._ends])]
            seconds = max(min(due) - time.monotonic(), 0.0) if due else None
            sentinels: list[Any] = [one.process.sentinel for one in self._running.values()]
            wait([*sentinels, self._woken], seconds)
            self._heed()
            for number, one in list(self._running.items()):
                if not one.process.is_alive():
                    self._ended(number, one)
            if self._ends is not None:
                self._later.clear()
                if time.monotonic() >= self._ends:
                    for one in self._running.values():
                        one.process.kill()
            for number, when in list(self._later.items()):
                if when <= time.monotonic():
                    del self._later[number]
                    self._start(number)

    def _start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        given = Worker(number, self.count, self._folder), self._bound, theirs, packed(self.work, self.settings)
        process = self._context.Process(target=live, args=given, name=f"worker-{number}")
        process.start()
        theirs.close()
        self._running[number] = _Running(process, ours, time.monotonic())

    def _await_ready(self, number: int) -> str:
        one, until = self._running[number], time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            found = wait([one.connection, self._woken], max(until - time.monotonic(), 0.0))
            self._heed()
            if self._ends is not None:
                return ""
            if one.connection in found:
                try:
                    ready, said = one.connection.recv()
                except (EOFError, OSError):
                    raise EndpointError(f"worker {number} has ended while it started; its log says why") from None
                if not ready:
                    raise EndpointError(said)
                one.answered = True
                return said
        raise EndpointError(f"worker {number} was not ready within {START_SECONDS:g} seconds")

    def _ended(self, number: int, one: _Running) -> None:
        """Start it again, but not at once where it has hardly lived, and later and later where it cannot start."""
        one.process.join()
        wrong = None
        with suppress(EOFError, OSError):
            while one.connection.poll():
                ready, said = one.connection.recv()
                one.answered, wrong = one.answered or ready, None if ready else said
        one.connection.close()
        del self._running[number]
        if self._ends is None:
            failed = self._failed[number] = 0 if one.answered else self._failed.get(number, 0) + 1
            again = max(one.started + PAUSE_SECONDS, time.monotonic())
            if failed:
                again = time.monotonic() + min(PAUSE_SECONDS * 2 ** (failed - 1), MOST_PAUSE_SECONDS)
            self._later[number] = again
            why = wrong or f"exit code {one.process.exitcode}"
            LOG.error(
                "worker %d has ended (%s) and is started again in %.0f s", number, why, max(0.0, again - time.monotonic())
            )

    def _heed(self) -> None:
        """Do what signals have asked for."""
        with suppress(BlockingIOError):
            while self._woken.recv(64):
                pass
        if self._hang_up:
            self._hang_up = False
            if hasattr(signal, "SIGHUP"):
                self._signal(signal.SIGHUP)
        if self._asked_to_end and self._ends is None:
            # The last worker that closes the socket has accepted all who wait there: the parent must not hold it open.
            self._bound.close()
            self._ends = time.monotonic() + self.listening.stop_seconds + GRACE_SECONDS
            self._signal(signal.SIGTERM)
            LOG.warning(ENDING)
        if self._asked_to_end > 1 and not self.forced:
            self.forced, self._ends = True, time.monotonic()

    def _signal(self, which: int) -> None:
        for one in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(one.process.pid, which)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        self._asked_to_end = 0

        def end(*_: object) -> None:
            self._asked_to_end += 1
            self._wake_up()

        def hang_up(*_: object) -> None:
            self._hang_up = True
            self._wake_up()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = hang_up
        before = {which: signal.signal(which, handler) for which, handler in handlers.items()}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _wake_up(self) -> None:
        with suppress(OSError):
            self._wake.send(b"!")
