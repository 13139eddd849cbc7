"""One request and its response: whose it is, and the tries until a model answers.

Every try is held at its worst case in the ledgers before it is sent, and settled after it: at its true cost where the endpoint
has counted the tokens credibly, at nothing where it has refused, else at its worst case. Once the client has got the first
byte, no other model is tried.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from time import perf_counter
from typing import Any

from jaxroute.endpoints.limits import DeadlinePassed
from jaxroute.errors import shortened
from jaxroute.serve.accounts import Held
from jaxroute.serve.asking import AUTO, Asked, Kind
from jaxroute.serve.choosing import Pace, Ranked
from jaxroute.serve.clients import ServedClient, authorised
from jaxroute.serve.event_streams import EventStream, TooLong, counted
from jaxroute.serve.finished import Finished
from jaxroute.serve.headers import OWN, Headers, Wishes, going_up, read_headers, read_query
from jaxroute.serve.ordering import Ordering
from jaxroute.serve.refusals import Refused
from jaxroute.serve.service import Place, Service
from jaxroute.serve.tries import Failure, Try

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
MOST_WHOLE_BYTES = 64 * 2**20
"""Of an answer that is no stream."""


class Exchange:
    """`await run()` answers it, whatever happens."""

    def __init__(self, service: Service, kind: Kind, scope: Message, receive: Receive, send: Send) -> None:
        self.service, self.state = service, service.state
        self.kind: Kind = kind
        self.scope, self.receive, self.send = scope, receive, send
        self.loop = asyncio.get_running_loop()
        self.started = perf_counter()
        number, digest = f"jr-{secrets.token_hex(12)}", self.state.checkpoint_digest
        self.finished = Finished(id=number, kind=kind, checkpoint_digest=digest)
        self.client: ServedClient | None = None
        self.gone = False
        """Whether the client has left."""
        self.begun = False
        """Whether it has got the first byte."""
        self.waited_seconds = 0.0
        """For endpoints, and so not ours."""
        self.asked: Asked | None = None
        self.current: Try | None = None
        self.span: Any = None
        """Of the whole request, where spans are made."""

    async def run(self) -> None:
        """Answer, and note how it ended."""
        watcher: asyncio.Task[None] | None = None
        self.service.under_way += 1
        try:
            headers = read_headers(self.scope["headers"])
            self.query = read_query(self.scope["query_string"])
            self.client = authorised(self.state.clients, headers)
            self.finished.client = self._client_name
            data = await read_body(self.receive, headers, self.state.config.most_body_bytes, self.state.config.body_seconds)
            self.started = perf_counter()
            asked = self.asked = Asked.read(self.kind, data)
            if self.service.traces is not None:
                # A name that is none here may hold anything.
                known = asked.model if asked.model == AUTO or asked.model in self.state.upstreams else "unknown"
                self.span = self.service.traces.request(asked, known, headers)
            wishes = Wishes.read(headers)
            watcher = asyncio.create_task(self._watch())
            self.deadline = self.loop.time() + self.state.config.timeouts.deadline_seconds
            self.ordering = Ordering(self.service, self.state, self.client, self.finished)
            await self._ask_in_order(asked, wishes, await self.ordering.models(asked, wishes), headers)
        except Refused as refused:
            self.finished.reason = self.finished.reason or refused.code
            await self._refuse(refused)
        except asyncio.CancelledError:
            # Whoever waits longer than the end of the proxy may take is cut, and learns why.
            self.finished.reason = "proxy_ending"
            await self._refuse(Refused(503, "proxy_ending", "The proxy is ending: ask again, or another one."))
        except Exception:
            self.finished.reason = "internal_error"
            self.service.log.exception("%s failed", self.finished.id)
            await self._refuse(Refused(500, "internal_error", "The proxy has failed; its log says why."))
        finally:
            if watcher is not None:
                watcher.cancel()
            self._finish()

    async def _watch(self) -> None:
        """Notice when the client leaves; what has been begun is then read on for a while, to know what it cost."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self.current is not None:
            self.current.hurry(self.state.config.drain_seconds)

    @property
    def _client_name(self) -> str | None:
        return None if self.client is None else self.client.name

    # Tries

    async def _ask_in_order(self, asked: Asked, wishes: Wishes, order: list[Ranked], headers: dict[str, str]) -> None:
        failed: tuple[str, Failure] | None = None
        short: float | None = None
        for ranked in order:
            candidate, worst = ranked.candidate, ranked.candidate.worst_case_usd
            if self.gone:
                self.finished.reason = self.finished.reason or "client_gone"
                return
            if wishes.max_cost_usd is not None and self.finished.spent_usd + (worst or 0.0) > wishes.max_cost_usd:
                continue
            try:
                if not await self._try(asked, ranked, headers, waits=ranked is order[-1]):
                    short = worst or 0.0
                    continue
                return
            except DeadlinePassed:
                failed = failed or (candidate.model, self._busy(candidate.model))
            except Failure as failure:
                failed = (candidate.model, failure)
                self.finished.failures.append((candidate.model, failure.reason))
                if failure.retry_after and failure.reason in ("rate_limit", "server_error") and self.finished.routed:
                    self.service.pauses.asked(candidate.model, failure.retry_after)
                if self.begun or not failure.moves or self.loop.time() >= self.deadline:
                    break
        if failed is None:
            raise self.ordering.no_money(short or 0.0)
        await self._fail(*failed)

    async def _try(self, asked: Asked, ranked: Ranked, headers: dict[str, str], *, waits: bool) -> bool:
        """Ask one model; False where its worst case does not fit any more. Raises `Failure`, `DeadlinePassed`."""
        candidate, accounts, config = ranked.candidate, self.state.accounts, self.state.config
        upstream = self.state.upstreams[candidate.model]
        if upstream.limits.full and not waits:
            raise DeadlinePassed
        queued = perf_counter()
        async with upstream.limits.turn(min(self.deadline, self.loop.time() + config.queue_seconds)):
            self.waited_seconds += perf_counter() - queued
            began = perf_counter()
            held = accounts.hold(self._client_name, candidate.worst_case_usd, f"{self.finished.id} {candidate.model}"[:1000])
            if held is None:
                return False
            self.finished.begin(candidate.model, ranked)
            pace = self.state.pace_of(self._client_name)
            payment = _Payment(held, self.finished, pace, candidate.worst_case_usd or 0.0, ranked.cost_usd)
            current = self.current = Try(self.service.session, upstream, config.timeouts, self.deadline)
            up = going_up(headers, upstream.key, stream=asked.stream)
            traces, reason = self.service.traces, "cancelled"
            span = None if traces is None else traces.trying(self.span, asked, upstream, up)
            try:
                async with current:
                    body = asked.bytes_for(upstream.endpoint, limited=accounts.counts(self._client_name))
                    await current.open(asked.kind, body, up, query=self.query)
                    relay = self._stream if current.content_type == "text/event-stream" else self._whole
                    await relay(asked, current, payment)
                reason = ""
            except Failure as failure:
                reason = failure.reason
                if failure.free and not self.begun:
                    payment.settle(0.0)
                raise
            except Refused:
                payment.settle(0.0)
                raise
            finally:
                self.current = None
                self.waited_seconds += current.waited_seconds
                if not reason:
                    self.service.places.held(candidate.model, perf_counter() - began)
                # At its worst case where nothing better is known, and so for what is cancelled.
                payment.settle(None)
                if traces is not None and span is not None:
                    traces.tried(span, self.finished, reason)
            return True

    async def _whole(self, asked: Asked, current: Try, payment: _Payment) -> None:
        """An answer that is no stream: read to its end, paid, then sent with what it cost."""
        pieces = bytearray()
        while data := await current.read():
            pieces += data
            if len(pieces) > MOST_WHOLE_BYTES:
                raise Failure("malformed", f"more than {MOST_WHOLE_BYTES:,} bytes")
        try:
            content = json.loads(pieces)
        except (ValueError, RecursionError):
            raise Failure("malformed", "it is no JSON") from None
        if not isinstance(content, dict):
            raise Failure("malformed", "it is no JSON object")
        payment.settle(self._cost(asked, current, content.get("usage")))
        self._keep_place(content.get("id"), current)
        # What the try has waited is added up when it ends, and is needed now.
        waited = self.waited_seconds + current.waited_seconds
        headers = [*current.headers, *self._own_headers(waited, self.finished.spent_usd)]
        headers.append((b"content-length", str(len(pieces)).encode()))
        await self._start(200, headers)
        await self.send({"type": "http.response.body", "body": bytes(pieces)})

    async def _stream(self, asked: Asked, current: Try, payment: _Payment) -> None:
        """A stream, event by event as they come, paid before its end is sent."""
        events = EventStream(keep_usage=asked.with_usage or asked.kind == "response", answers=asked.answers)
        try:
            while data := await current.read():
                passing = events.feed(data)
                if events.error is not None and not self.begun and self.finished.routed:
                    raise Failure("server_error", str(events.error))
                if passing:
                    if not self.begun:
                        headers = self._own_headers(self.waited_seconds + current.waited_seconds, None)
                        await self._start(200, [*current.headers, *headers])
                    await self.send({"type": "http.response.body", "body": passing, "more_body": True})
        except TooLong as error:
            raise Failure("malformed", str(error)) from None
        rest = events.rest()
        cost = self._cost(asked, current, events.usage)
        if cost is None and not events.done and events.error is None:
            raise Failure("cut", "the stream ended before its end")
        if not self.begun:
            await self._start(200, [*current.headers, *self._own_headers(self.waited_seconds + current.waited_seconds, None)])
        self._keep_place(events.response_id, current)
        payment.settle(cost)
        await self.send({"type": "http.response.body", "body": rest})

    def _cost(self, asked: Asked, current: Try, usage: object) -> float | None:
        endpoint = current.upstream.endpoint
        bounded = asked.output_tokens is not None or self.state.accounts.counts(self._client_name)
        most = asked.answers * asked.limit(endpoint) if bounded else None
        tokens = counted(asked.kind, usage, most)
        self.finished.usage, self.finished.cost_usd = tokens, endpoint.price.cost_usd(tokens)
        if endpoint.price.cached_input is not None:
            self.service.conversations.answered(asked, self._client_name, endpoint.name, tokens)
        return self.finished.cost_usd

    def _keep_place(self, number: object, current: Try) -> None:
        if self.kind == "response" and isinstance(number, str):
            self.service.stored.put(number, Place(current.upstream.endpoint.name, self._client_name))

    def _busy(self, model: str) -> Failure:
        refused = Refused(429, "model_busy", f"The model {shortened(model)} has as many requests as it may have at once.")
        failure = Failure("rate_limit", "at its own limits", 429, [(b"content-type", b"application/json")], refused.body())
        failure.headers.append((b"retry-after", b"1"))
        return failure

    # The response

    async def _start(self, status: int, headers: Headers) -> None:
        self.begun, self.finished.status = True, status
        self.finished.first_byte_seconds = perf_counter() - self.started
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _fail(self, model: str, failure: Failure) -> None:
        self.finished.reason = failure.reason
        if failure.passes and not self.begun:
            own = self._own_headers(self.waited_seconds, self.finished.spent_usd)
            length = (b"content-length", str(len(failure.body)).encode())
            await self._start(failure.status or 502, [*failure.headers, *own, length])
            await self.send({"type": "http.response.body", "body": failure.body})
            return
        await self._refuse(failure.refused(model))

    async def _refuse(self, refused: Refused) -> None:
        """An error of ours; in the middle of a stream as its last event, since the status has been sent."""
        body = refused.body()
        with suppress(OSError):
            if self.begun:
                await self.send({"type": "http.response.body", "body": _last_event(self.kind, refused)})
                return
            headers = [(name.encode(), value.encode()) for name, value in refused.headers.items()]
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            if refused.status in (408, 413):
                headers.append((b"connection", b"close"))
            await self._start(refused.status, [*headers, *self._own_headers(self.waited_seconds, self.finished.spent_usd)])
            await self.send({"type": "http.response.body", "body": body})

    def _own_headers(self, waited_seconds: float, spent_usd: float | None) -> Headers:
        """What we say of an answer: its number, the model, expected and true dollars, and our own milliseconds."""
        finished = self.finished
        own = {"id": finished.id, "overhead-ms": f"{1000 * (perf_counter() - self.started - waited_seconds):.3f}"}
        if finished.model is not None:
            own |= {"model": finished.model, "tries": str(len(finished.failures) + 1)}
        if finished.expected_usd is not None:
            own["expected-cost-usd"] = f"{finished.expected_usd:.9g}"
        if finished.quality is not None:
            own["expected-quality"] = f"{finished.quality:.4f}"
        if spent_usd is not None:
            own["cost-usd"] = f"{spent_usd:.9g}"
        return [(f"{OWN}{name}".encode(), value.encode("latin-1", "replace")) for name, value in own.items()]

    def _finish(self) -> None:
        finished = self.finished
        self.service.under_way -= 1
        finished.total_seconds = perf_counter() - self.started
        finished.overhead_seconds = max(0.0, finished.total_seconds - self.waited_seconds)
        if self.gone and not finished.reason:
            finished.reason = "client_gone"
        if self.service.traces is not None and self.span is not None:
            self.service.traces.ended(self.span, finished)
        self.service.finish(finished, lambda: self.asked.prompt if self.asked is not None else "")


