"""A result made by hand, as an engine would return one: small, varied, and hostile where asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from trace_engine.events.findings import EXPOSURE, FINDINGS, GRAPH_EDGES, REJECTS
from trace_engine.ranking.ordering import DetectorFacts, rank
from trace_engine.registry import Registry

SHANGHAI = ZoneInfo("Asia/Shanghai")
START = datetime(2025, 1, 1, tzinfo=SHANGHAI)
HOSTILE = '<script>alert("x")</script>'

DETECTORS = {
    "repeated_transfer": ("suspected_violation", "custody", "多次倒手", "Repeated transfer"),
    "duplicate_sale": ("suspected_violation", "code", "重复销售", "Duplicate sale"),
    "remote_dispatch": ("suspected_violation", "region", "异地发货", "Remote dispatch"),
    "price_inversion": ("suspected_violation", "price", "购销价格倒挂", "Price inversion"),
    "unmatched_receipt": ("data_quality", "custody", "有入无出", "Unmatched receipt"),
    "time_disorder": ("data_quality", "scanning", "时间异常/补录", "Time disorder"),
}
REGIONS = ("440100", "310000", "330100", "510100", "110000", "420100", "650100", "230100")
FACTS = {k: DetectorFacts(v[1], v[2], v[3]) for k, v in DETECTORS.items()}


@dataclass
class Policy:
    version: str = "2026.1"
    sha256: str = "ab" * 32


@dataclass
class MadeResult:
    """The fields of ``trace_engine.scoring.Result`` that outputs read."""

    findings: pa.Table
    sellers: pa.Table
    exposure: pa.Table
    graph_edges: pa.Table
    rejects: pa.Table
    coverage: dict[str, dict[str, Any]]
    counts: dict[str, int]
    inputs: list[dict[str, Any]]
    policy: Any = field(default_factory=Policy)
    registry: Any = None
    seconds_by_stage: dict[str, float] = field(default_factory=lambda: {"read": 0.5, "judge": 1.2})

    def plan(self, budget: int, seed: int = 0) -> pa.Table:
        picked = self.sellers.slice(0, budget).select(["rank", "enterprise_id", "name"])
        why = pa.array(["=cmd|'/c calc'!A1"] * picked.num_rows, pa.string())
        return picked.append_column("why", why)


def seller(number: int) -> str:
    return f"9144010{number:011d}"


def name_of(number: int) -> str:
    if number == 1:
        return HOSTILE
    if number == 2:
        return '=HYPERLINK("http://x")'
    kinds = ("医药有限公司", "大药房", "医药连锁有限公司", "药业股份有限公司")
    return f"示例第{number}{kinds[number % 4]}"


def path(code_number: int, hops: int) -> list[dict[str, Any]]:
    """A code's way through ``hops`` sellers to a person."""
    events, when = [], START + timedelta(days=code_number % 90)
    kinds = (("sale_shipment", "销售出库"), ("purchase_receipt", "采购入库"))
    for hop in range(hops):
        one, two = code_number + hop, code_number + hop + 1
        for kind, kind_zh in kinds:
            when += timedelta(hours=9)
            events.append(
                {
                    "event_id": f"e{code_number}-{len(events)}",
                    "time": when.replace(tzinfo=None).isoformat(),
                    "date_only": hop == 1,
                    "kind": kind,
                    "kind_zh": kind_zh,
                    "actor": seller(one),
                    "source": seller(one),
                    "target": seller(two),
                    "source_name": name_of(one),
                    "target_name": name_of(two),
                    "source_region": REGIONS[one % 8],
                    "target_region": REGIONS[two % 8],
                    "price": 12.5 + hop,
                    "bill_code": f"XS{code_number:06d}{hop}",
                }
            )
    sale = dict(events[-1], event_id=f"e{code_number}-sale", kind="retail_sale", kind_zh="零售出库")
    sale.update(source=sale["target"], source_name=sale["target_name"], target=None)
    sale.update(
        date_only=False, target_name=None, target_region=None, source_region=sale["target_region"]
    )
    return [*events, sale]


