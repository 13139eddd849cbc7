"""The running proxy: its socket, its start, and its end, in which no request is lost."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from jaxroute.endpoints.threads import in_thread
from jaxroute.errors import EndpointError
from jaxroute.serve.app import LOOPBACK, application
from jaxroute.serve.patience import Patient
from jaxroute.serve.reloading import Reloading
from jaxroute.serve.service import Service
from jaxroute.serve.state import State

ENDING = "ending: answers that have begun are sent to their end; Ctrl-C again ends them at once"
ARRIVAL_SECONDS = 0.3
"""How long the request of a new connection may take to arrive once the end was asked for."""
SETTLE_SECONDS = 1.0
"""How long what was cut may take to settle what it holds."""


@dataclass(frozen=True)
class Listening:
    """Where it listens."""

    host: str = "127.0.0.1"
    """Address; another than this machine's own needs clients with keys."""
    port: int = 8080
    """0 takes a free one."""
    stop_seconds: float = 30.0
    """How long answers may go on after the end was asked for."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise EndpointError(f"port={self.port} must be from 0 to 65535")
        if not 0 <= self.stop_seconds < math.inf:
            raise EndpointError(f"stop_seconds={self.stop_seconds} must be a number of seconds")

    def check(self, *, keys: bool) -> None:
        """Raise `EndpointError` where others than this machine could ask, and nobody needs a key."""
        if not keys and self.host not in LOOPBACK:
            raise EndpointError(
                f"host={self.host} lets other machines ask, and no client has a key: give clients.yaml (see `jaxroute serve "
                "--new-key`), or listen on 127.0.0.1"
            )


@dataclass
class Running:
    """A proxy that answers."""

    service: Service
    base_url: str
    """Up to /v1."""
    server: uvicorn.Server
    reloading: Reloading

    def stop(self) -> None:
        """No new requests; those under way end."""
        self.server.should_exit = True


class _Server(uvicorn.Server):
    """Signals are the caller's, and its end loses nobody who has connected.

    uvicorn closes its socket with whoever waits there to be accepted, and at once every connection whose request it has not
    read yet. Here those that wait are accepted first, and requests get a moment to arrive. Once `forced` is set, what is under
    way is cut; that is settled before this ends, and so is what is cut after `timeout_graceful_shutdown`.
    """

    def __init__(self, config: uvicorn.Config, forced: asyncio.Event) -> None:
        super().__init__(config)
        self.forced = forced

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ways = [asyncio.ensure_future(one) for one in (self._end_gently(sockets), self.forced.wait())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for one in ways:
            one.cancel()
        under_way = list(self.server_state.tasks)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=SETTLE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # pyright: ignore[reportAttributeAccessIssue]
        ending, _ = ways
        if ending.done() and not ending.cancelled():
            ending.result()

    async def _end_gently(self, sockets: list[socket.socket] | None) -> None:
        loop = asyncio.get_running_loop()
        waiting = [connection for one in sockets or [] for connection in _accepted(one)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(ARRIVAL_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        return Patient(self.config, self.server_state, self.lifespan.state)


@asynccontextmanager
async def serving(
    state: State,
    listening: Listening | None = None,
    bound: socket.socket | None = None,
    forced: asyncio.Event | None = None,
) -> AsyncIterator[Running]:
    """Serve on this event loop until the block ends. Raises `EndpointError` where it may or can not listen there.

    `bound` is a socket that listens there already, such as one that several processes share. Once `forced` is set, the end
    waits for no answer any more.
    """
    listening = listening or Listening()
    listening.check(keys=state.clients is not None)
    async with Service(state) as service:
        config = uvicorn.Config(
            application(service),
            http=Patient,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(listening.stop_seconds)),
        )
        server = _Server(config, forced or asyncio.Event())
        bound = bound_socket(listening) if bound is None else bound
        task = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        host, port = bound.getsockname()[:2]
        reloading = Reloading(service)
        watching = [asyncio.create_task(one) for one in (reloading.watch(), service.beat())]
        try:
            yield Running(service, f"http://{f'[{host}]' if ':' in host else host}:{port}/v1", server, reloading)
        finally:
            for one in watching:
                one.cancel()
            server.should_exit = True
            await task


@contextmanager
def serving_in_thread(state: State, listening: Listening | None = None) -> Iterator[Running]:
    """Serve from a thread until the block ends."""
    with in_thread(serving(state, listening or Listening(port=0))) as running:
        yield running


def _accepted(listening: socket.socket) -> list[socket.socket]:
    """All connections that wait to be accepted."""
    found = []
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return found
        connection.setblocking(False)
        found.append(connection)


def bound_socket(listening: Listening) -> socket.socket:
    """A socket at that address, which does not listen yet. Raises `EndpointError` where it cannot be had."""
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listening.host, listening.port))
    except OSError as error:
        bound.close()
        raise EndpointError(f"{listening.host}:{listening.port} cannot be listened on: {error.strerror}") from error
    bound.setblocking(False)
    return bound
