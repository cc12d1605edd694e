"""The gate that every request passes, before and after the app: ids, limits, headers, log, metrics.

Plain ASGI, the outermost layer. It refuses what is too long, too large, too slow, too much or meant
for another host before anything is read; gives every answer its security headers; turns an
unforeseen error into a problem document; hands audit notes over before the first byte of an answer;
and counts and logs the request when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from starlette.requests import ClientDisconnect, HTTPConnection

from trace_engine.service import headers, problems
from trace_engine.service.access import Doorkeeper, identify
from trace_engine.service.audit import AuditFullError, AuditTrail, notes_of
from trace_engine.service.limits import Limiter, Places, address_of
from trace_engine.service.metrics import Metrics
from trace_engine.service.problems import Problem
from trace_engine.service.settings import ServiceSettings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EVENTS_PATH = "/v1/events"
# Long-lived or asked by monitors: these do not count as work in flight.
UNCOUNTED = frozenset({"/v1/stream", "/healthz", "/readyz", "/metrics"})
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
AUDIT_SECONDS = 10.0
DRAIN_SECONDS = 2.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_access_log = logging.getLogger("trace_engine.access")
_logger = logging.getLogger("trace_engine.service")


class Gate:
    """ASGI middleware; one for each app."""

    def __init__(
        self,
        app: App,
        *,
        settings: ServiceSettings,
        metrics: Metrics,
        trail: AuditTrail,
        doorkeeper: Doorkeeper,
        limiter: Limiter,
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._trail = trail
        self._doorkeeper = doorkeeper
        self._limiter = limiter
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._places = Places(settings.most_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(self, scope, receive, send)
        try:
            await passage.run()
        finally:
            self._note(scope, passage)

    @contextmanager
    def place(self, scope: Scope) -> Iterator[bool]:
        """Count a request as worked on; False if there are too many of its kind."""
        if scope["path"] in UNCOUNTED:
            yield True
            return
        known = self._doorkeeper.was_open or "caller" in scope["state"]
        stranger = None if known else address_of(HTTPConnection(scope))
        taken = self._places.take(stranger)
        self._metrics.in_flight.set(self._places.taken)
        try:
            yield taken
        finally:
            if taken:
                self._places.give(stranger)
                self._metrics.in_flight.set(self._places.taken)

    async def refusal(self, scope: Scope, sent: dict[bytes, bytes]) -> Problem | None:
        """Return why a request is refused by its first lines alone, or None."""
        limits = self._settings
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.most_url_bytes:
            return Problem(414, "address-too-long")
        if sum(len(k) + len(v) + 4 for k, v in scope["headers"]) > limits.most_header_bytes:
            return Problem(431, "headers-too-large")
        if not self._is_own_host(sent.get(b"host", b"")):
            return Problem(421, "wrong-host")
        if not self._doorkeeper.was_open and not await self._is_known(scope, sent):
            try:
                self._limiter.anonymous(HTTPConnection(scope))
            except Problem as problem:
                return problem
        length = sent.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                return Problem(400, "bad-request", detail="Content-Length is not a number")
            if int(length) > self.most_body(scope):
                return self.too_large(scope)
        changes = scope["method"] not in SAFE_METHODS and scope["path"] != EVENTS_PATH
        if changes and self._trail.failing:  # before anything is changed that cannot be noted
            return _unaudited()
        return None

    async def _is_known(self, scope: Scope, sent: dict[bytes, bytes]) -> bool:
        """Return whether a valid key was sent; why it is not, is told where one is needed."""
        if not sent.keys() & CREDENTIALS:
            return False
        connection = HTTPConnection(scope)
        try:
            self._limiter.before(connection)
            return await identify(connection) is not None
        except Problem:
            return False

    def _is_own_host(self, header: bytes) -> bool:
        names = self._hosts
        if not names:
            if not self._doorkeeper.was_open:
                return True
            names = LOCAL_NAMES
        host = header.decode("latin-1").lower()
        return (host if host.endswith("]") else host.rpartition(":")[0] or host) in names

    def most_body(self, scope: Scope) -> int:
        """Return how many bytes the body of this request may have."""
        if scope["path"] == EVENTS_PATH:
            return self._settings.most_body_bytes
        return self._settings.most_small_body_bytes

    def too_large(self, scope: Scope) -> Problem:
        """Return the problem of a body beyond the limit. The rest of it will not be read."""
        most = self.most_body(scope)
        return Problem(
            413,
            "too-large",
            detail=f"at most {most} bytes",
            detail_zh=f"正文最多 {most} 字节，请减少每次请求的事件数。未保存任何内容。",
            headers={"Connection": "close"},
            most_bytes=most,
        )

    @property
    def body_seconds(self) -> float:
        """How long a body may take to arrive."""
        return self._settings.body_seconds

    @property
    def tls(self) -> bool:
        """Whether this service itself speaks TLS."""
        return self._settings.tls_certificate is not None

    async def write_notes(self, scope: Scope) -> None:
        """Hand over the audit notes of a request; a 503 problem if they cannot be kept."""
        state = scope["state"]
        if not state.get("audit"):
            return
        notes = notes_of(state, address_of(HTTPConnection(scope)))
        try:
            done = self._trail.put(notes, wait=scope["method"] not in SAFE_METHODS)
            if done is not None:
                await asyncio.wait_for(asyncio.wrap_future(done), AUDIT_SECONDS)
        except (AuditFullError, TimeoutError):
            raise _unaudited() from None

    def _note(self, scope: Scope, passage: _Passage) -> None:
        """Count and log a request that is over."""
        seconds = time.perf_counter() - passage.started
        route = getattr(scope.get("route"), "path", "")
        self._metrics.request(scope["method"], route, passage.status, seconds, passage.taken)
        if self._settings.access_log:
            caller = scope["state"].get("caller")
            _access_log.info(
                "request",
                extra={
                    "request_id": scope["state"]["request_id"],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": passage.status,
                    "ms": round(seconds * 1e3, 2),
                    "bytes_in": passage.taken,
                    "bytes_out": passage.given,
                    "key_id": caller.key_id if caller is not None else None,
                    "address": address_of(HTTPConnection(scope)),
                },
            )


def _unaudited() -> Problem:
    return Problem(
        503,
        "unavailable",
        detail="the audit log cannot be written",
        detail_zh="审计日志无法写入",
        retry_after=10,
    )


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate = gate
        self.scope = scope
        self._receive = receive
        self._send = send
        self.started = time.perf_counter()
        self.status = 499  # nothing was answered: the caller went away
        self.taken = self.given = 0
        self._begun = False
        self._whole = False
        self._unsent: Problem | None = None
        self._deadline = self.started + gate.body_seconds
        self._most = gate.most_body(scope)

    async def run(self) -> None:
        sent = dict(self.scope["headers"])
        state = self.scope.setdefault("state", {})
        asked = sent.get(b"x-request-id", b"").decode("latin-1")
        state["request_id"] = asked if _REQUEST_ID.fullmatch(asked) else uuid4().hex
        problem = await self.gate.refusal(self.scope, sent)
        if problem is not None:
            await self._refuse(problem)
            return
        with self.gate.place(self.scope) as taken:
            if taken:
                await self._work()
                return
        await self._refuse(
            Problem(
                503,
                "unavailable",
                detail="too many requests at once",
                detail_zh="同时处理的请求过多",
                retry_after=1,
            )
        )

    async def _work(self) -> None:
        """Have the app answer, and answer for it where it fails."""
        try:
            await self.gate._app(self.scope, self.receive, self.send)
        except ClientDisconnect:
            return
        except Exception as error:  # the last place that can answer the caller
            problem = error if isinstance(error, Problem) else self._unsent
            if problem is None:
                _logger.exception(
                    "a request failed",
                    extra={
                        "request_id": self.scope["state"]["request_id"],
                        "path": self.scope["path"],
                    },
                )
            if self._begun:
                raise  # the server cuts the connection: half an answer must not look whole
            await self._answer(problem or problems.internal())

    async def _refuse(self, problem: Problem) -> None:
        """Answer without the app, after taking some of the body so that the caller can listen."""
        if problem.status_code == 413:
            await self._drain()
        await self._answer(problem)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.taken <= 2 * self._most:
                    message = await self._receive()
                    self.taken += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            return

    async def _answer(self, problem: Problem) -> None:
        self.scope["state"].pop("audit", None)
        response = problems.response(problem, self.scope["state"]["request_id"])
        await response(self.scope, self._receive, self.send)

    async def receive(self) -> Message:
        """Give the app the next part of the body; 413 or 408 beyond size or time."""
        if self._whole:
            return await self._receive()
        left = self._deadline - time.perf_counter()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "request-timeout", headers={"Connection": "close"}) from None
        self.taken += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self.taken > self._most:
            if not self._whole:
                await self._drain()
            raise self.gate.too_large(self.scope)
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, its headers completed."""
        if message["type"] == "http.response.start":
            try:
                await self.gate.write_notes(self.scope)
            except Problem as problem:
                self._unsent = problem  # the app's own layers wrap what an answer's start raises
                raise
            self._begun = True
            self.status = message["status"]
            fields = list(message.get("headers", ()))
            headers.add(fields, tls=self.gate.tls)
            fields.append((b"x-request-id", self.scope["state"]["request_id"].encode()))
            message["headers"] = fields
        else:
            self.given += len(message.get("body", b""))
        await self._send(message)
