"""The evaluation as a text table, in Chinese or English."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

TEXT: dict[str, dict[str, str]] = {
    "zh": {
        "detector": "规则",
        "planted": "植入",
        "found": "发现",
        "recall": "召回率",
        "named": "指认主体",
        "delay": "中位时延(天)",
        "all": "合计",
        "false": "误报（疑似违规，未触及任何植入追溯码）",
        "count": "条数",
        "per100k": "每10万事件",
        "benign": "良性相似情形",
        "kind": "情形",
        "hit": "误中",
        "by": "误中的规则",
        "load": "告警量",
        "family": "类别",
        "per10k": "每万事件",
        "ranking": "排序",
        "sellers": "参与排序主体",
        "guilty": "植入违规主体",
        "precision": "前k精确率",
        "recall_k": "前k召回率",
        "ap": "平均精确率",
        "ndcg": "nDCG@k",
        "lift": "相对随机提升倍数",
        "missed": "未发现",
        "innocent": "前k中的无辜主体",
        "none": "无",
    },
    "en": {
        "detector": "detector",
        "planted": "planted",
        "found": "found",
        "recall": "recall",
        "named": "seller named",
        "delay": "median delay (days)",
        "all": "all",
        "false": "False alarms (suspected violations that touch no planted code)",
        "count": "count",
        "per100k": "per 100k events",
        "benign": "Benign look-alikes",
        "kind": "kind",
        "hit": "hit",
        "by": "hit by",
        "load": "Alert load",
        "family": "family",
        "per10k": "per 10k events",
        "ranking": "Ranking",
        "sellers": "sellers ranked",
        "guilty": "guilty sellers",
        "precision": "precision at k",
        "recall_k": "recall at k",
        "ap": "average precision",
        "ndcg": "nDCG at k",
        "lift": "lift over random",
        "missed": "Missed",
        "innocent": "Innocent in the top k",
        "none": "none",
    },
}


def width(text: str) -> int:
    """Return how many terminal columns ``text`` takes: wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table: the first column flush left, the others flush right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]
    result = []
    for line in lines:
        cells = [
            cell + " " * (size - width(cell)) if i == 0 else " " * (size - width(cell)) + cell
            for i, (cell, size) in enumerate(zip(line, widths, strict=True))
        ]
        result.append("  ".join(cells).rstrip())
    result.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return result


def format_report(report: dict[str, Any], lang: str = "en") -> str:
    """Return the result of :func:`trace_engine.ranking.evaluate` as text.

    ``lang`` is ``zh`` or ``en``; anything else raises ``ValueError``.
    """
    if lang not in TEXT:
        raise ValueError(f"lang: found {lang!r}, expected zh or en")
    t = TEXT[lang]
    blocks = [
        _schemes(report["schemes"], t),
        _false_alarms(report["false_alarms"], t),
        _benign(report["benign"], t),
        _load(report["load"], t),
        _ranking(report["ranking"], t),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _schemes(part: dict[str, Any], t: dict[str, str]) -> list[str]:
    rows = [
        [
            name,
            str(r["planted"]),
            str(r["found"]),
            _number(r["recall"]),
            str(r["seller_named"]),
            _number(r["median_delay_days"], 1),
        ]
        for name, r in part["by_detector"].items()
    ]
    rows.append(
        [t["all"], str(part["planted"]), str(part["found"]), _number(part["recall"]), "", ""]
    )
    lines = text_table(
        [t["detector"], t["planted"], t["found"], t["recall"], t["named"], t["delay"]], rows
    )
    for name, r in part["by_detector"].items():
        if r["missed"]:
            lines.append(f"{t['missed']} {name}: {', '.join(r['missed'])}")
    return lines


def _false_alarms(part: dict[str, Any], t: dict[str, str]) -> list[str]:
    rows = [
        [name, str(r["count"]), _number(r["per_100k_events"])]
        for name, r in part["by_detector"].items()
    ]
    rows.append([t["all"], str(part["count"]), _number(part["per_100k_events"])])
    return [t["false"], *text_table([t["detector"], t["count"], t["per100k"]], rows)]


def _benign(part: dict[str, Any], t: dict[str, str]) -> list[str]:
    rows = [
        [
            kind,
            str(r["planted"]),
            str(r["hit"]),
            ", ".join(f"{name} {n}" for name, n in r["by_detector"].items()) or t["none"],
        ]
        for kind, r in part["by_kind"].items()
    ]
    rows.append([t["all"], str(part["planted"]), str(part["hit"]), ""])
    return [t["benign"], *text_table([t["kind"], t["planted"], t["hit"], t["by"]], rows)]


def _load(part: dict[str, Any], t: dict[str, str]) -> list[str]:
    rows = [
        [name, str(r["count"]), _number(r["per_10k_events"])]
        for name, r in part["by_family"].items()
    ]
    return [t["load"], *text_table([t["family"], t["count"], t["per10k"]], rows)]


def _ranking(part: dict[str, Any], t: dict[str, str]) -> list[str]:
    rows = [
        [t["sellers"], str(part["sellers"])],
        [t["guilty"], f"{part['guilty']} (k)"],
        [t["precision"], _number(part["precision_at_k"])],
        [t["recall_k"], _number(part["recall_at_k"])],
        [t["ap"], _number(part["average_precision"])],
        [t["ndcg"], _number(part["ndcg_at_k"])],
        [t["lift"], _number(part["lift_at_k"], 1)],
    ]
    lines = text_table([t["ranking"], ""], rows)
    innocent = ", ".join(part["innocent_in_top_k"]) or t["none"]
    return [*lines, f"{t['innocent']}: {innocent}"]
