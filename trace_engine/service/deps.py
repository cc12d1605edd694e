"""What routes ask of the app: the engine's host, settings, metrics, and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from trace_engine.service.access import OPEN, Caller
from trace_engine.service.audit import masked
from trace_engine.service.problems import Problem
from trace_engine.service.settings import ServiceSettings

if TYPE_CHECKING:
    from trace_engine.events.privacy import Pseudonyms
    from trace_engine.service.host import EngineHost
    from trace_engine.service.metrics import Metrics

RETRY_SECONDS = 5


def host_of(request: HTTPConnection) -> EngineHost:
    """Return the engine's host, ready or not."""
    host: EngineHost = request.app.state.host
    return host


def ready_host_of(request: HTTPConnection) -> EngineHost:
    """Return the engine's host; a 503 problem while it replays its journal or after it failed."""
    host = host_of(request)
    status = host.status()
    if not status.ready:
        why = "replaying the journal" if status.replaying else "the engine is not running"
        raise Problem(503, "unavailable", detail=why, retry_after=RETRY_SECONDS)
    return host


def settings_of(request: HTTPConnection) -> ServiceSettings:
    """Return the settings of the service."""
    settings: ServiceSettings = request.app.state.settings
    return settings


def metrics_of(request: HTTPConnection) -> Metrics:
    """Return the metrics of this app."""
    metrics: Metrics = request.app.state.metrics
    return metrics


def caller_of(request: HTTPConnection) -> Caller:
    """Return who makes the request, as ``require`` found; the open caller where none was asked."""
    caller: Caller = request.scope.get("state", {}).get("caller", OPEN)
    return caller


def request_id_of(request: HTTPConnection) -> str:
    """Return the id under which the log knows this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def record(request: HTTPConnection, action: str, subject: str = "", **details: Any) -> None:
    """Note for the audit log that this caller does ``action`` with ``subject``.

    ``action`` is ``<thing>.<verb>`` (``finding.read``, ``outcome.add``); ``details`` are plain JSON
    values. What callers ask for may be the number of an identity card: it is noted as its pseudonym
    (:func:`audit_text`). Callable from sync and async routes, any number of times: the
    notes are handed over when the answer starts, before its first byte. For requests that change
    something they are on disk by then; what was only looked at is on disk within about a second.
    """
    state = request.scope.setdefault("state", {})
    subject, details = masked((subject, details), lambda: _pseudonyms_of(request))
    state.setdefault("audit", []).append((action, subject, details))


def audit_text(request: HTTPConnection, text: str) -> str:
    """Return ``text`` as :func:`record` notes it."""
    noted: str = masked(text, lambda: _pseudonyms_of(request))
    return noted


def _pseudonyms_of(request: HTTPConnection) -> Pseudonyms:
    return host_of(request).encoder.pseudonyms
