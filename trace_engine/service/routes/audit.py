"""Who saw and changed what."""

from __future__ import annotations

import datetime as dt
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.service.access import Role, require
from trace_engine.service.deps import audit_text, host_of, record
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._checks import unusable
from trace_engine.service.routes._found import error_at, listing
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Page, Shape, TextQuery, shanghai
from trace_engine.service.routes.findings import Moment, begin_of, end_of
from trace_engine.store.audit import AuditFilters, AuditLog

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["audit"])

LISTING = "audit"
# All that is noted, by whomever: so that a misspelt one is not answered as if nobody had done it.
ACTIONS = (
    "audit.list", "code.read", "finding.list", "finding.read", "graph.read", "key.add",
    "key.revoke", "outcome.add", "outcome.list", "plan.list", "plan.make", "plan.read",
    "reject.list", "retention.apply", "seller.list", "seller.read", "stream.open",
    "watermark.advance", "webhook.add", "webhook.change", "webhook.deliveries", "webhook.list",
    "webhook.read", "webhook.remove", "webhook.retry",
)  # fmt: skip
AUDIT_COLUMNS = (
    "number", "at", "key_id", "name", "address", "request_id", "action", "subject", "details",
)  # fmt: skip


class AuditEntry(Shape):
    """One thing that a caller did."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "number": 12,
                    "at": "2026-03-02T10:02:33+08:00",
                    "key_id": "0a1b2c3d4e5f",
                    "name": "case desk",
                    "address": "10.0.0.7",
                    "request_id": "6f1d0c7f2b8a4a31",
                    "action": "seller.read",
                    "subject": "91370100MA3C0X0X0X",
                    "details": {},
                }
            ]
        },
    )

    number: int = Field(description="A cursor.")
    at: dt.datetime
    key_id: str
    name: str = Field(description="Name of the key.")
    address: str
    request_id: str
    action: str
    subject: str
    details: dict[str, Any]


class AuditPage(Page):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]


@router.get(
    "/audit",
    summary="Audit log 审计日志",
    response_model=AuditPage,
    responses=listing(AuditPage, AuditEntry, "A page of the audit log"),
)
def list_audit(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.ADMIN))],
    key_id: TextQuery = None,
    action: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00-\x1f\x7f]+$",
            description=f"One of {', '.join(ACTIONS)}.",
        ),
    ] = None,
    subject: TextQuery = None,
    since: Annotated[Moment | None, Query(description="From this day or moment on.")] = None,
    until: Annotated[
        Moment | None, Query(description="Up to this day, which counts, or before this moment.")
    ] = None,
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return what callers did, newest first. Looking here is noted too."""
    media = _answers.negotiate(request, (_answers.JSON, _answers.NDJSON, _answers.CSV))
    stated = {
        "key_id": key_id, "action": action, "subject": subject, "since": since, "until": until,
    }  # fmt: skip
    position = _paging.decode_cursor(LISTING, stated, cursor, (int,))
    filters = AuditFilters(
        key_id=key_id,
        action=action,
        subject=None if subject is None else audit_text(request, subject),
        since=begin_of(since, "query.since"),
        until=end_of(until, "query.until"),
    )
    log = AuditLog(host_of(request).database)
    rows, last = log.page(filters, position[0] if position else None, limit)
    if not rows and action is not None:
        _check_action(log, action)
    following = None if last is None else _paging.encode_cursor(LISTING, stated, [last])
    record(request, "audit.list", key_id or "", found=len(rows))
    entries = [
        {name: row[name] for name in AUDIT_COLUMNS} | {"at": shanghai(row["at"])} for row in rows
    ]
    headers = _paging.next_link(request, following)
    if media != _answers.JSON:
        return _answers.rows_answer(media, entries, AUDIT_COLUMNS, headers=headers, name="audit")
    page = {"entries": entries, "next_cursor": following}
    return _answers.json_answer(page, headers={**headers, "Vary": "Accept"})


def _check_action(log: AuditLog, action: str) -> None:
    """Answer 422 to an action that there is not; one noted by an older version stays known."""
    if action in ACTIONS or log.page(AuditFilters(action=action), None, 1)[0]:
        return
    near = get_close_matches(action, ACTIONS, n=1)
    error = error_at(
        "query.action",
        "is no action" + (f"; is {near[0]} meant?" if near else f": expected {', '.join(ACTIONS)}"),
        "没有此操作" + (f"，是否指 {near[0]}？" if near else f"，应为 {'、'.join(ACTIONS)} 之一"),
    )
    raise unusable([error])