def finding(number: int, kind: str, subject: int, **changes: Any) -> dict[str, Any]:
    family, _, zh, en = DETECTORS[kind]
    events = path(number, 2 + number % 3)
    code = f"8{number:019d}"
    row = {
        "finding_id": f"f{number:05d}",
        "detector": kind,
        "family": family,
        "severity": 0.3 + 0.05 * (number % 10),
        "event_time": START + timedelta(days=number % 170, hours=number % 24),
        "subject_id": seller(subject),
        "subject_type": "wholesaler",
        "counterparty_id": seller(subject + 1),
        "drug_id": "8100001",
        "batch_no": "B2025",
        "code": code,
        "code_count": 1 + number % 4,
        "codes": [code],
        "bill_code": f"XS{number}",
        "region": REGIONS[subject % 8],
        "observed": 4.0,
        "threshold": 3.5,
        "unit": "hops",
        "amount": 123.45 if number % 2 else None,
        "event_ids": [events[-2]["event_id"]],
        "title_zh": zh,
        "title_en": en,
        "explanation_zh": f"{name_of(subject)}销售的追溯码{code}已倒手 4 次（阈值 3.5）。",
        "explanation_en": f"Code {code}, sold by {name_of(subject)}, changed hands 4 times.",
        "evidence": json.dumps({"path": events, "codes_sample": [code]}, ensure_ascii=False),
        "basis": "《药品经营和使用质量监督管理办法》",
        "jurisdiction": "provincial_bureau",
        "policy_version": "2026.1",
    }
    return row | changes


def make(findings: int = 240, sellers: int = 60) -> MadeResult:
    """A result with ``findings`` findings over ``sellers`` sellers."""
    names = list(DETECTORS)
    subjects = [(n * n) % 23 if n % 3 else n % sellers for n in range(findings)]
    rows = [finding(n, names[n % 6], subjects[n]) for n in range(findings)]
    table = pa.Table.from_pylist(rows, schema=FINDINGS)
    exposure = pa.Table.from_pylist(
        [
            {
                "enterprise_id": seller(n),
                "events": 100 + 7 * n,
                "packs_received": 50 + n,
                "packs_shipped": 40,
                "packs_sold": 10 + n,
                "packs_sold_online": n % 3,
                "sales_value": 1000.0 + n,
                "first_time": START,
                "last_time": START + timedelta(days=180),
            }
            for n in range(sellers)
        ],
        schema=EXPOSURE,
    )
    types = ("wholesaler", "pharmacy", "chain_hq", "medical")
    registry = Registry(
        {
            "enterprises": pa.table(
                {
                    "enterprise_id": [seller(n) for n in range(sellers)],
                    "name": [name_of(n) for n in range(sellers)],
                    "type": [types[n % 4] for n in range(sellers)],
                    "region": [REGIONS[n % 8] for n in range(sellers)],
                }
            )
        }
    )
    edges = pa.Table.from_pylist(
        [
            {
                "source_id": seller(n % sellers),
                "target_id": seller((n + 1) % sellers),
                "drug_id": f"81000{n // sellers:02d}",
                "codes": 5 + n % 9,
                "packs": 5 + n % 9,
                "value": 100.0 if n % 2 else None,
                "first_time": START,
                "last_time": START + timedelta(days=n % 100),
            }
            for n in range(2 * sellers)
        ],
        schema=GRAPH_EDGES,
    )
    rejects = pa.Table.from_pylist(
        [
            {"file": "a.csv", "row": 3, "column": "code", "reason": "missing_code",
             "detail": "found nothing, expected a trace code", "raw": '{"code":""}'},
            {"file": "a.csv", "row": 9, "column": "event_time", "reason": "bad_time",
             "detail": "found '31.02.2025'", "raw": "{}"},
        ],
        schema=REJECTS,
    )  # fmt: skip
    return MadeResult(
        findings=table,
        sellers=rank(table, exposure, registry, detectors=FACTS),
        exposure=exposure,
        graph_edges=edges,
        rejects=rejects,
        coverage={
            "repeated_transfer": {"judged": 9000, "skipped": {}, "status": "evaluated"},
            "price_inversion": {"judged": 5000, "skipped": {"no price": 4000}, "status": "partial"},
            "remote_dispatch": {"judged": 0, "skipped": {"needs registry.enterprises": 900},
                                "status": "not_evaluated"},
        },
        counts={"rows": 10_005, "events": 10_000, "duplicates": 3, "rejects": 2},
        inputs=[{"path": "/data/a.csv", "bytes": 12345, "sha256": "cd" * 32, "rows": 10_005}],
        registry=registry,
    )  # fmt: skip
