"""What inspections and samples found: taken in, kept, listed."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import ConfigDict, Discriminator, Field, Tag

from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.problems import Problem
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._checks import last_day, too_late, unknown_findings, unusable
from trace_engine.service.routes._found import listing
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Day, Number, Page, Shape, Text, TextQuery, shanghai
from trace_engine.store.outcomes import OutcomeConflict, OutcomeStore

if TYPE_CHECKING:
    from trace_engine.service.host import EngineHost

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["outcomes"])

LISTING = "outcomes"
MOST = 5_000  # outcomes of one request
MOST_NOTED = 100  # of them by name in the audit log and in problems
# Outcomes without an id of their own get one from what they say, so that a retry adds nothing.
NAMESPACE = uuid.UUID("5f0f5a52-6d0c-5c39-8f2e-3f3f2a1f8c11")
OUTCOME_COLUMNS = (
    "outcome_id", "enterprise_id", "date", "kind", "outcome", "drug_id", "inclusion_probability",
    "finding_id", "plan_id", "note", "stored_at",
)  # fmt: skip

Note = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


EXAMPLE: dict[str, Any] = {
    "outcome_id": "SD-2026-000187",
    "enterprise_id": "91370100MA3C0X0X0X",
    "date": "2026-04-02",
    "kind": "online_purchase",
    "outcome": "violation",
    "drug_id": "8123456",
    "inclusion_probability": 1.0,
    "finding_id": "f1c0a6d2b7e84d1f9a3e5b60",
    "plan_id": "plan-6f1d0c7f2b8a4a31",
    "note": "抽样编号 0187",
}


class NewOutcome(Shape):
    """The result of one inspection or sample, in the columns of the registry's `inspections`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    outcome_id: Text | None = Field(
        None,
        description="Makes it idempotent. Without one it is made from all the other values: equal "
        "outcomes then count once, however often they are sent.",
    )
    enterprise_id: Text
    date: Day = Field(
        description="Of the inspection or the sample. Tomorrow at the latest, or the day after the "
        "latest day of the data if that is later."
    )
    kind: Text | None = Field(None, description="Kind of inspection or sampling method.")
    outcome: Literal["violation", "clean"]
    drug_id: Text | None = None
    inclusion_probability: Annotated[float, Field(gt=0, le=1), Number] | None = Field(
        None, description="As the sampling plan states it; estimates of prevalence need it."
    )
    finding_id: Text | None = Field(None, description="The finding that led there; it must exist.")
    plan_id: Text | None = Field(None, description="The sampling plan it was a line of.")
    note: Note | None = None


class NewOutcomes(Shape):
    """Several outcomes."""

    outcomes: Annotated[list[NewOutcome], Field(min_length=1, max_length=MOST)]


