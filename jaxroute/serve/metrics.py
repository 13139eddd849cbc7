"""Prometheus metrics. Labels are models, kinds of requests, reasons and statuses: never a key, a user or a prompt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from jaxroute.serve.finished import Finished
from jaxroute.serve.shared import TOLL, TOTAL, is_total

if TYPE_CHECKING:
    from jaxroute.serve.service import Service

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
OVERHEAD_SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.008, 0.02, 0.05, 0.12, 0.5)
NO_MODEL = "none"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client keeps the counts of several processes; it reads this variable when it is imported."""


class Metrics:
    """Counts every request that has ended."""

    def __init__(self, service: Service) -> None:
        self.registry = registry = CollectorRegistry()
        by_model = ("model", "kind", "routed")
        self.requests = Counter("jaxroute_requests", "Requests that have ended", (*by_model, "status"), registry=registry)
        self.errors = Counter("jaxroute_errors", "Requests without a whole answer", ("model", "reason"), registry=registry)
        self.failed_tries = Counter("jaxroute_failed_tries", "Tries without an answer", ("model", "reason"), registry=registry)
        self.tokens = Counter("jaxroute_tokens", "Tokens of answers", ("model", "direction"), registry=registry)
        self.dollars = Counter("jaxroute_dollars", "Dollars spent, on all tries", ("model", "routed"), registry=registry)
        self.first_byte = Histogram(
            "jaxroute_first_byte_seconds", "Until the response began", ("model",), registry=registry, buckets=SECONDS
        )
        self.total = Histogram(
            "jaxroute_request_seconds", "Until the response ended", ("model",), registry=registry, buckets=SECONDS
        )
        self.overhead = Histogram(
            "jaxroute_overhead_seconds",
            "All but waiting for endpoints",
            ("routed",),
            registry=registry,
            buckets=OVERHEAD_SECONDS,
        )
        self.routing = Histogram("jaxroute_routing_seconds", "Of ranking models", registry=registry, buckets=OVERHEAD_SECONDS)
        self.quality = Histogram(
            "jaxroute_expected_quality",
            "Estimated quality of the answers that were routed",
            registry=registry,
            buckets=[tenth / 10 for tenth in range(1, 11)],
        )
        self.unknown = Counter(
            "jaxroute_unknown_prompts", "Routed prompts that are unlike the training prompts", registry=registry
        )
        self.service = service
        self.reloads = Counter("jaxroute_reloads", "Configurations read again", ("result",), registry=registry)
        worker = service.state.config.worker
        # Counts of several workers are in their files, which prometheus_client adds up.
        self._scraped = registry if worker is None else CollectorRegistry()
        if worker is not None:
            MultiProcessCollector(self._scraped, os.environ[METRICS_FOLDER])
        self._scraped.register(_Present(service))

    def __call__(self, finished: Finished) -> None:
        """A request has ended."""
        model, routed = finished.model or NO_MODEL, "auto" if finished.routed else "named"
        self.requests.labels(model, finished.kind, routed, str(finished.status)).inc()
        if finished.reason:
            self.errors.labels(model, finished.reason).inc()
        for tried, reason in finished.failures:
            self.failed_tries.labels(tried, reason).inc()
        if finished.spent_usd:
            self.dollars.labels(model, routed).inc(finished.spent_usd)
        self.overhead.labels(routed).observe(finished.overhead_seconds)
        if finished.model is None:
            return
        usage = finished.usage
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:
            self.tokens.labels(model, "input").inc(usage.prompt_tokens)
            self.tokens.labels(model, "output").inc(usage.completion_tokens)
        if finished.first_byte_seconds is not None:
            self.first_byte.labels(model).observe(finished.first_byte_seconds)
        self.total.labels(model).observe(finished.total_seconds)
        if finished.routed:
            self.routing.observe(finished.routing_seconds)
            if finished.quality is not None:
                self.quality.observe(finished.quality)
            if finished.p_value is not None and finished.p_value < self.service.state.config.unknown_below:
                self.unknown.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._scraped)


class _Present:
    """What holds at the moment of a scrape."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        state = self.service.state
        yield GaugeMetricFamily("jaxroute_multiplier", "Quality per dollar at which is routed", value=state.pace.multiplier)
        tolls = GaugeMetricFamily("jaxroute_toll", "Quality that a place at a model is worth", labels=["model"])
        for name, value in self.service.figures().items():
            if name.startswith(TOLL):
                tolls.add_metric([name.removeprefix(TOLL)], value)
                continue
            family = CounterMetricFamily if is_total(name) else GaugeMetricFamily
            name = name.removesuffix(TOTAL) if is_total(name) else name
            yield family(f"jaxroute_{name}", name.replace("_", " ").capitalize(), value=value)
        drift = GaugeMetricFamily(
            "jaxroute_drift", "Evidence that a model's answers, or prompts, have changed: from 1 on an alarm", labels=["of"]
        )
        for name, value in self.service.drift.wealth.items():
            drift.add_metric([name], value)
        yield drift
        alarmed = GaugeMetricFamily("jaxroute_drift_alarm", "1 since an alarm of drift", labels=["of", "direction"])
        for alarm in self.service.drift.alarms:
            alarmed.add_metric([alarm.name, alarm.direction], 1.0)
        yield alarmed
        if state.promise is not None:
            supported = float(not self.service.drift.unsupported)
            yield GaugeMetricFamily(
                "jaxroute_promise_supported", "0 since an alarm of drift speaks against it", value=supported
            )
        yield tolls
        yield GaugeMetricFamily("jaxroute_models", "Models that are served", value=len(state.upstreams))
        if state.accounts.everyone is not None:
            totals = state.accounts.everyone.totals()
            for name, what, value in (
                ("limit", "The budget of a window", totals.limit_usd),
                ("left", "What can still be reserved in this window", totals.left_usd),
                ("reserved", "Worst cases of requests under way", totals.reserved_usd),
                ("settled", "Spent in this window", totals.settled_usd),
            ):
                yield GaugeMetricFamily(f"jaxroute_budget_{name}_dollars", what, value=value)
