"""New findings as they are made: server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from prometheus_client import Counter, Gauge
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from trace_engine.service.access import Caller, Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes._checks import check_detectors
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import RegionQuery, TextQuery, region_prefix
from trace_engine.service.streams import EventStream, StreamLimits, Streams, Wanted


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make a place for listeners, and count them for the metrics."""
    state = app.state
    registry = state.metrics.registry
    dropped = Counter(
        "trace_engine_streams_dropped", "Streams cut off, not being read", registry=registry
    )
    state.streams = Streams(
        state.host, StreamLimits.of(state.settings), state.stopping, dropped.inc
    )
    open_streams = Gauge("trace_engine_streams", "Streams that are open", registry=registry)
    open_streams.set_function(lambda: float(len(state.streams)))
    yield


router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["stream"], lifespan=lifespan)

EXAMPLE = (
    ": open\nid: 4710\nretry: 3000\n\n"
    'event: finding\ndata: {"number":4711,"finding_id":"f1c0...","detector":"repeated_transfer"}\n'
    "id: 4711\n\n: heartbeat\nid: 4711\n\n"
    'event: bye\ndata: {"reason":"renew","after":4711}\n\n'
)


@router.get(
    "/stream",
    summary="New findings as they are made 实时线索",
    response_class=EventStream,
    status_code=200,  # the class has no default that the OpenAPI could read
    responses={
        200: {
            "description": "Server-sent events: `finding` (its id is the number), `bye` with "
            "the reason (`renew`: connect again; `stopping`: the service ends), and comments as "
            "heartbeats. It does not end by itself.",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE},
            },
        }
    },
)
async def stream(
    request: Request,
    caller: Annotated[Caller, Depends(require(Role.READ))],
    last_event_id: Annotated[
        int | None,
        Header(ge=0, lt=2**63, description="Go on after this number; stands above `after`."),
    ] = None,
    after: Annotated[
        int | None,
        Query(
            ge=0,
            lt=2**63,
            description="Begin after this number; 0: with the oldest there is. By default only "
            "what is new from now on.",
        ),
    ] = None,
    detector: Annotated[
        list[Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9_.:-]+$")]] | None,
        Query(description="One or more detectors.", max_length=100),
    ] = None,
    family: Annotated[Literal["suspected_violation", "data_quality"] | None, Query()] = None,
    severity_min: Annotated[float | None, Query(ge=0, le=1)] = None,
    subject_id: TextQuery = None,
    drug_id: TextQuery = None,
    region: RegionQuery = None,
    jurisdiction: TextQuery = None,
) -> Response:
    """Send every finding after a number, in order, and go on as new ones are made.

    Each is sent once to a listener that resumes with the last id it got (`Last-Event-ID`, which
    browsers send by themselves). A finding that grows comes again with a new number and a higher
    `revision`. Who does not read for half a minute is cut off and may resume.
    """
    if detector is not None:
        await run_in_threadpool(check_detectors, host_of(request), detector, "query.detector")
    streams: Streams = request.app.state.streams
    begin = await streams.begin(caller.key_id, after if last_event_id is None else last_event_id)
    wanted = Wanted(
        detector=None if detector is None else frozenset(detector),
        family=family,
        severity_min=severity_min,
        subject_id=subject_id,
        drug_id=drug_id,
        region=region_prefix(region),
        jurisdiction=jurisdiction,
    )
    record(request, "stream.open", subject_id or "", after=begin)
    return EventStream(streams, caller.key_id, begin, wanted)
