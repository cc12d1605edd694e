"""Small findings and exposure tables for tests of ranking and sampling."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from trace_engine.events.findings import EXPOSURE, FINDINGS
from trace_engine.ranking.ordering import DetectorFacts

SHANGHAI = ZoneInfo("Asia/Shanghai")
DETECTORS = {
    "repeated_transfer": DetectorFacts("custody", "多次倒手", "repeated transfer"),
    "ownership_cycle": DetectorFacts("custody", "回流/对倒", "ownership cycle"),
    "dead_code_use": DetectorFacts("code", "异常状态码流通", "dead code in use"),
    "online_banned_sale": DetectorFacts("category", "网络禁售", "banned online sale"),
    "quota_per_sale": DetectorFacts("quantity", "单次超量", "too much in one sale"),
    "price_inversion": DetectorFacts("price", "购销价格倒挂", "price inversion"),
    "time_disorder": DetectorFacts("scanning", "时间异常/补录", "times out of order"),
}
QUALITY = {"time_disorder"}


class Tables:
    """A registry of given tables."""

    def __init__(self, **tables: pa.Table) -> None:
        self._tables = tables

    def table(self, name: str) -> pa.Table | None:
        return self._tables.get(name)


def time(day: str, hour: int = 10) -> dt.datetime:
    return dt.datetime.fromisoformat(day).replace(hour=hour, tzinfo=SHANGHAI)


def finding(
    number: int, seller: str | None, detector: str, severity: float = 0.5, **values: Any
) -> dict[str, Any]:
    facts = DETECTORS.get(detector, DetectorFacts("other", detector, detector))
    return {
        "finding_id": f"F{number:04d}",
        "detector": detector,
        "family": "data_quality" if detector in QUALITY else "suspected_violation",
        "severity": severity,
        "event_time": time("2026-01-20"),
        "subject_id": seller,
        "code_count": 1,
        "observed": 5.0,
        "threshold": 4.0,
        "title_zh": facts.title_zh,
        "title_en": facts.title_en,
        **values,
    }


def findings(rows: Iterable[Mapping[str, Any]] = ()) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=FINDINGS)


def exposure(events: Mapping[str, int], **columns: Mapping[str, int]) -> pa.Table:
    """Exposure of sellers with the given number of events; other counts default to 0."""
    rows = [
        {
            "enterprise_id": seller,
            "events": count,
            **{
                name: columns.get(name, {}).get(seller, 0)
                for name in ("packs_received", "packs_shipped", "packs_sold", "packs_sold_online")
            },
            "sales_value": 0.0,
            "first_time": time("2026-01-01"),
            "last_time": time("2026-01-31"),
        }
        for seller, count in events.items()
    ]
    return pa.Table.from_pylist(rows, schema=EXPOSURE)


def by_id(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["enterprise_id"]: row for row in table.to_pylist()}
