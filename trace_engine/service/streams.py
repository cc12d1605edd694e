"""Server-sent events: who listens gets every finding after a number, in order, from the store.

Nothing is queued for a listener. Each one remembers the last number it was sent and asks for what
is after it: from a short memory that all share, or, where it is further behind, from the database.
A listener that does not read keeps nothing but its connection, and loses that after
``send_seconds``; with the last id it got it goes on later where it stopped.
"""

from __future__ import annotations

import asyncio
import bisect
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.to_thread
from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trace_engine.service.problems import Problem
from trace_engine.service.routes._answers import json_bytes
from trace_engine.service.routes._shapes import finding_document
from trace_engine.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

READ_ROWS = 100  # of the store at a time; one may list 20 000 codes
KEPT_ROWS = 4096  # findings in memory for listeners that are up to date, and their bytes
KEPT_BYTES = 16 << 20
SENT_BYTES = 1 << 18  # about; to one listener in one write
LOOK_SECONDS = 0.25  # how soon a service that is stopping says so
RELOOK_SECONDS = 5.0  # findings that nobody announced (another process) are seen after this


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many may listen and how long. Times in seconds."""

    most: int = 64
    most_per_key: int = 8
    heartbeat: float = 15.0
    send_seconds: float = 30.0  # a listener that takes nothing for this long is dropped
    lifetime: float = 900.0  # then it must connect again, with a key that is still good

    @classmethod
    def of(cls, settings: ServiceSettings) -> StreamLimits:
        """Return the limits that the settings state."""
        return cls(
            most=settings.most_streams,
            most_per_key=settings.most_streams_per_key,
            heartbeat=settings.stream_heartbeat_seconds,
            send_seconds=settings.stream_send_seconds,
            lifetime=settings.stream_lifetime_seconds,
        )


class Findings(Protocol):
    """What of the store of findings is used here."""

    def after(self, number: int, limit: int) -> list[dict[str, Any]]:
        """Return findings with a higher number, rising."""

    def last_number(self) -> int:
        """Return the highest number."""


class Announcer(Protocol):
    """What of the engine's host is used here."""

    @property
    def findings(self) -> Findings:
        """The store."""

    def listen(self, callback: Callable[[list[int]], None]) -> Callable[[], None]:
        """Have ``callback`` told the numbers of findings just stored."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a listener wants to hear of; None: anything."""

    detector: frozenset[str] | None = None
    family: str | None = None
    severity_min: float | None = None
    subject_id: str | None = None
    drug_id: str | None = None
    region: str | None = None  # digits that the code begins with
    jurisdiction: str | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Return whether a finding is wanted."""
        return (
            (self.detector is None or row["detector"] in self.detector)
            and (self.family is None or row["family"] == self.family)
            and (self.severity_min is None or row["severity"] >= self.severity_min)
            and (self.subject_id is None or row["subject_id"] == self.subject_id)
            and (self.drug_id is None or row["drug_id"] == self.drug_id)
            and (self.region is None or (row["region"] or "").startswith(self.region))
            and (self.jurisdiction is None or row["jurisdiction"] == self.jurisdiction)
        )


_ASKED = ("detector", "family", "severity", "subject_id", "drug_id", "region", "jurisdiction")


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    facts: Mapping[str, Any]
    message: bytes


def _items(rows: list[dict[str, Any]]) -> list[_Item]:
    return [
        _Item(
            row["number"],
            {name: row[name] for name in _ASKED},
            format_sse_event(
                event="finding",
                id=str(row["number"]),
                data_str=json_bytes(finding_document(row)).decode(),
            ),
        )
        for row in rows
    ]


class Streams:
    """All listeners of one app. Lives on the event loop; only the announcement comes from outside.

    ``stopping`` is set when the service is asked to end: listeners are then told and let go.
    ``dropped`` is called for each that is cut off because it does not read.
    """

    def __init__(
        self,
        host: Announcer,
        limits: StreamLimits,
        stopping: threading.Event,
        dropped: Callable[[], None],
    ) -> None:
        self.limits = limits
        self.dropped = dropped
        self._host = host
        self._stopping = stopping
        self._open: Counter[str] = Counter()  # by key
        self._wakers: set[asyncio.Event] = set()
        self._pump: asyncio.Task[None] | None = None
        self._announced = asyncio.Event()
        self._threads = anyio.CapacityLimiter(4)
        self._kept: list[_Item] = []  # all with numbers in (_kept_after, _kept_to]
        self._kept_after = self._kept_to = 0

    def __len__(self) -> int:
        return self._open.total()

    @property
    def stopping(self) -> bool:
        """Whether the service is ending."""
        return self._stopping.is_set()

    async def begin(self, key_id: str, after: int | None) -> int:
        """Count a new listener in and return the number it begins after.

        Without ``after`` that is the last one there is. Raises :class:`Problem`: 503 where too many
        listen, 429 where too many with this key, 409 where ``after`` was never given.
        """
        if len(self) >= self.limits.most:
            raise Problem(
                503,
                "unavailable",
                detail=f"{self.limits.most} streams are open, which is all there may be",
                detail_zh=f"已有 {self.limits.most} 个订阅连接，达到上限",
                retry_after=30,
            )
        if self._open[key_id] >= self.limits.most_per_key:
            raise Problem(
                429,
                "too-many-requests",
                detail=f"this key has {self.limits.most_per_key} streams open already",
                detail_zh=f"该密钥已有 {self.limits.most_per_key} 个订阅连接",
                retry_after=30,
            )
        self._open[key_id] += 1  # before anything is awaited: two may come at once
        try:
            last = await self._in_thread(self._host.findings.last_number)
            if after is not None and after > last:
                raise Problem(
                    409,
                    "conflict",
                    detail=f"the last finding is number {last}: number {after} was never given "
                    "here. The service was restored from an older copy, or it is another service: "
                    "begin with after=0 and go by finding_id and revision.",
                    detail_zh=f"最新线索编号为 {last}，此处从未发出编号 {after}："
                    "服务可能由较早的备份恢复，或并非同一服务。"
                    "请以 after=0 从头接收，按 finding_id 与 revision 去重。",
                    last_number=last,
                )
            if self._pump is None:
                self._kept, self._kept_after, self._kept_to = [], last, last
                self._pump = asyncio.create_task(self._run(), name="streams")
        except BaseException:
            self.end(key_id)
            raise
        return last if after is None else after

    def end(self, key_id: str) -> None:
        """Count a listener out."""
        self._open[key_id] -= 1
        self._open += Counter()  # forget keys without streams
        if not self._open and self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def waker(self) -> asyncio.Event:
        """Return an event that is set whenever there may be more."""
        event = asyncio.Event()
        self._wakers.add(event)
        return event

    def forget(self, waker: asyncio.Event) -> None:
        """Let go of a waker."""
        self._wakers.discard(waker)

    async def take(self, after: int, wanted: Wanted) -> tuple[bytes, int]:
        """Return messages after a number, about ``SENT_BYTES``, and the number they reach to.

        That number is ``after`` itself where there is nothing more.
        """
        if after < self._kept_after:
            read = functools.partial(self._read, after)
            items = await self._in_thread(read)
            first = 0
        else:
            items = self._kept
            first = bisect.bisect_right(items, after, key=lambda item: item.number)
        parts: list[bytes] = []
        size, reached = 0, after
        for item in items[first : first + READ_ROWS]:
            if size >= SENT_BYTES:
                break
            if wanted.takes(item.facts):
                parts.append(item.message)
                size += len(item.message)
            reached = item.number
        return b"".join(parts), reached

    def _read(self, after: int) -> list[_Item]:
        return _items(self._host.findings.after(after, READ_ROWS))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    async def _run(self) -> None:
        """Read what is new once for all, and wake who waits."""
        loop = asyncio.get_running_loop()

        def announce(_numbers: list[int]) -> None:
            with suppress(RuntimeError):  # the event loop is gone: nobody listens any more
                loop.call_soon_threadsafe(self._announced.set)

        leave = self._host.listen(announce)
        looked = -RELOOK_SECONDS
        try:
            while not self.stopping:
                if self._announced.is_set() or time.monotonic() - looked >= RELOOK_SECONDS:
                    self._announced.clear()
                    looked = time.monotonic()
                    await self._refill()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._announced.wait(), LOOK_SECONDS)
            self._wake()
        finally:
            leave()

    async def _refill(self) -> None:
        """Take in all findings since the last look. A database out of reach is asked again later."""
        while True:
            try:
                items = await self._in_thread(functools.partial(self._read, self._kept_to))
            except Exception:  # listeners wait meanwhile: what they miss now, they get then
                logger.exception("findings for streams cannot be read")
                return
            if not items:
                return
            self._kept += items
            self._kept_to = items[-1].number
            self._trim()
            self._wake()

    def _trim(self) -> None:
        size = sum(len(item.message) for item in self._kept)
        gone = 0
        while gone < len(self._kept) and (size > KEPT_BYTES or len(self._kept) - gone > KEPT_ROWS):
            size -= len(self._kept[gone].message)
            gone += 1
        if gone:
            self._kept_after = self._kept[gone - 1].number
            del self._kept[:gone]

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()


class EventStream(Response):
    """The answer to a listener. ``after`` moves on as messages are sent, and only then."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, key_id: str, after: int, wanted: Wanted) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.streams = streams
        self.key_id = key_id
        self.after = after
        self.wanted = wanted
        self._slow = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send messages until the listener leaves, is dropped, or must connect again."""
        waker = self.streams.waker()
        try:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await self._write(send, waker)
                group.cancel_scope.cancel()
        finally:
            self.streams.forget(waker)
            self.streams.end(self.key_id)
        if self._slow:
            self.streams.dropped()
            logger.warning(
                "a stream was dropped: its reader took nothing for %g s",
                self.streams.limits.send_seconds,
                extra={"key_id": self.key_id, "after": self.after},
            )

    async def _write(self, send: Send, waker: asyncio.Event) -> None:
        limits = self.streams.limits
        ends = time.monotonic() + limits.lifetime
        start: MutableMapping[str, Any] = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        try:
            # Something at once, so that whatever stands between passes the head of the answer on.
            await self._send(send, format_sse_event(comment="open", id=str(self.after), retry=3000))
            while True:
                waker.clear()
                if self.streams.stopping:
                    await self._bye(send, "stopping")
                    return
                if time.monotonic() >= ends:
                    await self._bye(send, "renew")
                    return
                messages, reached = await self.streams.take(self.after, self.wanted)
                if messages:
                    await self._send(send, messages)
                if reached > self.after:
                    self.after = reached
                    continue
                left = max(ends - time.monotonic(), 0.0)
                try:
                    await asyncio.wait_for(waker.wait(), min(limits.heartbeat, left))
                except TimeoutError:
                    if left <= limits.heartbeat:
                        ends = 0.0
                        continue
                    # The id tells how far everything was looked at, also what was not wanted.
                    beat = format_sse_event(comment="heartbeat", id=str(self.after))
                    await self._send(send, beat)
        except _TooSlowError:
            self._slow = True

    async def _bye(self, send: Send, reason: str) -> None:
        """Say why the stream ends, and end it."""
        data = json_bytes({"reason": reason, "after": self.after}).decode()
        await self._send(send, format_sse_event(event="bye", data_str=data), more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": more}
        try:
            async with asyncio.timeout(self.streams.limits.send_seconds):
                await send(message)
        except TimeoutError:
            raise _TooSlowError from None


class _TooSlowError(Exception):
    """The reader does not read."""
