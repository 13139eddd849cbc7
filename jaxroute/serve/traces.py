"""OpenTelemetry spans: one per request and one per try, with the names of the conventions for generative models.

Names are those of OpenTelemetry's semantic conventions for generative AI spans (`gen_ai.*`); what has no name there begins with
`jaxroute.`. A span holds models, tokens, dollars and how it ended: never a prompt, an answer, a key or a client.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import MutableMapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jaxroute.errors import EndpointError, shortened
from jaxroute.serve.asking import Asked, Kind
from jaxroute.serve.finished import Finished

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from jaxroute.serve.state import Upstream

LOG = logging.getLogger("jaxroute.serve")
CLOSE_SECONDS = 3.0
OPERATIONS: dict[Kind, str] = {
    "chat": "chat",
    "completion": "text_completion",
    "response": "chat",
    "embedding": "embeddings",
}
"""Values of `gen_ai.operation.name`."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that say where spans are sent where `traces` is the empty text."""


def wanted(traces: str | None) -> bool:
    """Whether spans are made: where an address is given, or the environment has one and does not forbid it."""
    if traces is not None:
        return True
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def check_address(url: str | None) -> None:
    """Raise `EndpointError` where spans cannot be sent to `url`; a password in it is not repeated."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or any(one.isspace() or not one.isprintable() for one in url):
        shown = "..." + url.rpartition("@")[1] + url.rpartition("@")[2] if "@" in url else url
        raise EndpointError(f"traces={shortened(shown)} must be an address such as http://127.0.0.1:4318/v1/traces")


def check_installed() -> None:
    """Raise `EndpointError` where OpenTelemetry is not installed."""
    for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise EndpointError(f"{name} is not installed: pip install 'jaxroute[otel]'")


class Sending:
    """An exporter that says once that spans are not accepted, and once that they are again."""

    def __init__(self, exporter: Any) -> None:
        self._exporter, self._lost = exporter, 0

    def export(self, spans: Sequence[Any]) -> Any:
        """Send them; returns what the exporter says of it."""
        result = self._exporter.export(spans)
        if result.name != "SUCCESS":
            if not self._lost:
                LOG.warning("spans cannot be sent, and are lost until the collector answers")
            self._lost += len(spans)
        elif self._lost:
            LOG.warning("spans are sent again; %d were lost", self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Nothing is sent any more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)


def _quiet() -> None:
    """OpenTelemetry writes a line for every try of every batch that fails, which `Sending` says once."""
    log = logging.getLogger("opentelemetry")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())


class Traces:
    """Makes spans and sends them to `url`, an OTLP address over HTTP, or to where the environment says.

    `exporter` takes the place of the one that sends. Raises `EndpointError` where OpenTelemetry is not installed or `url` is no
    address.
    """

    def __init__(self, url: str | None = None, *, exporter: Any = None) -> None:
        check_installed()
        from opentelemetry.propagate import extract, inject
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        check_address(url)
        self._extract, self._inject, self._in_context = extract, inject, set_span_in_context
        self._kinds, self._error = SpanKind, lambda why: Status(StatusCode.ERROR, why)
        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "jaxroute"}
        self._provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            _quiet()
            # It sends in a thread of its own, and drops spans where its queue is full.
            sending: Any = Sending(OTLPSpanExporter(endpoint=url))
            self._provider.add_span_processor(BatchSpanProcessor(sending))
        else:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("jaxroute")

    def request(self, asked: Asked, model: str, headers: MutableMapping[str, str]) -> Span:
        """A request has been read; its span continues the trace of its `traceparent`. `model` is a name that is known here."""
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": OPERATIONS[asked.kind],
            "gen_ai.provider.name": "jaxroute",
            "gen_ai.request.model": model,
        }
        if asked.output_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = asked.output_tokens
        name = f"{OPERATIONS[asked.kind]} {model}"
        return self._tracer.start_span(name, self._extract(headers), self._kinds.SERVER, attributes)

    def trying(self, parent: Span, asked: Asked, upstream: Upstream, headers: MutableMapping[str, str]) -> Span:
        """A try begins; `headers` gets the `traceparent` with which the endpoint continues the trace."""
        endpoint, context = upstream.endpoint, self._in_context(parent)
        place = urlsplit(endpoint.base_url)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": OPERATIONS[asked.kind],
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": endpoint.model,
            "server.address": place.hostname or "",
            "server.port": place.port or (443 if place.scheme == "https" else 80),
        }
        span = self._tracer.start_span(f"{OPERATIONS[asked.kind]} {endpoint.model}", context, self._kinds.CLIENT, attributes)
        for name in ("traceparent", "tracestate"):
            headers.pop(name, None)
        self._inject(headers, self._in_context(span))
        return span

    def tried(self, span: Span, finished: Finished, reason: str) -> None:
        """The try has ended; `reason` says why it failed, empty where it did not."""
        self._end(span, finished, reason)

    def ended(self, span: Span, finished: Finished) -> None:
        """The request has ended."""
        own: dict[str, Any] = {
            "http.response.status_code": finished.status,
            "jaxroute.id": finished.id,
            "jaxroute.routed": finished.routed,
            "jaxroute.tries": len(finished.failures) + (not finished.reason),
            "jaxroute.spent_usd": finished.spent_usd,
            "jaxroute.overhead_seconds": finished.overhead_seconds,
        }
        if finished.quality is not None:
            own["jaxroute.expected_quality"] = finished.quality
        if finished.expected_usd is not None:
            own["jaxroute.expected_usd"] = finished.expected_usd
        span.set_attributes(own)
        self._end(span, finished, finished.reason)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what has not been sent, for at most so many seconds: a collector that does not answer holds up no end."""
        # A thread that the end of the process does not wait for.
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(seconds)
        if sending.is_alive():
            LOG.warning("spans were not sent within %g seconds and are lost", seconds)

    def _end(self, span: Span, finished: Finished, reason: str) -> None:
        if reason:
            span.set_attribute("error.type", reason)
            span.set_status(self._error(reason))
        else:
            usage = finished.usage
            if finished.model is not None:
                span.set_attribute("gen_ai.response.model", finished.model)
            if usage.prompt_tokens is not None:
                span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
            if usage.completion_tokens is not None:
                span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        span.end()
