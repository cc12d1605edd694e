"""Findings: listed by what they are about, and one by one."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._checks import check_detectors
from trace_engine.service.routes._found import invalid, listing, not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import (
    FINDING_COLUMNS,
    FIRST_DAY,
    LAST_DAY,
    SHANGHAI,
    Finding,
    Page,
    RegionQuery,
    TextQuery,
    code_identity,
    finding_document,
    region_prefix,
)
from trace_engine.store.findings_table import FindingFilters

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["findings"])

LISTING = "findings"
# A day, or a moment: with a zone as it says, without one in Asia/Shanghai.
Moment = dt.date | dt.datetime


class FindingsPage(Page):
    """A page of findings."""

    findings: list[Finding]
    last_number: int = Field(
        description="The highest number there is: `GET /v1/stream?after=` begins after it."
    )


def begin_of(value: Moment | None, where: str) -> dt.datetime | None:
    """Return the first moment of a period that begins with a day or at a moment."""
    return None if value is None else _moment(value, where)


def end_of(value: Moment | None, where: str) -> dt.datetime | None:
    """Return the first moment after a period: a day is in it whole, a moment is not."""
    if value is None:
        return None
    moment = _moment(value, where)
    return moment if isinstance(value, dt.datetime) else moment + dt.timedelta(days=1)


def _moment(value: Moment, where: str) -> dt.datetime:
    day = value.date() if isinstance(value, dt.datetime) else value
    if not FIRST_DAY <= day <= LAST_DAY:
        span = f"{FIRST_DAY} – {LAST_DAY}"
        raise invalid(where, f"expected within {span}", f"应在 {span} 之内")
    if not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day, tzinfo=SHANGHAI)
    return value.replace(tzinfo=SHANGHAI) if value.tzinfo is None else value


def filters_of(**stated: Any) -> FindingFilters:
    """Return the filters of the store for query parameters (see :func:`list_findings`)."""
    since, until = begin_of(stated["since"], "query.since"), end_of(stated["until"], "query.until")
    if since is not None and until is not None and until <= since:
        raise invalid("query.until", "is before since", "早于 since")
    code = stated["code"]
    return FindingFilters(
        **stated
        | {
            "detector": tuple(stated["detector"] or ()),
            "code": None if code is None else code_identity(code),
            "region": region_prefix(stated["region"]),
            "since": since,
            "until": until,
        }
    )


@router.get(
    "/findings",
    summary="List findings 线索列表",
    response_model=FindingsPage,
    responses=listing(FindingsPage, Finding, "A page of findings"),
)
def list_findings(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    detector: Annotated[
        list[Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9_.:-]+$")]] | None,
        Query(description="One or more detectors.", max_length=100),
    ] = None,
    family: Annotated[Literal["suspected_violation", "data_quality"] | None, Query()] = None,
    severity_min: Annotated[float | None, Query(ge=0, le=1, description="At least this.")] = None,
    subject_id: TextQuery = None,
    drug_id: TextQuery = None,
    batch_no: TextQuery = None,
    code: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00-\x08\x0a-\x1c\x1e\x1f\x7f]+$",  # FNC1 may be in it
            description="A trace code in any printed form.",
        ),
    ] = None,
    region: RegionQuery = None,
    since: Annotated[
        Moment | None,
        Query(description="Event time from this day or moment on.", examples=["2026-03-01"]),
    ] = None,
    until: Annotated[
        Moment | None,
        Query(description="Event time up to this day, which counts, or before this moment."),
    ] = None,
    late: Annotated[
        bool | None, Query(description="Only those raised late, or only the others.")
    ] = None,
    jurisdiction: TextQuery = None,
    order: Annotated[
        Literal["newest", "oldest"],
        Query(
            description="By number. A finding that grows gets a new number: read `oldest` to miss "
            "none while they change."
        ),
    ] = "newest",
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return findings by number, in pages, as JSON, NDJSON or CSV by `Accept`.

    NDJSON and CSV tell the next page in the headers `Link` and `X-Next-Cursor`.
    """
    media = _answers.negotiate(request, (_answers.JSON, _answers.NDJSON, _answers.CSV))
    stated = {
        "detector": detector, "family": family, "severity_min": severity_min,
        "subject_id": subject_id, "drug_id": drug_id, "batch_no": batch_no, "code": code,
        "region": region, "since": since, "until": until, "late": late,
        "jurisdiction": jurisdiction,
    }  # fmt: skip
    filters = filters_of(**stated)
    checked = {**stated, "order": order}
    position = _paging.decode_cursor(LISTING, checked, cursor, (int,))
    check_detectors(host_of(request), detector, "query.detector")
    store = host_of(request).findings
    rows, last = store.page(filters, position[0] if position else None, limit, order=order)
    following = None if last is None else _paging.encode_cursor(LISTING, checked, [last])
    named = {name: value for name, value in stated.items() if value is not None}
    record(
        request,
        "finding.list",
        subject_id or "",
        **{name: str(value) for name, value in named.items()},
        found=len(rows),
    )
    headers = _paging.next_link(request, following)
    documents = [finding_document(row) for row in rows]
    if media != _answers.JSON:
        return _answers.rows_answer(
            media, documents, FINDING_COLUMNS, headers=headers, name="findings"
        )
    page = {
        "findings": documents,
        "next_cursor": following,
        "last_number": store.last_number(),
    }
    return _answers.json_answer(page, headers={**headers, "Vary": "Accept"})


@router.get("/findings/{finding_id}", summary="One finding 一条线索", response_model=Finding)
def get_finding(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    finding_id: Annotated[
        str, Path(max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$", description="Its id.")
    ],
) -> Response:
    """Return a finding as it stands now."""
    row = host_of(request).findings.get(finding_id)
    if row is None:
        raise not_found(f"There is no finding {finding_id}.", f"没有线索 {finding_id}。")
    record(request, "finding.read", finding_id, subject_id=row["subject_id"])
    return _answers.json_answer(finding_document(row))
