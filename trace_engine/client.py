"""A client of the service: ``trace-engine serve`` over HTTP, for programs in Python.

    from trace_engine.client import Client

    with Client("http://127.0.0.1:8420", key="te_...") as client:
        for receipt in client.send_events(table):
            print(receipt["accepted"], receipt["rejected"])
        for finding in client.findings(severity_min=0.8):
            print(finding["title_en"])

Needs ``pip install trace-engine[client]``. Nothing of the engine or the service is imported.
Requests that may be repeated are, with growing pauses or after the time the service asks for;
events travel under an id of their batch, so that a repeated request is counted once.
"""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote

import httpx
import pyarrow as pa
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

__all__ = ["Client", "ServiceProblem", "StreamedFinding"]

ROWS = 20_000  # events of one request
NAMED = 10_000  # of a list of dicts that are made columns at once
LONGEST_PAUSE = 30.0
_ARROW = "application/vnd.apache.arrow.stream"
_AGAIN = frozenset({408, 429, 502, 503, 504})
_FAULT = 500

JSON = dict[str, Any]
Events: TypeAlias = (
    "pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]"
)


class ServiceProblem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """The service refused a request: a problem document (RFC 9457).

    ``kind`` is the last part of its ``type`` (``not-found``, ``conflict``, ...), ``document`` all it
    says, ``retry_after`` the seconds it asks to wait.
    """

    def __init__(self, status: int, document: JSON, retry_after: float | None = None) -> None:
        self.status = status
        self.document = document
        self.retry_after = retry_after
        self.kind = str(document.get("type", "")).rpartition("/")[2] or "unknown"
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", ""))
        self.detail_zh = str(document.get("detail_zh") or document.get("title_zh", ""))
        super().__init__(f"{status} {self.title}: {self.detail}".rstrip(": "))


class StreamedFinding(dict[str, Any]):
    """A finding as the stream sent it; ``number`` is where to resume after it."""

    @property
    def number(self) -> int:
        """Number of the finding, the id of its event."""
        return int(self["number"])