class Outcome(NewOutcome):
    """An outcome as it is kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [EXAMPLE | {"stored_at": "2026-04-03T09:15:00+08:00"}]},
    )

    outcome_id: str
    stored_at: dt.datetime = Field(description="When it was taken in; the audit log says by whom.")


class OutcomesTaken(Shape):
    """What became of the outcomes of a request, in its order."""

    outcome_ids: list[str]
    added: int = Field(description="New ones.")
    repeated: int = Field(description="Known already, with the same values.")


class OutcomesPage(Page):
    """A page of outcomes, newest first."""

    outcomes: list[Outcome]


def _form(body: Any) -> str:
    """Return which form was meant, so that errors are told of that form alone."""
    if isinstance(body, list):
        return "list"
    several = "outcomes" in body if isinstance(body, dict) else isinstance(body, NewOutcomes)
    return "outcomes" if several else "outcome"


@router.post(
    "/outcomes",
    summary="Report results of inspections 上报检查与抽检结果",
    response_model=OutcomesTaken,
    status_code=201,
)
def add_outcomes(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    body: Annotated[
        Annotated[NewOutcomes, Tag("outcomes")]
        | Annotated[NewOutcome, Tag("outcome")]
        | Annotated[list[NewOutcome], Field(min_length=1, max_length=MOST), Tag("list")],
        Discriminator(_form),
        Body(description='One outcome, a list of them, or `{"outcomes": [...]}`.'),
    ],
) -> Response:
    """Keep one outcome or many: all of them, or none if one cannot be used.

    An `outcome_id` that is known with other values is a conflict (409): nothing is changed.
    """
    sent = body.outcomes if isinstance(body, NewOutcomes) else body
    new = sent if isinstance(sent, list) else [sent]
    host = host_of(request)
    _check(host, new, body)
    rows = [_row(one) for one in new]
    try:
        added = OutcomeStore(host.database).add(rows)
    except OutcomeConflict as conflict:
        raise Problem(
            409,
            "conflict",
            detail="Outcomes of these ids are stored with other values; nothing was added.",
            detail_zh="下列 outcome_id 已存有不同内容的结果，本次未保存任何内容。",
            outcome_ids=conflict.outcome_ids[:MOST_NOTED],
        ) from None
    ids = [row["outcome_id"] for row in rows]
    for row in rows[:MOST_NOTED]:
        about = {"enterprise_id": row["enterprise_id"], "outcome": row["outcome"]}
        record(request, "outcome.add", row["outcome_id"], **about)
    if len(rows) > MOST_NOTED:
        record(request, "outcome.add", "", more=len(rows) - MOST_NOTED)
    taken = {"outcome_ids": ids, "added": len(added), "repeated": len(rows) - len(added)}
    return _answers.json_answer(taken, status=201)


def _check(host: EngineHost, new: list[NewOutcome], body: Any) -> None:
    """Answer 422 where inspections are of days to come, or name findings that there are not."""
    form = _form(body)
    stem = {"list": "body.list.{}", "outcomes": "body.outcomes.outcomes.{}"}.get(
        form, "body.outcome"
    )
    limit = last_day(host)
    places = [(stem.format(number), outcome) for number, outcome in enumerate(new)]
    errors = [too_late(f"{where}.date", limit) for where, one in places if one.date > limit]
    named = [
        (f"{where}.finding_id", one.finding_id)
        for where, one in places
        if one.finding_id is not None
    ]
    if named:
        errors += unknown_findings(host, named)
    if errors:
        raise unusable(errors)


def _row(new: NewOutcome) -> dict[str, Any]:
    row = new.model_dump()
    if row["outcome_id"] is None:
        said = {name: value for name, value in row.items() if value is not None}
        text = msgspec.json.encode(said, order="sorted").decode()
        row["outcome_id"] = str(uuid.uuid5(NAMESPACE, text))
    return row


@router.get(
    "/outcomes",
    summary="List results of inspections 检查与抽检结果",
    response_model=OutcomesPage,
    responses=listing(OutcomesPage, Outcome, "A page of outcomes"),
)
def list_outcomes(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    enterprise_id: TextQuery = None,
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return outcomes, the last recorded first, as JSON, NDJSON or CSV by `Accept`."""
    media = _answers.negotiate(request, (_answers.JSON, _answers.NDJSON, _answers.CSV))
    stated = {"enterprise_id": enterprise_id}
    position = _paging.decode_cursor(LISTING, stated, cursor, (int,))
    store = OutcomeStore(host_of(request).database)
    rows, last = store.page(position[0] if position else None, limit, **stated)
    following = None if last is None else _paging.encode_cursor(LISTING, stated, [last])
    record(request, "outcome.list", enterprise_id or "", found=len(rows))
    documents = [
        {name: row[name] for name in OUTCOME_COLUMNS} | {"stored_at": shanghai(row["stored_at"])}
        for row in rows
    ]
    headers = _paging.next_link(request, following)
    if media != _answers.JSON:
        return _answers.rows_answer(
            media, documents, OUTCOME_COLUMNS, headers=headers, name="outcomes"
        )
    page = {"outcomes": documents, "next_cursor": following}
    return _answers.json_answer(page, headers={**headers, "Vary": "Accept"})
