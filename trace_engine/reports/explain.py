"""Explanations as plain text: a finding, a seller, a code. For terminals and for pasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.reports import network, timeline
from trace_engine.reports.cases import accused, amount_text, bureau, parse_evidence, path_of
from trace_engine.reports.view import CONTRIBUTION, REASON_SEPARATORS
from trace_engine.reports.words import (
    ENTERPRISE_TYPES,
    EVIDENCE,
    FAMILIES,
    TIERS,
    UNITS,
    word,
)

SHOWN_IDS = 10
SHOWN_FINDINGS = 10
SHOWN_CHARACTERS = 120  # of a sentence in a list
_BAR = 30


def _labelled(rows: Sequence[tuple[str, str, Any]], lang: str) -> list[str]:
    """Return ``label: value`` lines, without those that have no value."""
    return [
        f"  {en}: {value}" if lang == "en" else f"  {zh}：{value}"
        for zh, en, value in rows
        if value not in (None, "")
    ]


def _list_of(values: Sequence[str] | None, lang: str) -> str:
    values = list(values or ())
    shown = ", ".join(values[:SHOWN_IDS])
    rest = len(values) - SHOWN_IDS
    if rest <= 0:
        return shown
    return f"{shown}, and {rest} more" if lang == "en" else f"{shown} 等共 {len(values)} 个"


def finding_text(row: Mapping[str, Any], lang: str) -> list[str]:
    """Return one finding (a row of the findings table) as lines: sentence, facts, path."""
    evidence = parse_evidence(row["evidence"])
    title = row["title_en"] if lang == "en" else f"{row['title_zh']} {row['title_en']}"
    lines = [
        f"{title} [{word(FAMILIES, row['family'], lang)}]  {row['finding_id']}",
        "",
        f"  {row['explanation_en' if lang == 'en' else 'explanation_zh']}",
    ]
    if lang == "zh" and row["explanation_en"]:
        lines.append(f"  {row['explanation_en']}")
    observed, threshold = amount_text(row["observed"]), amount_text(row["threshold"])
    unit = word(UNITS, row["unit"], lang)
    amount = None if row["amount"] is None else f"¥{row['amount']:,.2f}"
    lines += [
        "",
        *_labelled(
            [
                ("主体", "subject", row["subject_id"]),
                ("相对方", "counterparty", row["counterparty_id"]),
                ("时间", "time", f"{row['event_time']:%Y-%m-%d %H:%M}"),
                ("药品", "drug", row["drug_id"]),
                ("批号", "batch", row["batch_no"]),
                ("追溯码", "codes", _list_of(row["codes"] or [row["code"] or ""], lang)),
                ("单据", "bill", row["bill_code"]),
                ("观测值", "observed", f"{observed} {unit}"),
                ("阈值", "threshold", f"{threshold} {unit}"),
                ("严重度", "severity", f"{row['severity']:.2f}"),
                ("涉及金额", "amount", amount),
                ("依据", "basis", row["basis"]),
                ("处置机关", "to act", bureau(row, lang)),
                ("事件", "events", _list_of(row["event_ids"], lang)),
                ("策略", "policy", row["policy_version"]),
            ],
            lang,
        ),
    ]
    path = path_of(evidence)
    if path:
        heading = "Path of the code" if lang == "en" else "追溯码流转"
        lines += ["", f"{heading} {row['code'] or ''}".rstrip(), ""]
        lines += timeline.as_text(timeline.build(path, accused(path, row["event_ids"]), lang), lang)
    flow = network.flow_of(evidence)
    if flow:
        lines += ["", "Who gave what to whom" if lang == "en" else "流向图", ""]
        lines += network.as_text(network.build(flow, row["subject_id"] or "", lang), lang)
    return lines


def seller_text(seller: Mapping[str, Any], findings: pa.Table, lang: str) -> list[str]:
    """Return one seller (a row of the ranking) as lines: score, its parts, its findings.

    ``findings`` holds this seller's findings only.
    """
    english = lang == "en"
    name = seller["name"] or seller["enterprise_id"]
    tier = f"{seller['tier']} {word(TIERS, seller['tier'], lang)}"
    place = timeline.place_name(seller["region"], lang)
    lines = [
        f"{name}  [{seller['enterprise_id']}]",
        *_labelled(
            [
                ("排名", "rank", seller["rank"]),
                ("得分", "score", f"{seller['score']:.3f}"),
                ("等级", "tier", tier),
                ("类型", "type", word(ENTERPRISE_TYPES, seller["type"], lang)),
                ("地区", "region", place),
                ("事件数", "events", f"{seller['events']:,}"),
                ("售出（盒）", "packs sold", f"{seller['packs_sold']:,}"),
            ],
            lang,
        ),
        "",
        "Parts of the score" if english else "得分构成",
    ]
    parts = [
        (key[len(CONTRIBUTION) :], value)
        for key, value in seller.items()
        if key.startswith(CONTRIBUTION) and value and value >= 5e-4
    ]
    for family, value in sorted(parts, key=lambda part: -part[1]):
        bar = "█" * max(1, round(_BAR * value))
        lines.append(f"  {value:.3f} {bar} {word(EVIDENCE, family, lang)}")
    lines += ["", "Why" if english else "理由"]
    reasons = (seller[f"reasons_{lang}"] or "").split(REASON_SEPARATORS[lang])
    lines += [f"  · {reason}" for reason in reasons if reason]
    return lines + _finding_lines(findings, lang)


def shortened(text: str, width: int = SHOWN_CHARACTERS) -> str:
    """Return the beginning of a text, with an ellipsis where something was cut off."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _finding_lines(findings: pa.Table, lang: str) -> list[str]:
    """Return one line a finding, most severe suspected violations first."""
    if not findings.num_rows:
        return []
    order = pc.sort_indices(
        findings,
        sort_keys=[
            ("family", "descending"),
            ("severity", "descending"),
            ("finding_id", "ascending"),
        ],
    )
    heading = "Findings" if lang == "en" else "线索"
    lines = ["", f"{heading} ({findings.num_rows:,})"]
    for row in findings.take(order[:SHOWN_FINDINGS]).to_pylist():
        title, text = row[f"title_{lang}"], shortened(row[f"explanation_{lang}"] or "")
        lines.append(f"  {row['finding_id']}  {row['event_time']:%Y-%m-%d}  {title}: {text}")
    rest = findings.num_rows - SHOWN_FINDINGS
    if rest > 0:
        more = f"… and {rest:,} more" if lang == "en" else f"… 另有 {rest:,} 条"
        lines.append(f"  {more} (findings.parquet)")
    return lines


def code_text(
    code: str, path: Sequence[Mapping[str, Any]], findings: pa.Table, lang: str
) -> list[str]:
    """Return the path of one code and the findings that name it."""
    fired = set().union(
        *(
            accused(path_of(parse_evidence(row["evidence"])), row["event_ids"])
            for row in findings.select(["evidence", "event_ids"]).to_pylist()
        )
    )
    heading = f"Trace code {code}" if lang == "en" else f"追溯码 {code}"
    lines = [heading, ""]
    if path:
        lines += timeline.as_text(timeline.build(path, fired, lang), lang)
    else:
        lines.append("  no event of it is known" if lang == "en" else "  没有该码的事件")
    return lines + _finding_lines(findings, lang)
