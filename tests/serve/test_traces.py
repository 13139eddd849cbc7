"""Spans: one per request, one per try, with the conventions' names, and nothing of what was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jaxroute.errors import EndpointError
from jaxroute.serve.traces import Sending, Traces, wanted
from tests.serve.proxies import MESSAGES, proxy

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_request_and_its_tries_are_spans_of_the_clients_trace(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    with proxy(tmp_path) as one:
        one.running.service.traces = Traces(exporter=exporter)
        one.simulation.next_faults.append("rate_limit:0")
        body = {"model": "auto", "messages": MESSAGES, "max_tokens": 50, "user": "alice"}
        secret = {"traceparent": PARENT, "authorization": "Bearer jaxroute-secret"}
        assert one.post(body, headers=secret).status == 200
        assert one.post({"model": "weird \x7f name", "messages": MESSAGES}).status == 404
        deadline = time.monotonic() + 5
        while len(exporter.get_finished_spans()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        failed, answered, whole, unknown = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in (failed, answered, whole)} == {PARENT.split("-")[1]}
    assert f"{whole.parent.span_id:016x}" == PARENT.split("-")[2]
    assert failed.parent.span_id == answered.parent.span_id == whole.context.span_id
    assert [whole.name, failed.name, answered.name, unknown.name] == [
        "chat auto",
        "chat sim-large",
        "chat sim-medium",
        "chat unknown",
    ]
    assert failed.attributes["error.type"] == "rate_limit" and not failed.status.is_ok
    assert unknown.attributes["error.type"] == "model_not_found"
    attributes = dict(whole.attributes)
    assert attributes["gen_ai.operation.name"] == "chat" and attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["gen_ai.request.model"] == "auto" and attributes["gen_ai.response.model"] == "sim-medium"
    assert attributes["gen_ai.usage.input_tokens"] > 0 and attributes["gen_ai.usage.output_tokens"] > 0
    assert attributes["jaxroute.spent_usd"] > 0 and attributes["http.response.status_code"] == 200
    text = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert not any(part in text for part in ("12 plus 30", "alice", "secret", "weird"))


def test_the_endpoint_continues_the_trace(tmp_path: Path) -> None:
    exporter, seen = InMemorySpanExporter(), []
    with proxy(tmp_path) as one:
        service = one.running.service
        service.traces = Traces(exporter=exporter)
        request = service.session.request

        async def noted(*given, headers, **rest):
            seen.append(headers["traceparent"])
            return await request(*given, headers=headers, **rest)

        service._session.request = noted  # pyright: ignore
        assert one.post(json.dumps({"model": "sim-nano", "messages": MESSAGES}).encode()).status == 200
    trying = exporter.get_finished_spans()[0]
    assert len(seen) == 1 and seen[0].startswith(f"00-{trying.context.trace_id:032x}-{trying.context.span_id:016x}-0")


def test_spans_are_made_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert not wanted(None) and wanted("http://127.0.0.1:4318/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert wanted(None)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not wanted(None)
    with pytest.raises(EndpointError, match="must be an address such as"):
        Traces("collector:4318")


class Failing:
    """An exporter whose collector answers, or does not."""

    def __init__(self) -> None:
        self.answers, self.ended = False, threading.Event()

    def export(self, spans: Sequence) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self.answers else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended.wait(30)


def test_a_collector_that_is_away_is_mentioned_once_and_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    collector = Failing()
    sending = Sending(collector)
    for _ in range(50):
        sending.export([1, 2])
    collector.answers = True
    sending.export([1])
    sending.export([1])
    assert [record.getMessage() for record in caplog.records] == [
        "spans cannot be sent, and are lost until the collector answers",
        "spans are sent again; 100 were lost",
    ]
    begun = time.monotonic()
    Traces(exporter=collector).close(0.1)
    assert time.monotonic() - begun < 5 and "lost" in caplog.records[-1].getMessage()
    collector.ended.set()
