"""Schema of the findings table: the contract of ``findings.parquet``."""

from __future__ import annotations

import pyarrow as pa

FINDINGS = pa.schema(
    [
        ("finding_id", pa.string()),
        ("detector", pa.string()),
        ("family", pa.string()),
        ("severity", pa.float32()),
        ("event_time", pa.timestamp("us", tz="Asia/Shanghai")),
        ("subject_id", pa.string()),
        ("subject_type", pa.string()),
        ("counterparty_id", pa.string()),
        ("drug_id", pa.string()),
        ("batch_no", pa.string()),
        ("code", pa.string()),  # the first code of the group, by text
        ("code_count", pa.int64()),
        ("codes", pa.list_(pa.string())),  # all of them, at most MAXIMUM_CODES
        ("bill_code", pa.string()),
        ("order_code", pa.string()),
        ("buyer_id", pa.string()),
        ("region", pa.string()),  # GB/T 2260 code of the place of the subject
        ("observed", pa.float64()),
        ("threshold", pa.float64()),
        ("unit", pa.string()),
        ("amount", pa.float64()),  # CNY; null where no price is known
        ("event_ids", pa.list_(pa.string())),
        ("title_zh", pa.string()),
        ("title_en", pa.string()),
        ("explanation_zh", pa.string()),
        ("explanation_en", pa.string()),
        ("evidence", pa.string()),  # JSON
        ("basis", pa.string()),
        ("jurisdiction", pa.string()),
        ("policy_version", pa.string()),
    ]
)

MAXIMUM_CODES = 20_000

# By seller: what was scanned, for shrinkage and coverage (one row an enterprise seen).
EXPOSURE = pa.schema(
    [
        ("enterprise_id", pa.string()),
        ("events", pa.int64()),  # events in which it is giver or receiver
        ("packs_received", pa.int64()),
        ("packs_shipped", pa.int64()),  # to other enterprises
        ("packs_sold", pa.int64()),  # to persons
        ("packs_sold_online", pa.int64()),
        ("sales_value", pa.float64()),  # CNY, shipped and sold, where priced
        ("first_time", pa.timestamp("us", tz="Asia/Shanghai")),
        ("last_time", pa.timestamp("us", tz="Asia/Shanghai")),
    ]
)

# Supply graph: one row for giver, receiver and drug.
GRAPH_EDGES = pa.schema(
    [
        ("source_id", pa.string()),
        ("target_id", pa.string()),
        ("drug_id", pa.string()),
        ("codes", pa.int64()),
        ("packs", pa.int64()),
        ("value", pa.float64()),
        ("first_time", pa.timestamp("us", tz="Asia/Shanghai")),
        ("last_time", pa.timestamp("us", tz="Asia/Shanghai")),
    ]
)

REJECTS = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),  # 1-based data row; for text files also the line, in reason
        ("column", pa.string()),
        ("reason", pa.string()),  # machine name, e.g. "missing_code"
        ("detail", pa.string()),  # one line: found, expected
        ("raw", pa.string()),  # the row as JSON, personal values hashed, at most 2000 characters
    ]
)

# What detectors count in, as officers read it (unit of observed value and threshold).
UNITS_ZH: dict[str, str] = {
    "hops": "次倒手",
    "crossings": "次跨省",
    "sales": "次销售",
    "events": "笔",
    "days": "天",
    "packs": "盒",
    "codes": "个码",
    "km": "公里",
    "unlicensed parties": "个无证主体",
    "km/h": "公里/小时",
    "divergence": "（散度）",
    "prescriptions per hour": "张处方/小时",
    "CNY": "元",
    "%": "%",
    "acts per 1000 events": "次/千笔",
    "attributes": "项属性",
    "businesses": "个业务",
    "changes": "次变更",
    "clues": "条线索",
    "enterprises": "家企业",
    "share": "（占比）",
    "share of codes": "（追溯码相似度）",
    "share of the largest quantity": "（数量之比）",
    "signals": "项特征",
    "sources": "个来源",
    "z": "个标准差",
}
