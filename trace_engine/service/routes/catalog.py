"""What the service can find, and what it could not take: detectors and rejected rows."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.cards import cards
from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._found import listing
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import SHANGHAI, Page, Shape, shanghai
from trace_engine.store.rejects import RejectStore

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["catalogue"])

REJECTS = "rejects"
REJECT_COLUMNS = (
    "number", "offset", "source", "file", "row", "column", "reason", "detail", "raw", "stored_at",
)  # fmt: skip


class Parameter(Shape):
    """A threshold or list as the policy sets it today."""

    name: str
    value: Any
    unit: str
    source: str = Field(description="The document it is from; `proposed` where none publishes it.")
    description: str
    description_zh: str


class DetectorCard(Shape):
    """One rule of the catalogue."""

    id: str
    title_zh: str
    title_en: str
    family: str = Field(description="`suspected_violation` or `data_quality`.")
    evidence: str = Field(description="Kind of evidence; ranking adds up across kinds.")
    key: str = Field(description="What its state is kept by.")
    basis: str = Field(description="The rule in law.")
    unit: str = Field(description="Of observed value and threshold.")
    needs: list[str] = Field(description="Columns and tables it cannot judge without.")
    jurisdiction: str
    false_positives: str = Field(description="What looks like it without being it.")
    false_positives_zh: str
    parameters: list[Parameter]


class Catalogue(Shape):
    """Every detector of this installation."""

    policy_version: str
    as_of: dt.date = Field(description="The day for which parameters are given.")
    detectors: list[DetectorCard]


class Reject(Shape):
    """A row that could not be used. Personal numbers in it are hashed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "number": 1,
                    "offset": 318,
                    "source": "door",
                    "file": "journal",
                    "row": 2,
                    "column": "event_time",
                    "reason": "bad_time",
                    "detail": "found 'yesterday', expected a time",
                    "raw": '{"event_time":"yesterday"}',
                    "stored_at": "2026-03-02T10:02:33+08:00",
                }
            ]
        },
    )

    number: int = Field(description="A cursor.")
    offset: int = Field(
        description="The request, as `POST /v1/events` answered; of the engine's, the one that "
        "closed the day."
    )
    source: str = Field(
        description="`door`: the row cannot be used; `engine`: its id is that of another event, "
        "which was found while its day was judged."
    )
    file: str | None
    row: int | None = Field(
        description="The row in the request, from 1; of the engine's, counted over all requests."
    )
    column: str | None
    reason: str | None = Field(description="Machine name.")
    detail: str | None
    raw: str | None = Field(description="The row as JSON, at most 2000 characters.")
    stored_at: dt.datetime


class RejectsPage(Page):
    """A page of rejected rows, newest first."""

    rejects: list[Reject]


@router.get("/detectors", summary="Catalogue of detectors 检测规则目录", response_model=Catalogue)
def list_detectors(
    request: Request, _caller: Annotated[Any, Depends(require(Role.READ))]
) -> Response:
    """Return every detector: what it means, needs and rests on, with its parameters of today."""
    policy = host_of(request).policy
    today = dt.datetime.now(SHANGHAI).date()
    made: dict[dt.date, bytes] = getattr(request.app.state, "catalogue", {})
    if today not in made:
        catalogue = {
            "policy_version": str(policy.version),
            "as_of": today,
            "detectors": [
                {name: card[name] for name in DetectorCard.model_fields}
                for card in cards(policy, today)
            ],
        }
        # One day's only; the policy of a running service does not change.
        made = request.app.state.catalogue = {today: _answers.json_bytes(catalogue)}
    tag = _answers.entity_tag(made[today].decode())
    if (same := _answers.unchanged(request, tag)) is not None:
        return same
    return Response(made[today], 200, {"ETag": tag}, _answers.JSON)


@router.get(
    "/rejects",
    summary="Rejected rows 未采用的记录",
    response_model=RejectsPage,
    responses=listing(RejectsPage, Reject, "A page of rejected rows"),
)
def list_rejects(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    offset: Annotated[
        int | None, Query(ge=0, lt=2**63, description="Only of this request.")
    ] = None,
    reason: Annotated[
        str | None, Query(max_length=100, pattern=r"^[a-z0-9_]+$", description="Only these.")
    ] = None,
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return rows that could not be used and why, newest first: JSON, NDJSON or CSV."""
    media = _answers.negotiate(request, (_answers.JSON, _answers.NDJSON, _answers.CSV))
    stated = {"offset": offset, "reason": reason}
    position = _paging.decode_cursor(REJECTS, stated, cursor, (int,))
    store = RejectStore(host_of(request).database)
    rows, last = store.page(position[0] if position else None, limit, offset=offset, reason=reason)
    following = None if last is None else _paging.encode_cursor(REJECTS, stated, [last])
    record(request, "reject.list", found=len(rows))
    documents = [
        {name: row[name] for name in REJECT_COLUMNS} | {"stored_at": shanghai(row["stored_at"])}
        for row in rows
    ]
    headers = _paging.next_link(request, following)
    if media != _answers.JSON:
        return _answers.rows_answer(
            media, documents, REJECT_COLUMNS, headers=headers, name="rejects"
        )
    page = {"rejects": documents, "next_cursor": following}
    return _answers.json_answer(page, headers={**headers, "Vary": "Accept"})
