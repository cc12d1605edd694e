"""Events in: decoded and checked at the door, on disk before they are acknowledged."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from trace_engine.service.access import Caller, Role, require
from trace_engine.service.bodies import Admitted, Door, Media, encoding_of, media_of
from trace_engine.service.deps import host_of, record
from trace_engine.service.problems import Problem
from trace_engine.service.routes import _answers, _event_shapes
from trace_engine.service.routes._event_shapes import (
    BATCH_ID,
    BatchState,
    KnownBatchAnswer,
    Receipt,
    WatermarkAnswer,
    WatermarkOrder,
)
from trace_engine.service.routes._found import invalid, not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import finding_document
from trace_engine.store.batches import KnownBatch, find_batch
from trace_engine.store.journal import (
    Appended,
    BatchConflict,
    JournalError,
    JournalFull,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from trace_engine.service.handover import Taken
    from trace_engine.service.host import EngineHost

MOST_REJECTS = 100  # told in the answer; all of them are kept
MOST_FINDINGS = 200  # told in full; all of them are kept and listed by GET /v1/findings
UNWRITABLE_SECONDS = 5
_EPOCH = dt.date(1970, 1, 1)
_BATCH_ID = re.compile(BATCH_ID)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        door: Door | None = getattr(app.state, "door", None)
        if door is not None:
            await run_in_threadpool(door.close)


router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["events"], lifespan=_lifespan)

BatchQuery = Annotated[
    str | None,
    Query(
        max_length=128,
        pattern=BATCH_ID,
        description="Your id of this batch: sent again with the same body it is answered again and "
        "counted once. Also as header `Idempotency-Key`, or `batch_id` in a JSON object.",
        examples=["SD-20260301-000187"],
    ),
]


def door_of(request: Request) -> Door:
    """Return the door of this app; made when the first body comes."""
    state = request.app.state
    if not hasattr(state, "door"):
        state.door = Door(host_of(request).encoder)
    door: Door = state.door
    return door


@router.post(
    "/events",
    summary="Send events 上传事件",
    responses={200: {"model": Receipt, "description": "The events are on disk."}},
    openapi_extra={"requestBody": _event_shapes.REQUEST_BODY},
)
async def send_events(
    request: Request,
    caller: Annotated[Caller, Depends(require(Role.INGEST))],
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=30,
            allow_inf_nan=False,
            description="Seconds to wait for the engine to take the events. 0: answer as soon as "
            "they are on disk.",
        ),
    ] = 1.0,
    batch_id: BatchQuery = None,
    idempotency_key: Annotated[
        str | None, Header(max_length=130, description="As `batch_id`, quoted or not.")
    ] = None,
) -> Response:
    """Take events and answer when they are on disk.

    Rows that cannot be used are refused one by one with a reason (`rejects`); a body that cannot be
    read at all is refused whole, and nothing of it is kept. `findings` holds what days closed by
    this request brought to light, for keys that may read findings; findings of days still open
    appear when the watermark passes. The body may be packed with gzip or zstd. Columns are those of
    the event table, by their English or Chinese names; unknown ones are named and left out.
    """
    media, charset = media_of(request.headers.get("content-type"))
    encoding = encoding_of(request.headers.get("content-encoding"))
    stated = _agreed(batch_id, _key_of(idempotency_key), "header.Idempotency-Key")
    admitted = await _read(
        request, door_of(request), media, charset, encoding, named=stated is not None
    )
    stated = _agreed(stated, admitted.batch_id, "body.batch_id")
    _check(stated, door_of(request))
    host = host_of(request)
    appended = await _append(host, admitted, stated)
    taken = await _taken(host, appended.offset, wait)
    found = taken.findings if taken is not None else []
    told = found[:MOST_FINDINGS] if caller.may(Role.READ) else []
    findings = await run_in_threadpool(_findings, host, told) if told else []
    if findings:
        record(request, "finding.read", "", ids=told)
    return _answers.json_answer(
        _receipt(host, admitted, stated, appended)
        | {
            "late": taken.late if taken is not None else None,
            "pending": taken is None,
            "finding_count": len(found),
            "findings": findings,
        }
    )


async def _read(
    request: Request, door: Door, media: Media, charset: str, encoding: str, *, named: bool
) -> Admitted:
    """Return what the body holds; its memory is reserved before it is read."""
    length = request.headers.get("content-length", "")
    reserved = int(length) if length.isdigit() else 0
    door.room.take(reserved)
    try:
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > reserved:
                door.room.take(size - reserved)
                reserved = size
            parts.append(part)
        body = b"".join(parts)
        parts.clear()
        return await door.take(body, media, charset, encoding, named=named)
    finally:
        door.room.give(reserved)


def _full(full: JournalFull) -> Problem:
    return Problem(
        429,
        "too-many-requests",
        detail="more events wait for the engine than may; send the same request again",
        detail_zh="等待处理的事件过多，请稍后重发同一请求",
        retry_after=full.retry_after,
    )


async def _append(host: EngineHost, admitted: Admitted, batch_id: str | None) -> Appended:
    try:
        future = host.submit(
            admitted.encoded, admitted.payload, batch_id=batch_id, digest=admitted.digest
        )
        return await _durable(future)
    except JournalFull as full:
        raise _full(full) from full
    except BatchConflict as conflict:
        raise Problem(
            409,
            "conflict",
            detail="this batch id is known with another body",
            detail_zh="该批次号已用于其他内容",
        ) from conflict


async def _durable(future: Future[Appended]) -> Appended:
    """Return where a record is, once it is on disk; a 503 problem where it could not be stored."""
    try:
        return await asyncio.wrap_future(future)
    except JournalError as error:
        raise Problem(
            503,
            "unavailable",
            detail="the journal takes no events now; nothing of this request was kept",
            detail_zh="日志暂时无法写入，本次请求未保存任何内容",
            retry_after=UNWRITABLE_SECONDS,
        ) from error


async def _taken(host: EngineHost, offset: int, wait: float) -> Taken | None:
    """Return what became of a record; None if the engine has not taken it within ``wait`` s."""
    future = host.when_taken(offset)
    if not future.done() and wait > 0:
        waiting = asyncio.wrap_future(future)
        await asyncio.wait([waiting], timeout=wait)
        waiting.cancel()  # nobody listens any more; done already in most cases
    return future.result() if future.done() and not future.cancelled() else None


def _receipt(
    host: EngineHost, admitted: Admitted, batch_id: str | None, appended: Appended
) -> dict[str, Any]:
    rejects = admitted.encoded.rejects
    return {
        "offset": appended.offset,
        "batch_id": batch_id,
        "repeated": appended.repeated,
        "rows": admitted.rows,
        "accepted": admitted.rows - rejects.num_rows,
        "rejected": rejects.num_rows,
        "rejects": rejects.slice(0, MOST_REJECTS)
        .select(["row", "column", "reason", "detail"])
        .to_pylist(),
        "ignored_columns": list(admitted.ignored[:MOST_REJECTS]),
        **_standing(host),
    }


def _standing(host: EngineHost) -> dict[str, dt.date | None]:
    return {
        "watermark": _date(host.shard.latest_day),
        "closed_through": _date(host.shard.closed_through),
    }


def _date(day: int | None) -> dt.date | None:
    return None if day is None else _EPOCH + dt.timedelta(days=day)


def _findings(host: EngineHost, ids: list[str]) -> list[dict[str, Any]]:
    rows = (host.findings.get(finding_id) for finding_id in ids)
    return [finding_document(row) for row in rows if row is not None]


def _key_of(header: str | None) -> str | None:
    """Return the id in an ``Idempotency-Key``; the draft of the IETF has it in quotes."""
    if header is None:
        return None
    text = header.strip()
    quoted = len(text) >= 2 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def _agreed(one: str | None, other: str | None, where: str) -> str | None:
    if one is not None and other is not None and one != other:
        raise invalid(where, "is not the batch id stated elsewhere", "与别处给出的批次号不同")
    return one if one is not None else other


def _check(batch_id: str | None, door: Door) -> None:
    if batch_id is None:
        return
    if not _BATCH_ID.fullmatch(batch_id):
        raise invalid("batch_id", f"does not match {BATCH_ID}", f"不符合 {BATCH_ID}")
    if door.encoder.pseudonyms.mask_identity_cards(batch_id) != batch_id:
        raise invalid("batch_id", "is the number of an identity card", "为身份证号码")


@router.get(
    "/batches/{batch_id}",
    summary="Look a batch up 查询批次",
    dependencies=[Depends(require(Role.INGEST, Role.READ))],
    responses={200: {"model": KnownBatchAnswer, "description": "The batch was stored."}},
)
async def batch(
    request: Request,
    batch_id: Annotated[
        str, Path(max_length=128, pattern=BATCH_ID, examples=["SD-20260301-000187"])
    ],
) -> Response:
    """Say whether a batch is stored and how far the engine is with it.

    404 for one that was never acknowledged, and for one sent so long ago that its id is forgotten.
    """
    host = host_of(request)
    try:
        known = await run_in_threadpool(find_batch, host.journal, batch_id)
    except JournalError as error:
        raise Problem(503, "unavailable", retry_after=UNWRITABLE_SECONDS) from error
    if known is None:
        raise not_found("no batch is stored under this id", "没有此批次号的批次")
    return _answers.json_answer(
        {
            "batch_id": batch_id,
            "offset": known.offset,
            "rows": known.rows,
            "received_at": dt.datetime.fromtimestamp(known.seen_at, dt.UTC),
            "state": _state(host, known),
            **_standing(host),
        }
    )


def _state(host: EngineHost, known: KnownBatch) -> BatchState:
    if known.offset > host.loop.taken_offset:
        return BatchState.WAITING
    closed = host.shard.closed_through
    if not known.kept or (
        known.last_day is not None and (closed is None or closed < known.last_day)
    ):
        return BatchState.TAKEN
    return BatchState.JUDGED


@router.post(
    "/watermark",
    summary="Close days by hand 手动结日",
    dependencies=[Depends(require(Role.ADMIN))],
    responses={200: {"model": WatermarkAnswer, "description": "The order is on disk."}},
)
async def close_days(
    request: Request,
    order: WatermarkOrder,
    wait: Annotated[float, Query(ge=0, le=30, allow_inf_nan=False)] = 1.0,
) -> Response:
    """Judge all days up to and with `close_through`, though events of them may still come.

    For the end of a delivery, or where nothing later arrives that would close them. What comes
    afterwards for these days is judged with the first open day and marked late.
    """
    host = host_of(request)
    # What was acknowledged before counts, although the engine may not have looked at it yet.
    if await _taken(host, host.journal.last_offset, wait) is None:
        raise Problem(
            503,
            "unavailable",
            detail="the engine has not taken all events yet",
            detail_zh="引擎尚未处理完已接收的事件",
            retry_after=1,
        )
    last = host.shard.latest_day
    if last is None or (order.close_through - _EPOCH).days > last:
        raise invalid(
            "body.close_through",
            f"is after the latest day seen ({_date(last) or 'none yet'})",
            f"晚于已收到的最晚业务日期（{_date(last) or '尚无'}）",
        )
    record(request, "watermark.advance", str(order.close_through))
    try:
        appended = await _durable(host.advance(order.close_through))
    except JournalFull as full:
        raise _full(full) from full
    taken = await _taken(host, appended.offset, wait)
    return _answers.json_answer(
        {
            "offset": appended.offset,
            "pending": taken is None,
            "finding_count": len(taken.findings) if taken is not None else 0,
            **_standing(host),
        }
    )
