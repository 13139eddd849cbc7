"""One request and its response: time-outs by phase, and every way of failing by its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from jaxroute.endpoints.requests import Request
from jaxroute.endpoints.retries import retry_after_seconds
from jaxroute.endpoints.wire import MOST_BYTES, Assembly, EndpointSaysError, Events, Malformed, error_text, parse

MOST_ERROR_BYTES = 65_536
T = TypeVar("T")


class TryFailed(Exception):
    """A request without an answer: why, what was said, HTTP's status, and how many seconds the endpoint asks to wait."""

    def __init__(self, reason: str, detail: str = "", status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.status, self.retry_after = reason, detail, status, retry_after


@dataclass(frozen=True)
class Timeouts:
    """Seconds that the phases of a request may take."""

    connect: float
    first_byte: float
    between_bytes: float
    total: float


class Attempt:
    """One try: iterate over `pieces`, then read `assembly`."""

    def __init__(self, session: aiohttp.ClientSession, request: Request, key: str | None, timeouts: Timeouts, deadline: float):
        self.session, self.request, self.timeouts, self.deadline = session, request, timeouts, deadline
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if request.stream:
            self.headers["Accept"] = "text/event-stream"
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"
        self.assembly = Assembly(request.output_tokens)
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.first_byte_seconds = 0.0
        self.status: int | None = None
        self._first = True

    async def pieces(self) -> AsyncGenerator[dict[str, Any], None]:
        """The completion, or the chunks of a stream, as they come. Raises `TryFailed`."""
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._within(self._post())
            self.status = response.status
            if response.status != 200:
                await self._fail(response)
            async for piece in self._streamed(response) if self.request.stream else self._whole(response):
                yield piece
            # The connection can be used again only where the body has been read to its end.
            response.release()
            response = None
        except aiohttp.ConnectionTimeoutError as error:
            raise TryFailed("connect", f"within {self.timeouts.connect:g} seconds") from error
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise TryFailed("connect", str(error)) from error
        except Malformed as error:
            raise TryFailed("malformed", str(error), self.status) from error
        except EndpointSaysError as error:
            raise TryFailed("cut" if self.assembly.choices else "server_error", str(error), self.status) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TryFailed("cut", type(error).__name__, self.status) from error
        finally:
            if response is not None:
                response.close()

    def _post(self) -> Awaitable[aiohttp.ClientResponse]:
        # A redirect would carry the key to another place.
        url = f"{self.request.endpoint.base_url}/chat/completions"
        return self.session.post(url, data=self.request.body, headers=self.headers, allow_redirects=False)

    async def _whole(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        body = bytearray()
        while data := await self._read(response):
            body += data
            if len(body) > MOST_BYTES:
                raise Malformed(f"it has more than {MOST_BYTES:,} bytes")
        completion = parse(body)
        self.assembly.add(completion)
        if not self.assembly.choices:
            raise Malformed("it has no choices")
        yield completion

    async def _streamed(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        events = Events()
        while not events.done and (data := await self._read(response)):
            for chunk in events.feed(data):
                self.assembly.add(chunk)
                yield chunk
        if not events.done and self.assembly.finish_reason is None:
            raise TryFailed("cut", "the stream ended without a finish_reason", self.status)
        if not self.assembly.choices:
            raise Malformed("the stream has no choices")
        self.assembly.end()
        while await self._read(response):
            pass

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        data = await self._within(response.content.readany())
        if self._first and data:
            self._first, self.first_byte_seconds = False, self.loop.time() - self.started
        return data

    async def _within(self, step: Awaitable[T]) -> T:
        """The step, within what is left of its phase, of the try, and of the deadline over all tries."""
        total = self.started + self.timeouts.total
        first, between = self.timeouts.first_byte, self.timeouts.between_bytes
        phase = self.started + first if self._first else self.loop.time() + between
        at = min(phase, total, self.deadline)
        limit = asyncio.timeout_at(at)
        try:
            async with limit:
                return await step
        except TimeoutError as error:
            if not limit.expired():
                raise
            if at == self.deadline:
                raise TryFailed("total_timeout", "the deadline over all tries", self.status) from error
            if at == total:
                raise TryFailed("total_timeout", f"more than {self.timeouts.total:g} seconds", self.status) from error
            name, seconds = ("first_byte_timeout", first) if self._first else ("between_bytes_timeout", between)
            raise TryFailed(name, f"more than {seconds:g} seconds", self.status) from error

    async def _fail(self, response: aiohttp.ClientResponse) -> None:
        """Raise for a status that is no success, with what the body says."""
        status, data = response.status, bytearray()
        while len(data) < MOST_ERROR_BYTES and (more := await self._read(response)):
            data += more
        try:
            detail = error_text(parse(data))
        except EndpointSaysError as error:
            detail = str(error)
        except Malformed:
            detail = data[:400].decode(errors="replace")
        detail = f"status {status}: {detail}"
        wait = retry_after_seconds(response.headers)
        if status == 429:
            raise TryFailed("rate_limit", detail, status, wait)
        if status >= 500 or status in (408, 409, 425):
            raise TryFailed("server_error", detail, status, wait)
        raise TryFailed("unauthorized" if status in (401, 403) else "rejected", detail, status)
