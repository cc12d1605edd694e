"""One trace code: everything that is known of where it was."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes import _answers
from trace_engine.service.routes._found import not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Finding, Shape, code_identity, finding_document
from trace_engine.store.findings_table import FindingFilters

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["codes"])


class PathEvent(Shape):
    """One event on the way of a pack."""

    event_id: str | None
    time: str = Field(description="`YYYY-MM-DD HH:MM:SS` in Asia/Shanghai; a date if only that.")
    date_only: bool
    kind: str = Field(description="As `event_type` of the event table.")
    kind_zh: str
    actor: str
    source: str | None = Field(description="Who gave.")
    target: str | None = Field(description="Who received; empty for sales to persons.")
    source_name: str | None
    target_name: str | None
    source_region: str | None
    target_region: str | None
    price: float | None = Field(description="CNY per smallest pack.")
    quantity: int
    bill_code: str | None
    inside: str | None = Field(
        None, description="The package that was scanned, where the pack went along in it."
    )
    judged: bool = Field(description="False while its day is open.")
    late: bool | None = Field(
        None, description="Not judged yet and of a day that is closed: it will be marked late."
    )


class CodePath(Shape):
    """The whole path of a code (`docs/trace.md` of the project says how a pack's place is told)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "code": "81234560000000000017",
                    "drug_id": "8123456",
                    "drug_name": "布洛芬缓释胶囊",
                    "batch_no": "20260205",
                    "place": "held",
                    "holder_id": "M1",
                    "holder_name": "某某制药有限公司",
                    "giver_id": "W1",
                    "sales": 0,
                    "recalled": False,
                    "voided": 0,
                    "parents": [],
                    "contents": [],
                    "contents_known": 0,
                    "path": [
                        {
                            "event_id": "e-1",
                            "time": "2026-03-01 09:30:00",
                            "date_only": False,
                            "kind": "production_receipt",
                            "kind_zh": "生产入库",
                            "actor": "M1",
                            "source": "",
                            "target": "M1",
                            "source_name": "",
                            "target_name": "某某制药有限公司",
                            "source_region": "",
                            "target_region": "370102",
                            "price": 12.5,
                            "quantity": 1,
                            "bill_code": "SC20260301",
                            "judged": True,
                        }
                    ],
                    "path_zh": "某某制药有限公司（2026-03-01）",
                    "path_en": "M1 (2026-03-01)",
                    "judged": 1,
                    "held": 0,
                    "findings": [],
                }
            ]
        },
    )

    code: str = Field(description="The code as its identity is written.")
    drug_id: str | None
    drug_name: str | None
    batch_no: str | None
    place: str | None = Field(
        description="`held`, `sold`, `in_transit`, `destroyed`, `lost`, `unnamed` or `unknown`; "
        "null while nothing is judged."
    )
    holder_id: str | None = Field(description="Who holds it, or to whom it is on its way.")
    holder_name: str | None
    giver_id: str | None = Field(description="From whom it is on its way.")
    sales: int = Field(description="Times sold to persons, net of returns.")
    recalled: bool
    voided: int = Field(description="Events taken back, which the path leaves out.")
    parents: list[str] = Field(description="Codes it was packed in.")
    contents: list[str] = Field(description="Codes packed in it, at most 1000.")
    contents_known: int
    path: list[PathEvent] = Field(description="Oldest first; what is not judged yet at the end.")
    path_zh: str
    path_en: str
    judged: int = Field(description="Events of the path whose day is closed.")
    held: int = Field(description="Events that wait for their day to close.")
    findings: list[Finding] = Field(description="What was found about it, newest first.")


@router.get(
    "/codes/{code:path}", summary="Path of a trace code 追溯码全程", response_model=CodePath
)
def get_code(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    code: Annotated[
        str,
        Path(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00-\x08\x0a-\x1c\x1e\x1f\x7f]+$",
            description="In any printed form: with blanks, in brackets, with or without FNC1.",
            examples=["81234560000000000017"],
        ),
    ],
    findings: Annotated[int, Query(ge=0, le=200, description="How many of the latest.")] = 20,
) -> Response:
    """Return the whole path of a pack, where it is now, and what was found about it."""
    host = host_of(request)
    found = host.code_path(code) or host.code_path(code_identity(code))
    record(request, "code.read", code, known=found is not None)
    if found is None:
        raise not_found("No event of this code is known.", "没有该追溯码的记录。")
    document = dict(found)
    rows: list[dict[str, Any]] = []
    if findings:
        rows = host.findings.page(FindingFilters(code=document["code"]), None, findings)[0]
    document["findings"] = [finding_document(row) for row in rows]
    return _answers.json_answer(document)
