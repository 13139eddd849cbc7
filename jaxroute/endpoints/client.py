"""One asynchronous client of endpoints in OpenAI's wire format: retries within a deadline, limits, true dollars, the ledger.

Every try that is sent is reserved in the ledger at its worst case before, and settled after it: at its true cost where the
endpoint has counted the tokens credibly, at nothing where it has refused (429, 500, no connection), and at the worst case
where an answer may have been generated that did not arrive. A try that does not fit is not sent.

HTTP is aiohttp's, chosen by measuring 64 concurrent requests with kept connections to one small server on 2 shared cores
(processor milliseconds per request of the client's process, and requests per second; two rounds):

    aiohttp 3.14     0.12 and 0.11 ms    4,685 and 5,554
    httpcore2 2.16   0.54 and 0.57 ms    1,440 and 1,219
    niquests 3.21    0.69 and 0.68 ms    1,130 and 1,057
    httpx2 2.16      0.74 and 0.74 ms    1,037 and 1,082
    openai 3.57      1.62 and 1.84 ms      490 and 435     (on httpx2)

Its parser is compiled, its connections need no lock of their own, and its server serves our simulated endpoints, so one
dependency does both. `python -m benchmarks.endpoints` compares this client with OpenAI's.
"""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import aiohttp

from jaxroute.endpoints.answers import FINAL, FREE, Answer, CallFailed, Try
from jaxroute.endpoints.attempts import Attempt, Timeouts, TryFailed
from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.limits import DeadlinePassed, Limits
from jaxroute.endpoints.models import Endpoint, read_keys
from jaxroute.endpoints.requests import Prompt, Request, build_request
from jaxroute.endpoints.retries import backoff_seconds
from jaxroute.errors import EndpointError, listed, shortened

Record = Callable[[sqlite3.Connection, float, Answer | None], None]
"""Of the ledger's connection, the dollars that a try counts, and the answer, where it brought one."""


