"""Metrics for Prometheus: requests as they pass, the engine's own numbers when asked for.

One registry for each app, so that several apps in one process (tests) do not count together. All
names begin with ``trace_engine_``; ``docs/operations.md`` says what each means.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

import trace_engine
from trace_engine.service.audit import AuditTrail
from trace_engine.store.tables import FINDING
from trace_engine.store.webhooks import WebhookStore

if TYPE_CHECKING:
    from trace_engine.service.host import EngineHost

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNT_SECONDS = 30.0
# A series beside each counter that says when it began would only double what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]
NO_ROUTE = "none"  # addresses that are nobody's: one label, whatever is tried
_logger = logging.getLogger("trace_engine.service")
# Around the aims: 10 ms for a code, 25 ms for 500 events.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# name of the status's count, name of the metric, help
_COUNTS = (
    ("rows", "rows", "Rows received"),
    ("events", "events", "Events judged"),
    ("duplicates", "duplicates", "Events known already, not counted again"),
    ("rejects", "rejects", "Rows not taken"),
    ("late", "late_events", "Events that came after their day was closed"),
)
# attribute of the status, name of the metric, help
_GAUGES = (
    ("last_offset", "journal_last_offset", "Last record of the journal"),
    ("taken_offset", "journal_taken_offset", "Last record that the engine took"),
    ("checkpoint_offset", "checkpoint_offset", "Last record that the newest checkpoint holds"),
    ("waiting_rows", "journal_waiting_rows", "Rows in the journal not yet taken"),
    ("waiting_bytes", "journal_waiting_bytes", "Bytes in the journal not yet taken"),
    ("pending_events", "pending_events", "Events held until their day closes"),
    ("live_codes", "live_codes", "Codes in the engine's state"),
    ("archived_codes", "archived_codes", "Codes long closed, on disk and ready to come back"),
    ("state_bytes", "state_bytes", "Memory of the engine's state"),
    ("findings", "stored_findings", "Findings in the store"),
)


class Metrics:
    """The metrics of one app."""

    def __init__(self, host: EngineHost, trail: AuditTrail) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "trace_engine_request_seconds",
            "Time from a request's first byte to the answer's last",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "trace_engine_request_bytes", "Bytes of bodies received", registry=self.registry
        )
        self.in_flight = Gauge(
            "trace_engine_requests_in_flight", "Requests being worked on", registry=self.registry
        )
        self.refused_keys = Counter(
            "trace_engine_refused_keys", "Requests with a wrong key or none", registry=self.registry
        )
        Gauge(
            "trace_engine_audit_failures",
            "Tries to write the audit log that failed since the start",
            registry=self.registry,
        ).set_function(lambda: float(trail.failures))
        self.registry.register(_Engine(host))
        self.registry.register(_Stores(host))
        ProcessCollector(namespace="trace_engine", registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float, taken: int) -> None:
        """Count one request that is over. ``route`` is its pattern, ``seconds`` its duration."""
        name = method if method in _METHODS else "other"
        self._requests.labels(name, route or NO_ROUTE, str(status)).observe(seconds)
        if taken:
            self._bytes.inc(taken)

    def page(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """Reads the engine's status when metrics are asked for."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host

    def describe(self) -> Iterable[Metric]:
        """Return nothing: so that registering does not ask the host for its status."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the engine's numbers."""
        status = self._host.status()
        info = GaugeMetricFamily("trace_engine_build", "Version running", labels=["version"])
        info.add_metric([trace_engine.__version__], 1)
        yield info
        yield _gauge("ready", "1 if requests are answered", float(status.ready))
        yield _gauge("replaying", "1 while the journal is replayed", float(status.replaying))
        stalled = float(status.problem is not None)
        yield _gauge("stalled", "1 while findings or state cannot be written; tried again", stalled)
        yield _gauge(
            "failed", "1 if the engine stopped by an error", float(status.error is not None)
        )
        for name, metric, about in _COUNTS:
            yield CounterMetricFamily(
                f"trace_engine_{metric}", about, value=float(status.counts.get(name, 0))
            )
        for name, metric, about in _GAUGES:
            yield _gauge(metric, about, float(getattr(status, name) or 0))
        yield _gauge(
            "journal_lag_records",
            "Records in the journal not yet taken",
            float(max(status.last_offset - status.taken_offset, 0)),
        )
        yield from _times(status)


class _Stores(Collector):
    """Counts rows of the database, at most every :data:`COUNT_SECONDS`: that reads an index."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._counted = -COUNT_SECONDS
        self._up = False
        self._findings: dict[str, int] = {}
        self._deliveries: dict[str, int] = {}

    def describe(self) -> Iterable[Metric]:
        """Return nothing: so that registering does not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the last counts; what could not be counted keeps its old ones."""
        with self._lock:
            if time.monotonic() - self._counted >= COUNT_SECONDS:
                self._count()
                self._counted = time.monotonic()
        yield _gauge("database_up", "1 if the database answered when last asked", float(self._up))
        yield _labelled("findings_by_detector", "Findings in the store", "detector", self._findings)
        yield _labelled("webhook_deliveries", "Deliveries in the outbox", "state", self._deliveries)

    def _count(self) -> None:
        by_detector = select(FINDING.c.detector, func.count()).group_by(FINDING.c.detector)
        try:
            with self._host.database.read() as connection:
                self._findings = {row[0]: int(row[1]) for row in connection.execute(by_detector)}
            self._deliveries = WebhookStore(self._host.database).counts()
            self._up = True
        except (SQLAlchemyError, OSError):
            self._up = False
            _logger.exception("the database cannot be asked")


def _times(status: Any) -> Iterator[Metric]:
    """Yield days and ages; nothing for what has not happened yet."""
    now = time.time()
    days: tuple[tuple[str, str, date | None], ...] = (
        ("watermark_seconds", "Latest day seen (Unix time, 00:00 UTC)", status.watermark),
        ("closed_through_seconds", "Last closed day (Unix time, 00:00 UTC)", status.closed_through),
    )
    for name, about, day in days:
        if day is not None:
            at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            yield _gauge(name, about, at.timestamp())
    if status.checkpoint_seconds is not None:
        about = "How long the newest checkpoint took"
        yield _gauge("checkpoint_seconds", about, status.checkpoint_seconds)
    if status.checkpoint_at is not None:
        age = max(now - status.checkpoint_at, 0.0)
        yield _gauge("checkpoint_age_seconds", "Since the newest checkpoint", age)
    yield _gauge("started_seconds", "When the service started (Unix time)", status.started_at)


def _labelled(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"trace_engine_{name}", about, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"trace_engine_{name}", about, value=value)