class _Payment:
    """Of one try: what is held for it is booked once."""

    def __init__(self, held: Held, finished: Finished, pace: Pace, worst_usd: float, expected_usd: float | None) -> None:
        self._held, self._finished, self._pace, self._worst = held, finished, pace, worst_usd
        # Of a model that is asked by its name nothing is expected.
        self._expected = worst_usd if expected_usd is None else expected_usd
        self._open = True
        pace.begin(self._expected, worst_usd)

    def settle(self, usd: float | None) -> None:
        """At its true cost, or the worst case where that is not known; nothing where it was booked before."""
        if self._open:
            self._open, spent = False, self._worst if usd is None else usd
            self._held.settle(spent)
            self._finished.spent_usd += spent
            self._pace.end(self._expected, self._worst, paid_usd=spent)


def _last_event(kind: Kind, refused: Refused) -> bytes:
    """An error in the middle of a stream, as OpenAI's clients read it."""
    if kind != "response":
        return b"data: " + refused.body() + b"\n\n"
    event = {"type": "error", "code": refused.code, "message": refused.message, "param": refused.param}
    return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"


async def read_body(receive: Receive, headers: dict[str, str], most: int, seconds: float) -> bytes:
    """The whole body of a request. Raises `Refused` where it is larger than `most` bytes or takes longer than `seconds`."""
    too_large = Refused(413, "body_too_large", f"The body has more than {most:,} bytes.")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > most:
        raise too_large
    pieces, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "client_gone", "The client has left.")
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > most:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(pieces)
    except TimeoutError:
        raise Refused(408, "body_too_slow", f"The body has not arrived within {seconds:g} seconds.") from None
