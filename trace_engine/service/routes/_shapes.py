"""What answers are made of: the models of the OpenAPI document, and findings as JSON objects."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trace_engine.events.codes import CodeSystem, parse_code
from trace_engine.events.findings import FINDINGS

SHANGHAI = ZoneInfo("Asia/Shanghai")
FINDING_COLUMNS = (*FINDINGS.names, "number", "late", "revision")
FIRST_DAY, LAST_DAY = dt.date(1980, 1, 1), dt.date(2199, 12, 31)

# Text that comes from outside and goes into a query: short, and without control characters.
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
TextQuery = Annotated[
    str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]


def _number(value: Any) -> Any:
    """Refuse truth values and texts where JSON is to hold a number."""
    if isinstance(value, (bool, str)):
        raise ValueError("expected a number")
    return value


Number = BeforeValidator(_number)
Day = Annotated[dt.date, Field(ge=FIRST_DAY, le=LAST_DAY)]
RegionQuery = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{2}([0-9]{2}){0,2}$",
        description="GB/T 2260 code of 2, 4 or 6 digits: this place and all inside it. Trailing "
        "`00` may be left out (`37`, `3701`, `370102`).",
        examples=["37"],
    ),
]


class Shape(BaseModel):
    """A JSON object of the service: exactly these members."""

    model_config = ConfigDict(extra="forbid")


class Finding(Shape):
    """One finding (线索): one cause, with the events it rests on."""

    number: int = Field(description="Rises with each new or changed finding; a cursor.")
    finding_id: str = Field(description="Stable: the same events give the same id.")
    detector: str = Field(description="Id in the catalogue (`GET /v1/detectors`).")
    family: Literal["suspected_violation", "data_quality"] | str
    severity: float = Field(ge=0, le=1)
    event_time: dt.datetime | None = Field(description="Of the event that fired.")
    subject_id: str | None = Field(description="The enterprise it is about.")
    subject_type: str | None
    counterparty_id: str | None
    drug_id: str | None
    batch_no: str | None
    code: str | None = Field(description="The first trace code of the finding.")
    code_count: int | None
    codes: list[str] | None = Field(description="All its trace codes, at most 20 000.")
    bill_code: str | None
    order_code: str | None
    buyer_id: str | None = Field(description="A pseudonym.")
    region: str | None = Field(description="GB/T 2260 code of the subject's place.")
    observed: float | None
    threshold: float | None
    unit: str | None = Field(description="Of `observed` and `threshold`.")
    amount: float | None = Field(description="CNY; null where no price is known.")
    event_ids: list[str] | None
    title_zh: str | None
    title_en: str | None
    explanation_zh: str | None
    explanation_en: str | None
    evidence: dict[str, Any] | None = Field(
        description="Values behind the finding; `path` (events of the pack) or `flow` where there "
        "is one; `later` where more of the same cause came late."
    )
    basis: str | None = Field(description="The rule in law.")
    jurisdiction: str | None = Field(description="The authority that must act.")
    policy_version: str | None
    late: bool = Field(description="Raised by an event that came after its day was closed.")
    revision: int = Field(description="0 at first; one more each time it grew.")

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "number": 4711,
                    "finding_id": "f1c0a6d2b7e84d1f9a3e5b60",
                    "detector": "repeated_transfer",
                    "family": "suspected_violation",
                    "severity": 0.8,
                    "event_time": "2026-03-02T10:02:33+08:00",
                    "subject_id": "91370100MA3C0X0X0X",
                    "subject_type": "wholesaler",
                    "counterparty_id": "91370200MA3C0Y0Y0Y",
                    "drug_id": "8123456",
                    "batch_no": "20260205",
                    "code": "81234560000000000017",
                    "code_count": 1,
                    "codes": ["81234560000000000017"],
                    "bill_code": "XS20260302001",
                    "order_code": "DD20260302001",
                    "buyer_id": "b-77",
                    "region": "370102",
                    "observed": 6.0,
                    "threshold": 4.0,
                    "unit": "hops",
                    "amount": 128.5,
                    "event_ids": ["e-1", "e-2"],
                    "title_zh": "多次倒手",
                    "title_en": "Repeated transfer",
                    "explanation_zh": "该药品追溯码经6次倒手……",
                    "explanation_en": "This code changed hands 6 times ...",
                    "evidence": {"path": []},
                    "basis": "药品经营质量管理规范",
                    "jurisdiction": "山东省药品监督管理局",
                    "policy_version": "default 2026.1",
                    "late": False,
                    "revision": 0,
                }
            ]
        },
    )


class Page(Shape):
    """What every listing has."""

    next_cursor: str | None = Field(description="Where the next page begins; null on the last.")


def finding_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the findings store as the JSON object of the contract.

    Evidence, kept as JSON text, becomes part of the document without being read.
    """
    document = {name: row[name] for name in FINDING_COLUMNS}
    evidence = document["evidence"]
    if isinstance(evidence, str):
        document["evidence"] = msgspec.Raw(evidence.encode()) if evidence else None
    document["event_time"] = shanghai(document["event_time"])
    document["late"] = bool(document["late"])
    return document


def shanghai(value: dt.datetime | None) -> dt.datetime | None:
    """Return a time in the zone of the country; one without a zone is of that zone."""
    if value is None:
        return None
    return value.replace(tzinfo=SHANGHAI) if value.tzinfo is None else value.astimezone(SHANGHAI)


def region_prefix(region: str | None) -> str | None:
    """Return the digits that codes inside a place begin with: ``370000`` gives ``37``."""
    if region is None:
        return None
    return region.removesuffix("00").removesuffix("00") if len(region) > 2 else region


def code_identity(text: str) -> str:
    """Return the identity of a code that somebody typed or scanned.

    As the events' codes are read; where that finds no known kind of code, blanks between groups of
    digits and full-width forms are taken for slips of typing.
    """
    parsed = parse_code(text)
    if parsed.system == CodeSystem.OTHER:
        plain = parse_code("".join(unicodedata.normalize("NFKC", text).split()))
        if plain.system != CodeSystem.OTHER:
            return plain.identity
    return parsed.identity