class Client:
    """One connection pool to one service. Thread-safe; close it, or use it as a context.

    ``key``: an API key. ``attempts`` and ``patience`` (seconds) bound how often and how long a
    request is repeated that found the service busy or away. ``verify``: False, or a path to
    certificates, as httpx takes it. ``transport`` is for tests.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        attempts: int = 8,
        patience: float = 300.0,
        verify: bool | str = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=base_url,
            headers={**headers, "User-Agent": "trace-engine-client"},
            timeout=timeout,
            verify=verify,
            transport=transport,
        )
        self._retrying = Retrying(
            wait=_pause,
            stop=stop_after_attempt(attempts) | stop_after_delay(patience),
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # ---- events in -----------------------------------------------------------------------------

    def send_events(
        self,
        events: Events,
        *,
        batch_id: str | None = None,
        rows: int = ROWS,
        wait: float = 1.0,
        compression: Literal["lz4", "zstd"] | None = "lz4",
    ) -> Iterator[JSON]:
        """Send events in requests of at most ``rows`` and yield what became of each request.

        ``events``: a table, a batch, or an iterable of batches or of dicts with the columns of the
        event table. Each request has an id (``batch_id`` and its number, or a random one), so that
        repeating it, here or later with the same ``batch_id`` and the same events, counts nothing
        twice. ``wait``: seconds for the engine to take the events; 0 to know only that they are on
        disk. Nothing is sent until the iterator is used.

        Raises :class:`ServiceProblem` and ``httpx.TransportError``.
        """
        stem = batch_id or uuid.uuid4().hex
        for number, batch in enumerate(_pieces(events, rows)):
            body = _packed(batch, compression)
            single = f"{stem}.{number}"
            yield self._json(
                "POST",
                "/v1/events",
                params={"wait": wait, "batch_id": single},
                content=body,
                headers={"Content-Type": _ARROW},
            )

    def send_all(self, events: Events, **options: Any) -> JSON:
        """Send events as :meth:`send_events` does and return the sums of what became of them."""
        names = ("rows", "accepted", "rejected", "finding_count")
        total: JSON = {"requests": 0, **dict.fromkeys(names, 0), "offset": None}
        for receipt in self.send_events(events, **options):
            total["requests"] += 1
            for name in names:
                total[name] += receipt[name]
            total["offset"] = receipt["offset"]
        return total

    def batch(self, batch_id: str) -> JSON:
        """Return where a batch is (``waiting``, ``taken``, ``judged``)."""
        return self._json("GET", f"/v1/batches/{_quoted(batch_id)}")

    def close_days(self, through: dt.date | str, *, wait: float = 30.0) -> JSON:
        """Have all days up to and with ``through`` judged; needs the role ``admin``."""
        order = {"close_through": str(through)}
        return self._json("POST", "/v1/watermark", params={"wait": wait}, json=order)

    # ---- findings and standing out -------------------------------------------------------------

    def findings(self, *, limit: int = 200, **filters: Any) -> Iterator[JSON]:
        """Yield findings page by page (``limit`` a page), newest first unless ``order`` says else.

        Filters are those of ``GET /v1/findings``: ``detector`` (one or a list), ``severity_min``,
        ``subject_id``, ``drug_id``, ``region``, ``since``, ``until``, ``late``, ...
        """
        return self._pages("/v1/findings", "findings", limit, filters)

    def finding(self, finding_id: str) -> JSON:
        """Return one finding with its evidence."""
        return self._json("GET", f"/v1/findings/{_quoted(finding_id)}")

    def sellers(self, *, limit: int = 200, **filters: Any) -> Iterator[JSON]:
        """Yield the ranking from its top (filters: ``region``, ``type``, ``tier``)."""
        return self._pages("/v1/sellers", "sellers", limit, filters)

    def seller(self, enterprise_id: str) -> JSON:
        """Return how one seller stands and why."""
        return self._json("GET", f"/v1/sellers/{_quoted(enterprise_id)}")

    def code(self, code: str) -> JSON:
        """Return the whole path of a trace code."""
        return self._json("GET", f"/v1/codes/{_quoted(code)}")

    def graph(
        self,
        enterprise: str,
        *,
        depth: int = 1,
        drug: str | None = None,
        since: dt.date | str | None = None,
        until: dt.date | str | None = None,
        limit: int | None = None,
    ) -> JSON:
        """Return enterprises within ``depth`` steps of one and the trade among them."""
        asked = {"enterprise": enterprise, "depth": depth, "drug": drug, "limit": limit}
        asked |= {"since": since, "until": until}
        return self._json("GET", "/v1/graph", params=_plain(asked))

    def sampling_plan(self, budget: int, **options: Any) -> JSON:
        """Have a sampling plan made (options: ``seed``, ``as_of``); needs the role ``officer``."""
        order = {"budget": budget} | _plain(options)
        return self._json("POST", "/v1/sampling-plans", json=order, repeat=False)

    def add_outcomes(self, outcomes: Sequence[Mapping[str, Any]]) -> JSON:
        """Report results of inspections; needs the role ``officer``. Repeating changes nothing."""
        return self._json("POST", "/v1/outcomes", json=[_plain(one) for one in outcomes])

    def outcomes(self, *, limit: int = 200, **filters: Any) -> Iterator[JSON]:
        """Yield the results reported so far, newest first."""
        return self._pages("/v1/outcomes", "outcomes", limit, filters)

    def stream(
        self, *, after: int | None = None, reconnect: bool = True, **filters: Any
    ) -> Iterator[StreamedFinding]:
        """Yield findings as they are made, for ever; those after number ``after`` first.

        A lost connection is made anew and goes on after the last finding seen. With ``reconnect``
        False the iterator ends when the service ends the stream. Raises :class:`ServiceProblem`.
        """
        last = after
        failures = 0
        while True:
            asked = filters if last is None else filters | {"after": last}
            try:
                for number, finding in self._listen(asked):
                    failures = 0
                    last = number if number is not None else last
                    if finding is not None:
                        yield finding
            except (httpx.TransportError, ServiceProblem) as error:
                failures += 1
                if not reconnect or not _is_passing(error) or failures > 20:
                    raise
                time.sleep(_asked_pause(error) or min(0.25 * 2**failures, LONGEST_PAUSE))
                continue
            if not reconnect:
                return

    def status(self) -> JSON:
        """Return how the service is: offsets, days, counts, sizes."""
        return self._json("GET", "/v1/status")

    def is_ready(self) -> bool:
        """Return whether the service answers from a whole state (False while it replays)."""
        return self._http.get("/readyz").status_code == 200

    # ---- how it is asked -----------------------------------------------------------------------

    def _json(self, method: str, path: str, *, repeat: bool = True, **request: Any) -> JSON:
        faults = 0

        def is_passing(error: BaseException) -> bool:
            """Return whether to ask again; after a fault of the service (500) that is done once."""
            nonlocal faults
            if isinstance(error, ServiceProblem) and error.status == _FAULT:
                faults += 1
                return faults == 1
            return _is_passing(error)

        def once() -> JSON:
            response = self._http.request(method, path, **request)
            _raise_for(response)
            answer: JSON = response.json()
            return answer

        if not repeat:
            return once()
        return self._retrying.copy(retry=retry_if_exception(is_passing))(once)

    def _pages(
        self, path: str, name: str, limit: int, filters: Mapping[str, Any]
    ) -> Iterator[JSON]:
        asked = _plain({**filters, "limit": limit})
        while True:
            page = self._json("GET", path, params=asked)
            yield from page[name]
            if not page.get("next_cursor"):
                return
            asked = {**asked, "cursor": page["next_cursor"]}

    def _listen(
        self, asked: Mapping[str, Any]
    ) -> Iterator[tuple[int | None, StreamedFinding | None]]:
        """Yield (id, finding) of one connection; the finding is None where only the id moved on."""
        headers = {"Accept": "text/event-stream"}
        # The service sends a heartbeat at least every half minute.
        timeout = httpx.Timeout(30.0, read=90.0)
        with self._http.stream(
            "GET", "/v1/stream", params=_plain(asked), headers=headers, timeout=timeout
        ) as response:
            if response.is_error:
                response.read()
            _raise_for(response)
            for event in _events(response.iter_lines()):
                number = int(event["id"]) if event.get("id", "").isdigit() else None
                finding = None
                if event.get("event") == "finding":
                    finding = StreamedFinding(json.loads(event["data"]))
                yield number, finding


def _events(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield server-sent events as their fields (HTML standard, section 9.2.6)."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if fields:
                yield fields
            fields = {}
            continue
        name, _, value = line.partition(":")
        if not name:
            continue
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": response.reason_phrase, "detail": "no problem document"}
    after = response.headers.get("Retry-After", "")
    raise ServiceProblem(response.status_code, document, float(after) if after.isdigit() else None)


def _is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, ServiceProblem):
        return error.status in _AGAIN
    return isinstance(error, httpx.TransportError) and not isinstance(
        error, (httpx.UnsupportedProtocol, httpx.ProxyError)
    )


def _asked_pause(error: BaseException | None) -> float | None:
    return error.retry_after if isinstance(error, ServiceProblem) else None


_growing = wait_random_exponential(multiplier=0.25, max=LONGEST_PAUSE)


def _pause(state: RetryCallState) -> float:
    """Wait as long as the service asks for, else longer each time."""
    asked = _asked_pause(state.outcome.exception() if state.outcome is not None else None)
    return float(_growing(state)) if asked is None else asked


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _plain(values: Mapping[str, Any]) -> JSON:
    return {
        name: value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value
        for name, value in values.items()
        if value is not None
    }


def _pieces(events: Events, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most ``rows`` rows, none of them empty."""
    if isinstance(events, pa.Table):
        batches: Iterable[pa.RecordBatch] = events.combine_chunks().to_batches()
    elif isinstance(events, pa.RecordBatch):
        batches = [events]
    else:
        batches = _batches(events)
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _batches(items: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    waiting = iter(items)
    for first in waiting:
        if isinstance(first, pa.RecordBatch):
            yield first
            continue
        records = [first, *islice(waiting, NAMED - 1)]
        names = list(dict.fromkeys(name for record in records for name in record))
        arrays = [_column([record.get(name) for record in records]) for name in names]
        yield pa.RecordBatch.from_arrays(arrays, names)


def _column(values: list[Any]) -> pa.Array:
    """Return values as a column; as text where they are of several kinds."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _packed(batch: pa.RecordBatch, compression: str | None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
