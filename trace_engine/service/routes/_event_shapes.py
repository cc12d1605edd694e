"""What ``routes/events.py`` takes and answers, for the OpenAPI document."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import pyarrow as pa
from pydantic import ConfigDict, Field

from trace_engine.events.schema import COLUMNS, Column
from trace_engine.service.bodies import Media
from trace_engine.service.routes._shapes import Day, Finding, Shape

BATCH_ID = r"^[A-Za-z0-9][A-Za-z0-9._:@~-]{0,127}$"


class RejectedRow(Shape):
    """A row that was not taken."""

    row: int = Field(ge=1, description="Number in the body; blank lines do not count.")
    column: str = Field(description="Empty where the row as a whole cannot be read.")
    reason: str = Field(
        description="A word for programs, as `missing_code`.", examples=["bad_json"]
    )
    detail: str = Field(description="What was found, what is expected; personal numbers hashed.")


class Receipt(Shape):
    """What became of the events of one request."""

    offset: int = Field(ge=1, description="Place in the journal; rises with each record.")
    batch_id: str | None
    repeated: bool = Field(description="The batch was stored before; it is not counted again.")
    rows: int = Field(ge=1)
    accepted: int = Field(ge=0, description="Rows taken, before events known already are left out.")
    rejected: int = Field(ge=0)
    rejects: list[RejectedRow] = Field(description="The first 100; all are kept.")
    ignored_columns: list[str] = Field(description="Names in the body that mean nothing here.")
    watermark: dt.date | None = Field(description="Latest day seen.")
    closed_through: dt.date | None = Field(description="Last day judged.")
    late: int | None = Field(description="Events of days judged before; null while pending.")
    pending: bool = Field(description="The engine has not taken the events yet; they are safe.")
    finding_count: int = Field(ge=0, description="Findings of the days that this request closed.")
    findings: list[Finding] = Field(
        description="The first 200 of them, for keys with the role `read`."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "offset": 4711,
                    "batch_id": "SD-20260301-000187",
                    "repeated": False,
                    "rows": 2,
                    "accepted": 1,
                    "rejected": 1,
                    "rejects": [
                        {
                            "row": 2,
                            "column": "code",
                            "reason": "missing_code",
                            "detail": "expected a trace code (bills 106, 210: none)",
                        }
                    ],
                    "ignored_columns": ["warehouse"],
                    "watermark": "2026-03-01",
                    "closed_through": "2026-02-26",
                    "late": 0,
                    "pending": False,
                    "finding_count": 0,
                    "findings": [],
                }
            ]
        }
    )


class BatchState(StrEnum):
    """How far a batch is."""

    WAITING = "waiting"  # on disk, not yet with the engine
    TAKEN = "taken"  # with the engine; its days are open, or its record is gone and nobody knows
    JUDGED = "judged"  # all days of its events are closed


class KnownBatchAnswer(Shape):
    """A batch that was stored."""

    batch_id: str
    offset: int = Field(ge=1)
    rows: int | None = Field(description="Null once its record has left the journal.")
    received_at: dt.datetime
    state: BatchState = Field(
        description="`waiting`: on disk; `taken`: with the engine; `judged`: all days of its events "
        "are closed (told only while the journal holds its record)."
    )
    watermark: dt.date | None
    closed_through: dt.date | None


class WatermarkOrder(Shape):
    """Which days to close."""

    close_through: Day = Field(
        description="The last day to judge; not after the latest day seen.", examples=["2026-03-31"]
    )


class WatermarkAnswer(Shape):
    """What closing days by hand brought."""

    offset: int = Field(ge=1)
    pending: bool = Field(description="The engine has not closed the days yet.")
    finding_count: int = Field(ge=0)
    watermark: dt.date | None
    closed_through: dt.date | None


_EVENT = {
    "event_id": "7f9c2ba4-0001",
    "event_time": "2026-03-01 10:15:00",
    "event_type": "retail_sale",
    "code": "81234560000000012345",
    "actor_id": "91370100MA3C0X0X0X",
    "from_id": "91370100MA3C0X0X0X",
    "quantity": 1,
    "unit_price": 23.5,
    "bill_code": "LS20260301-17",
    "buyer_id": "b-5c1f",
}
_CHINESE = {
    "事件编号": "7f9c2ba4-0002",
    "单据日期": "2026-03-01",
    "单据类型": "销售出库",
    "追溯码": "81234560000000012352",
    "操作企业": "91370100MA3C0X0X0X",
}


def _property(column: Column) -> dict[str, Any]:
    kinds = ["string", "null"]
    if pa.types.is_boolean(column.type):
        kinds = ["boolean", "string", "null"]
    elif not (column.type == pa.string() or pa.types.is_dictionary(column.type)):
        kinds = ["string", "number", "null"] if not pa.types.is_temporal(column.type) else kinds
    unit = f" ({column.unit})" if column.unit else ""
    return {"type": kinds, "description": f"{column.description}{unit} {column.description_zh}"}


_SCHEMA = {
    "type": "object",
    "description": "One row of the event table; Chinese headers are taken as well.",
    "properties": {column.name: _property(column) for column in COLUMNS},
    "required": [column.name for column in COLUMNS if column.required],
    "additionalProperties": True,
}
_LIST = {"type": "array", "items": _SCHEMA, "minItems": 1}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "Events as JSON, one JSON object a line, or Arrow IPC.",
    "content": {
        Media.JSON.value: {
            "schema": {
                "oneOf": [
                    _LIST,
                    {
                        "type": "object",
                        "properties": {
                            "batch_id": {"type": ["string", "null"], "pattern": BATCH_ID},
                            "events": _LIST,
                        },
                        "required": ["events"],
                        "additionalProperties": False,
                    },
                ]
            },
            "examples": {
                "list": {"summary": "A list", "value": [_EVENT]},
                "batch": {
                    "summary": "A batch with an id",
                    "value": {"batch_id": "SD-20260301-000187", "events": [_EVENT]},
                },
                "chinese": {"summary": "Chinese headers 中文表头", "value": [_CHINESE]},
            },
        },
        Media.NDJSON.value: {
            "schema": {"type": "string", "description": "One event as a JSON object a line."},
            "example": '{"event_time":"2026-03-01 10:15:00","event_type":"321",'
            '"code":"81234560000000012345","actor_id":"91370100MA3C0X0X0X"}\n',
        },
        Media.ARROW_STREAM.value: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "An Arrow IPC stream with the columns of the event table; buffers "
                "may be packed with lz4 or zstd.",
            }
        },
        Media.ARROW_FILE.value: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "An Arrow IPC file (Feather 2) with the columns of the event table.",
            }
        },
    },
}
