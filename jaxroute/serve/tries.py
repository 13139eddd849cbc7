"""One request to one endpoint: opened, read piece by piece within the time-outs of its phases, and every way of failing."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import TracebackType

import aiohttp
from yarl import URL

from jaxroute.endpoints.answers import FREE
from jaxroute.endpoints.client import ClientConfig
from jaxroute.endpoints.retries import retry_after_seconds
from jaxroute.errors import shortened
from jaxroute.serve.headers import Headers, coming_down
from jaxroute.serve.refusals import Refused
from jaxroute.serve.state import Upstream

MOST_ERROR_BYTES = 65_536
STAY = (400, 405, 413, 414, 415, 422)
"""Statuses that say that the request is wrong: another model would say the same."""
TOO_LONG = b"context_length_exceeded"
"""Of a 400 that another model may not say."""
REFUSALS = {
    "connect": (502, "upstream_unreachable", "has not been reached"),
    "unauthorized": (502, "upstream_unauthorized", "has rejected the key that this proxy has for it"),
    "first_byte_timeout": (504, "upstream_timeout", "has not begun to answer in time"),
    "between_bytes_timeout": (504, "upstream_timeout", "has stopped answering"),
    "total_timeout": (504, "upstream_timeout", "has not answered in time"),
    "cut": (502, "upstream_cut", "has closed the connection before the answer ended"),
    "malformed": (502, "upstream_malformed", "has answered what is not in OpenAI's form"),
    "server_error": (502, "upstream_error", "has sent an error in place of an answer"),
}


class Failure(Exception):
    """A try without an answer."""

    def __init__(
        self, reason: str, detail: str = "", status: int | None = None, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, shortened(detail, 300, quoted=False)
        self.status, self.headers, self.body = status, headers or [], body
        self.retry_after: float | None = None

    @property
    def free(self) -> bool:
        """Whether it has cost nothing; otherwise an answer may have been generated."""
        return self.reason in FREE

    @property
    def moves(self) -> bool:
        """Whether another model may answer."""
        return self.status not in STAY or TOO_LONG in self.body

    @property
    def passes(self) -> bool:
        """Whether the client gets what the endpoint has said, as it said it; what it says of a key is not passed on."""
        return self.status is not None and self.status >= 400 and self.reason != "unauthorized"

    def refused(self, model: str) -> Refused:
        """In our own words."""
        status, code, what = REFUSALS.get(self.reason, REFUSALS["server_error"])
        return Refused(status, code, f"The model {shortened(model)} {what}.")


class Try:
    """`async with` it: `open`, then `read` until there is nothing more. Whatever goes wrong is a `Failure`."""

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream, timeouts: ClientConfig, deadline: float) -> None:
        self.session, self.upstream, self.timeouts = session, upstream, timeouts
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.waited_seconds = 0.0
        """For the endpoint, so far."""
        self.headers: Headers = []
        self.content_type = ""
        self._end = min(deadline, self.started + timeouts.total_seconds)
        self._limit = asyncio.timeout_at(min(self._end, self.started + timeouts.first_byte_seconds))
        self._response: aiohttp.ClientResponse | None = None
        self._read_any = False

    async def __aenter__(self) -> Try:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            # A connection can be used again only where the answer has been read to its end.
            response.close()
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            if not self._limit.expired():
                raise
            phase = "between_bytes_timeout" if self._read_any else "first_byte_timeout"
            raise Failure("total_timeout" if self.loop.time() >= self._end else phase) from None

    def hurry(self, seconds: float) -> None:
        """Nobody waits for it any more: it may take so much longer."""
        self._end = min(self._end, self.loop.time() + seconds)
        when = self._limit.when()
        if when is not None and not self._limit.expired():
            self._limit.reschedule(min(when, self._end))

    async def open(
        self, kind: str, body: bytes, headers: dict[str, str], *, method: str = "POST", below: str = "", query: str = ""
    ) -> None:
        """Send the request; returns once the endpoint has said that an answer comes.

        `below` is a path beneath that of the kind, `query` what follows the question mark.
        """
        begun = perf_counter()
        try:
            url = self.upstream.urls[kind]
            if below or query:
                url = URL(f"{url}{below}{'?' if query else ''}{query}", encoded=True)
            # A redirect would carry the key to another place.
            self._response = await self.session.request(method, url, data=body or None, headers=headers, allow_redirects=False)
        except aiohttp.ConnectionTimeoutError:
            raise Failure("connect", f"within {self.timeouts.connect_seconds:g} seconds") from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise Failure("connect", str(error)) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Failure("cut", type(error).__name__) from None
        finally:
            self.waited_seconds += perf_counter() - begun
        self.headers = coming_down(self._response.raw_headers)
        self.content_type = self._response.content_type
        if self._response.status != 200:
            await self._fail(self._response)

    async def read(self) -> bytes:
        """The bytes that have come; empty at the end."""
        assert self._response is not None
        begun = perf_counter()
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Failure("cut", type(error).__name__) from None
        finally:
            self.waited_seconds += perf_counter() - begun
        if data:
            self._read_any = True
            self._limit.reschedule(min(self._end, self.loop.time() + self.timeouts.between_bytes_seconds))
        else:
            self._response.release()
            self._response = None
        return data

    async def _fail(self, response: aiohttp.ClientResponse) -> None:
        """Raise for a status that is no success, with what the endpoint says."""
        body, wait = bytearray(), retry_after_seconds(response.headers)
        while len(body) < MOST_ERROR_BYTES and (more := await self.read()):
            body += more
        said, key = bytes(body[:MOST_ERROR_BYTES]), self.upstream.key
        if key is not None:
            said = said.replace(key.encode(), b"[key]")
        status = response.status
        reason = {429: "rate_limit", 401: "unauthorized", 403: "unauthorized"}.get(status, "rejected")
        if status >= 500 or status in (408, 409, 425):
            reason = "server_error"
        failure = Failure(reason, said[:300].decode(errors="replace"), status, self.headers, said)
        failure.retry_after = wait
        raise failure