@dataclass(frozen=True)
class ClientConfig:
    """How long to wait, and how often to try."""

    connect_seconds: float = 10.0
    """Until a connection stands."""
    first_byte_seconds: float = 120.0
    """Until the first byte of the answer, since the start of the try. An answer that is not streamed comes as a whole."""
    between_bytes_seconds: float = 60.0
    """Between two pieces of an answer."""
    total_seconds: float = 600.0
    """One try as a whole."""
    deadline_seconds: float = 900.0
    """One prompt over all tries, waiting among them; a call may have a deadline of its own."""
    retries: int = 5
    """Further tries after the first."""
    backoff_seconds: float = 0.5
    """The longest wait after the first failure; it doubles with each further one."""
    most_backoff_seconds: float = 30.0
    """The longest wait after any failure, where the endpoint asks for none."""
    jitter_seed: int | None = None
    """Of the random part of waits; None: another in every run."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("seconds") and not (value >= 0 and (math.isfinite(value) or one.name == "deadline_seconds")):
                raise EndpointError(f"{one.name}={shortened(value)} must be a number of seconds")
        if not 0 <= self.retries <= 1000:
            raise EndpointError(f"retries={self.retries} must be from 0 to 1,000")


class Client:
    """Asks endpoints, within one `async with` block.

    Raises `EndpointError` at once where the environment lacks a key. With a `ledger` every try is paid from it.
    """

    def __init__(
        self, endpoints: Mapping[str, Endpoint], config: ClientConfig | None = None, *, ledger: Ledger | None = None
    ) -> None:
        self.endpoints, self.config, self.ledger = dict(endpoints), config or ClientConfig(), ledger
        self._keys = read_keys(self.endpoints.values())
        self._dice = random.Random(self.config.jitter_seed)
        self._limits: dict[str, Limits] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        # Limits of requests under way are counted by model, so the pool has none; the time-outs are the phases'.
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(total=None, connect=self.config.connect_seconds)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._limits = {name: Limits(endpoint) for name, endpoint in self.endpoints.items()}
        return self

    async def __aexit__(self, *error: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(
        self,
        model: str,
        prompt: Prompt,
        *,
        output_tokens: int | None = None,
        deadline_seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
        note: str = "",
        record: Record | None = None,
    ) -> Answer:
        """The answer of one model to a text or chat messages, of at most `output_tokens` (the endpoint's limit where None).

        `options` are further fields of the request, such as `temperature`, `tools` or `logprobs`; `note` goes into the ledger.
        `record` is called within the ledger's transaction that settles a try, so that what is paid for can be stored with it.
        Raises `CallFailed` with the reason where there is none in the end, and `EndpointError` for a request that cannot be
        sent.
        """
        request = build_request(self._endpoint(model), prompt, output_tokens=output_tokens, options=options)
        return await self._call(request, deadline_seconds, note, record).whole()

    @asynccontextmanager
    async def stream(
        self,
        model: str,
        prompt: Prompt,
        *,
        output_tokens: int | None = None,
        deadline_seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> AsyncIterator[Stream]:
        """The same as a stream: iterate over it for the chunks as they come, then read `answer`.

        Tries that fail before the first chunk are repeated; later ones raise `CallFailed` in the middle. A stream that is left
        before its end counts at its worst case.
        """
        request = build_request(self._endpoint(model), prompt, output_tokens=output_tokens, options=options, stream=True)
        call = self._call(request, deadline_seconds, note)
        async with aclosing(call.pieces()) as pieces:
            yield Stream(pieces, call)

    def _endpoint(self, model: str) -> Endpoint:
        if model not in self.endpoints:
            raise EndpointError(f"model={shortened(model)} is none of the endpoints: {listed(self.endpoints)}")
        return self.endpoints[model]

    def _call(self, request: Request, deadline_seconds: float | None, note: str, record: Record | None = None) -> _Call:
        if self._session is None:
            raise EndpointError("the client is closed: ask within `async with Client(...) as client`")
        seconds = self.config.deadline_seconds if deadline_seconds is None else deadline_seconds
        return _Call(self, self._session, request, seconds, note, record)


class Stream:
    """An answer that is coming."""

    def __init__(self, pieces: AsyncIterator[dict[str, Any]], call: _Call) -> None:
        self._pieces, self._call = pieces, call

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks in OpenAI's form."""
        return self._pieces

    @property
    def answer(self) -> Answer:
        """The whole answer; raises `EndpointError` before the last chunk."""
        if self._call.answer is None:
            raise EndpointError("the stream has not ended: iterate over it first")
        return self._call.answer


class _Call:
    """One prompt to one model, over all its tries."""

    def __init__(
        self,
        client: Client,
        session: aiohttp.ClientSession,
        request: Request,
        seconds: float,
        note: str,
        record: Record | None,
    ) -> None:
        self.client, self.session, self.request, self.note, self.record = client, session, request, note, record
        self.loop = asyncio.get_running_loop()
        self.deadline = self.loop.time() + seconds
        self.tries: list[Try] = []
        self.answer: Answer | None = None

    async def whole(self) -> Answer:
        """Ask until there is an answer."""
        async with aclosing(self.pieces()) as pieces:
            async for _ in pieces:
                pass
        assert self.answer is not None
        return self.answer

    async def pieces(self) -> AsyncGenerator[dict[str, Any], None]:
        """What comes, of the first try that brings anything. Raises `CallFailed`."""
        limits, config = self.client._limits[self.request.endpoint.name], self.client.config
        while True:
            begun = False
            try:
                async with limits.turn(self.deadline), aclosing(self._one_try()) as pieces:
                    async for piece in pieces:
                        begun = self.request.stream
                        yield piece
                return
            except DeadlinePassed:
                raise self._failed("deadline") from None
            except TryFailed as failed:
                failures = len(self.tries)
                if begun or failed.reason in FINAL or failures > config.retries:
                    raise self._failed(failed.reason) from failed
                base, most = config.backoff_seconds, config.most_backoff_seconds
                wait = backoff_seconds(failures, failed.retry_after, base, most, self.client._dice)
                if failed.retry_after is not None:
                    # It asks all who use that model.
                    limits.pause(failed.retry_after)
                if self.loop.time() + wait >= self.deadline:
                    raise self._failed(failed.reason, "the deadline leaves no time for another try") from failed
            await asyncio.sleep(wait)

    async def _one_try(self) -> AsyncGenerator[dict[str, Any], None]:
        """One try, paid from the ledger."""
        ledger, endpoint = self.client.ledger, self.request.endpoint
        worst, key = self.request.worst_case_usd, self.client._keys.get(endpoint.name)
        reservation = None
        if ledger is not None and (reservation := ledger.reserve(worst, self.note)) is None:
            detail = f"{ledger.left_usd:.6g} dollars are left, {worst:.6g} may be needed"
            raise self._failed("budget", detail)
        # Until it is known better, and so for a task that is cancelled and a stream that is left.
        spent, free = worst, False
        attempt = Attempt(self.session, self.request, key, self._timeouts(), self.deadline)
        try:
            async with aclosing(attempt.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            cost = endpoint.price.cost_usd(attempt.assembly.usage)
            spent = worst if cost is None else cost
            self.tries.append(Try("", "", attempt.status, self.loop.time() - attempt.started, spent))
            self.answer = self._answer(attempt, cost)
        except TryFailed as failed:
            free = failed.reason in FREE
            spent = 0.0 if free else worst
            detail = failed.detail if key is None else failed.detail.replace(key, "[key]")
            seconds = self.loop.time() - attempt.started
            self.tries.append(Try(failed.reason, shortened(detail, 300, quoted=False), failed.status, seconds, spent))
            raise
        finally:
            if ledger is not None and reservation is not None:
                if free:
                    ledger.release(reservation)
                else:
                    ledger.settle(reservation, spent, also=self._recording(spent))

    def _recording(self, spent: float) -> Callable[[sqlite3.Connection], None] | None:
        record, answer = self.record, self.answer
        return None if record is None else lambda connection: record(connection, spent, answer)

    def _timeouts(self) -> Timeouts:
        config = self.client.config
        return Timeouts(config.connect_seconds, config.first_byte_seconds, config.between_bytes_seconds, config.total_seconds)

    def _answer(self, attempt: Attempt, cost: float | None) -> Answer:
        assembly = attempt.assembly
        refusal, calls = assembly.message.get("refusal"), assembly.message.get("tool_calls")
        probabilities = assembly.log_probabilities
        return Answer(
            model=self.request.endpoint.name,
            text=assembly.text,
            finish_reason=assembly.finish_reason,
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            tool_calls=tuple(one for one in calls if isinstance(one, Mapping)) if isinstance(calls, list) else (),
            log_probabilities=None if probabilities is None else tuple(probabilities),
            usage=assembly.usage,
            cost_usd=cost,
            latency_seconds=self.loop.time() - attempt.started,
            first_byte_seconds=attempt.first_byte_seconds,
            tries=tuple(self.tries),
            message=assembly.message,
        )

    def _failed(self, reason: str, detail: str = "") -> CallFailed:
        said = self.tries[-1].detail if self.tries and not detail else detail
        return CallFailed(self.request.endpoint.name, reason, said, tuple(self.tries))
