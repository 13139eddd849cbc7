"""The simulated pool behind OpenAI's wire format, streamed or not, with faults on demand.

    POST /v1/chat/completions   /v1/completions   /v1/responses   /v1/embeddings
    GET  /v1/models   /simulation/counts

`serving` runs it on the caller's event loop, `serving_in_thread` beside code that has none.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.data.table import RoutingTable
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.endpoints.threads import in_thread
from jaxroute.errors import EndpointError, PromptError, shortened
from jaxroute.simulation.counts import Counts, picodollars
from jaxroute.simulation.faults import HEADER, drawn, read_fault, read_rates
from jaxroute.simulation.other_replies import CompletionReply, EmbeddingReply, ResponseReply
from jaxroute.simulation.pool import WAIT_SECONDS, SimulatedPool
from jaxroute.simulation.replies import Asked, Kind, Reply

MOST_BODY_BYTES = 32 * 2**20
ACCEPTS = ("tools", "images", "json_schema")
"""What the simulated models answer to beside texts."""
CONTEXT_TOKENS = 128_000
"""Theirs; it bounds what an image may cost."""
REPLIES: dict[str, tuple[Kind, type[Reply]]] = {
    "/v1/chat/completions": ("chat", Reply),
    "/v1/completions": ("completion", CompletionReply),
    "/v1/responses": ("response", ResponseReply),
    "/v1/embeddings": ("embedding", EmbeddingReply),
}


@dataclass(frozen=True)
class SimulationConfig:
    """How the simulated endpoints behave."""

    seed: int = 0
    """Of answers and faults."""
    time_scale: float = 1.0
    """What simulated seconds are multiplied with: 0 answers at once."""
    faults: tuple[str, ...] = ()
    """`KIND=SHARE` of requests that fail, such as rate_limit=0.1."""
    retry_after_seconds: float = 1.0
    """What 429 asks to wait, in real seconds."""
    slow_seconds: float = 5.0
    """How late a slow first byte comes, in real seconds."""
    tokens_per_chunk: int = 4
    """Of a stream."""
    api_key: str | None = field(default=None, repr=False)
    """A key that requests must carry; None: they need none."""

    def __post_init__(self) -> None:
        read_rates(self.faults)
        for name, least, most in (
            ("seed", 0, 2**63),
            ("time_scale", 0, 1000),
            ("retry_after_seconds", 0, 3600),
            ("slow_seconds", 0, 3600),
            ("tokens_per_chunk", 1, 10**6),
        ):
            if not least <= getattr(self, name) <= most:
                raise EndpointError(f"{name}={getattr(self, name)} must be from {least} to {most:,}")


class Simulation:
    """The running endpoints: where they are, what they served, and what goes wrong next."""

    def __init__(self, config: SimulationConfig, table: RoutingTable | None = None) -> None:
        self.config, self.counts = config, Counts()
        self.pool = SimulatedPool(table, seed=config.seed)
        self.next_faults: deque[str] = deque()
        """What happens to the next requests, in order, as in the header: `rate_limit:0.5`, `none`."""
        self.base_url = ""
        self._rates = read_rates(config.faults)

    def endpoints(self, **changes: Any) -> dict[str, Endpoint]:
        """All models as `load_models` would give them; `changes` are fields of `Endpoint`."""
        return simulated_endpoints(self.base_url, **changes)

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=MOST_BODY_BYTES)
        for path in REPLIES:
            application.router.add_post(path, self._post)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/simulation/counts", self._counts)
        return application

    async def _models(self, request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulation"} for name in self.pool.models]
        return _json({"object": "list", "data": data})

    async def _counts(self, request: web.Request) -> web.Response:
        return _json(self.counts.as_json())

    async def _post(self, request: web.Request) -> web.StreamResponse:
        counts = self.counts
        counts.under_way += 1
        counts.most_under_way = max(counts.most_under_way, counts.under_way)
        try:
            return await self._answer(request)
        finally:
            counts.under_way -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.config.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.config.api_key}":
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        kind, make = REPLIES[request.path]
        try:
            asked = Asked.read(await request.json(), kind)
            header = request.headers.get(HEADER)
            given = header if header is not None else self.next_faults.popleft() if self.next_faults else None
            forced = None if given is None else read_fault(given)
        except (ValueError, PromptError) as error:
            return _error(400, str(error), "invalid_request_error")
        if asked.model not in self.pool.models:
            return _error(404, f"The model {shortened(asked.model)} does not exist.", "model_not_found")
        cell = (asked.model, asked.prompt)
        self.counts.requests[asked.model] += 1
        self.counts.tries[cell] += 1
        tried, config = self.counts.tries[cell], self.config
        fault = forced
        if given is None and self._rates:
            which = (config.seed, asked.model, asked.prompt, tried)
            fault = drawn(self._rates, *which, retry_after=config.retry_after_seconds, slow=config.slow_seconds)
        if fault is not None:
            self.counts.faults[fault.kind] += 1
        if fault is not None and fault.kind == "rate_limit":
            return _error(429, "Rate limit reached.", "rate_limit_exceeded", {"Retry-After": f"{fault.seconds:g}"})
        if fault is not None and fault.kind == "server_error":
            return _error(500, "The server had an error.", "server_error")
        reply = make(asked, self.pool, fault, tried)
        arrived = False
        try:
            if fault is not None and fault.kind == "slow_first_byte":
                await asyncio.sleep(fault.seconds)
            response, arrived = await (self._stream if asked.stream else self._whole)(request, reply)
        finally:
            pico = picodollars(asked.model, reply.outcome.prompt_tokens, reply.written.completion_tokens)
            if arrived and (fault is None or fault.kind == "slow_first_byte"):
                self.counts.answers[cell] += 1
                self.counts.answered_pico += pico
            else:
                self.counts.lost_pico += pico
        return response

    async def _whole(self, request: web.Request, reply: Reply) -> tuple[web.StreamResponse, bool]:
        await self._sleep(reply.outcome.latency_seconds * reply.share)
        body = json.dumps(reply.completion()).encode()
        if reply.fault_kind == "malformed":
            body = body[: len(body) // 2]
        if reply.fault_kind != "cut":
            gone = request.transport is None or request.transport.is_closing()
            return web.Response(body=body, content_type="application/json"), not gone
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        try:
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
        except ConnectionError:
            # Whoever asked has hung up first.
            return response, False
        _hang_up(request)
        return response, False

    async def _stream(self, request: web.Request, reply: Reply) -> tuple[web.StreamResponse, bool]:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await self._sleep(WAIT_SECONDS)
        chunks = reply.chunks(self.config.tokens_per_chunk)
        pause = (reply.outcome.latency_seconds - WAIT_SECONDS) * reply.share / len(chunks)
        try:
            await response.prepare(request)
            for number, chunk in enumerate(chunks):
                if number == len(chunks) // 2 and reply.fault_kind == "cut":
                    _hang_up(request)
                    return response, False
                text = json.dumps(chunk)
                if number == len(chunks) // 2 and reply.fault_kind == "malformed":
                    text = text[: len(text) // 2]
                name = f"event: {chunk['type']}\n" if isinstance(reply, ResponseReply) else ""
                await response.write(f"{name}data: {text}\n\n".encode())
                await self._sleep(pause)
            if not isinstance(reply, ResponseReply):
                await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except ConnectionError:
            return response, False
        return response, True

    async def _sleep(self, seconds: float) -> None:
        if self.config.time_scale:
            await asyncio.sleep(seconds * self.config.time_scale)


def simulated_endpoints(base_url: str, **changes: Any) -> dict[str, Endpoint]:
    """The ten models behind that address, as endpoints with their prices; `changes` are fields of `Endpoint`."""
    return {
        name: replace(_endpoint(name, base_url, TokenPrice(price.input, price.output)), **changes)
        for name, price in simulated_prices().items()
    }


def _endpoint(name: str, base_url: str, price: TokenPrice) -> Endpoint:
    return Endpoint(name, base_url, name, price, context_tokens=CONTEXT_TOKENS, accepts=ACCEPTS)


@asynccontextmanager
async def serving(
    config: SimulationConfig | None = None, table: RoutingTable | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Simulation]:
    """Serve on this event loop until the block ends; port 0 takes a free one."""
    simulation = Simulation(config or SimulationConfig(), table)
    runner = web.AppRunner(simulation.application(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        named = f"[{address[0]}]" if ":" in address[0] else address[0]
        simulation.base_url = f"http://{named}:{address[1]}/v1"
        yield simulation
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_thread(config: SimulationConfig | None = None, table: RoutingTable | None = None) -> Iterator[Simulation]:
    """Serve from a thread until the block ends: for code without an event loop, such as commands."""
    with in_thread(serving(config, table)) as simulation:
        yield simulation


def _json(content: object) -> web.Response:
    return web.Response(body=json.dumps(content).encode(), content_type="application/json")


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = json.dumps({"error": {"message": message, "type": code, "param": None, "code": code}}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _hang_up(request: web.Request) -> None:
    """Close the connection without an end of the message."""
    if request.transport is not None:
        request.transport.close()
