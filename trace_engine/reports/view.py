"""What the report shows, as plain numbers and words: computed here, laid out by the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from trace_engine import __version__
from trace_engine.reports import cases, charts
from trace_engine.reports.bars import alert_load, bar_groups, counted
from trace_engine.reports.coverage import coverage_rows, registry_problems
from trace_engine.reports.timeline import place_name
from trace_engine.reports.words import (
    BY_DIGITS,
    ENTERPRISE_TYPES,
    EVIDENCE,
    EVIDENCE_COLOURS,
    OTHER_COLOUR,
    TIERS,
    reject_reason,
    word,
)

TOP_SELLERS = 30
NARROW = ["detector", "family", "region", "event_time", "title_zh", "title_en"]
SHOWN_INPUTS = 20
SHOWN_PROBLEMS = 8
BAR_WIDTH = 240  # of a score of 1, in SVG user units
CONTRIBUTION = "contribution_"
REASON_SEPARATORS = {"zh": "；", "en": "; "}


class Scored(Protocol):
    """What the outputs need of a :class:`trace_engine.scoring.Result`."""

    findings: pa.Table  # schema FINDINGS
    exposure: pa.Table  # schema EXPOSURE
    graph_edges: pa.Table  # schema GRAPH_EDGES
    rejects: pa.Table  # schema REJECTS
    coverage: dict[str, dict[str, Any]]  # detector -> judged, skipped (reason -> events), status
    counts: dict[str, int]  # rows, events, duplicates, rejects
    policy: Any
    registry: Any
    seconds_by_stage: dict[str, float]

    @property
    def sellers(self) -> pa.Table:
        """The ranking (``trace_engine.ranking.rank``)."""

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Input files: path, bytes, sha256, rows."""

    def plan(self, budget: int, seed: int = 0) -> pa.Table:
        """Return a sampling plan."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number at the top."""

    value: str
    label: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One coloured part of a score bar."""

    x: float
    width: float
    colour: str
    label: str
    value: float


@dataclass(frozen=True, slots=True)
class SellerRow:
    """One line of the ranking."""

    rank: int
    name: str
    about: str
    tier: str
    score: float
    parts: list[Part]
    findings: int
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class ProvinceRow:
    """One line of the table beside the province chart."""

    name: str
    violations: int
    data: int
    sellers: int
    high: int


@dataclass(frozen=True, slots=True)
class Count:
    """A label with a number and, where drawn, a colour or a share."""

    label: str
    count: int = 0
    colour: str = ""
    percent: float = 0
    tier: str = ""


def names_of(sellers: pa.Table) -> dict[str, str]:
    """Return names of enterprises by id, where known."""
    ids, names = (sellers.column(c).to_pylist() for c in ("enterprise_id", "name"))
    return {str(i): str(n) for i, n in zip(ids, names, strict=True) if n}


def seller_rows(sellers: pa.Table, lang: str, limit: int = TOP_SELLERS) -> list[SellerRow]:
    """Return the first ``limit`` sellers, ready to be shown."""
    rows = []
    for row in sellers.slice(0, limit).to_pylist():
        parts, x = [], 0.0
        for name, value in row.items():
            if not name.startswith(CONTRIBUTION) or not value or value < 5e-4:
                continue
            family = name[len(CONTRIBUTION) :]
            width = round(BAR_WIDTH * value, 2)
            colour = EVIDENCE_COLOURS.get(family, OTHER_COLOUR)
            parts.append(Part(round(x, 2), width, colour, word(EVIDENCE, family, lang), value))
            x += width
        about = [word(ENTERPRISE_TYPES, row["type"], lang), place_name(row["region"], lang)]
        if row["name"]:
            about.append(row["enterprise_id"])
        reasons = (row[f"reasons_{lang}"] or "").split(REASON_SEPARATORS[lang])
        rows.append(
            SellerRow(
                rank=row["rank"],
                name=row["name"] or row["enterprise_id"],
                about=" · ".join(text for text in about if text),
                tier=row["tier"],
                score=row["score"],
                parts=parts,
                findings=row["findings_violation"] + row["findings_data_quality"],
                reasons=[text for text in reasons if text],
            )
        )
    return rows


def capital(title: str) -> str:
    """Return a title as it begins a line."""
    return title[:1].upper() + title[1:]


def _titles(findings: pa.Table) -> dict[str, tuple[str, str]]:
    """Return Chinese and English titles by detector, from the catalogue and the findings."""
    from trace_engine.detectors.registry import detector_classes

    titles = {
        name: (cls.title_zh, capital(cls.title_en)) for name, cls in detector_classes().items()
    }
    columns = ["detector", "title_zh", "title_en"]
    unknown = findings.select(columns).filter(
        pc.invert(pc.is_in(findings.column("detector"), value_set=pa.array(titles, pa.string())))
    )
    for row in unknown.group_by(columns).aggregate([]).to_pylist():
        titles[row["detector"]] = (row["title_zh"], capital(row["title_en"]))
    return titles


def _province_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return counted(pc.utf8_slice_codeunits(column, 0, 2))


def _by_day(findings: pa.Table) -> dict[date, tuple[int, int]]:
    """Return suspected violations and data-quality findings of each Shanghai day."""
    if not findings.num_rows:
        return {}
    table = pa.table(
        {
            "day": pc.local_timestamp(findings.column("event_time")).cast(pa.date32(), safe=False),
            "data": pc.cast(pc.equal(findings.column("family"), "data_quality"), pa.int64()),
        }
    )
    grouped = table.group_by("day").aggregate([("data", "sum"), ("data", "count")])
    return {
        row["day"]: (row["data_count"] - row["data_sum"], row["data_sum"])
        for row in grouped.to_pylist()
        if row["day"] is not None
    }


def period(exposure: pa.Table) -> str:
    """Return the days of the first and last event: ``2025-01-01 – 2025-06-30``."""
    first = pc.min(exposure.column("first_time")).as_py()
    last = pc.max(exposure.column("last_time")).as_py()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return "–"
    return f"{first:%Y-%m-%d} – {last:%Y-%m-%d}"


def _provinces(
    findings: pa.Table, sellers: pa.Table, lang: str
) -> tuple[charts.TileMap, list[ProvinceRow]]:
    bad = findings.filter(pc.equal(findings.column("family"), "suspected_violation"))
    data = findings.filter(pc.equal(findings.column("family"), "data_quality"))
    tiers = sellers.column("tier")
    by_bad, by_data = (_province_counts(t.column("region")) for t in (bad, data))
    known = _province_counts(sellers.column("region"))
    high = _province_counts(
        sellers.filter(pc.is_in(tiers, value_set=pa.array(["C", "D"]))).column("region")
    )
    highest = _province_counts(sellers.filter(pc.equal(tiers, "D")).column("region"))
    rows = [
        ProvinceRow(
            BY_DIGITS[digits].en if lang == "en" else BY_DIGITS[digits].zh,
            by_bad.get(digits, 0),
            by_data.get(digits, 0),
            known.get(digits, 0),
            high.get(digits, 0),
        )
        for digits in sorted(
            {*by_bad, *by_data, *known} & set(BY_DIGITS),
            key=lambda d: (-by_bad.get(d, 0), -by_data.get(d, 0), d),
        )
    ]
    return charts.tile_map(by_bad, highest, lang), rows[:12]


_TILE_NAMES = {
    "zh": (
        "已评分事件",
        "参与排名企业",
        "高风险企业（D 级）",
        "疑似违规线索",
        "数据质量问题",
        "拒收行",
    ),
    "en": (
        "events scored",
        "sellers ranked",
        "high-risk sellers (tier D)",
        "suspected violations",
        "data-quality findings",
        "rows rejected",
    ),
}


def _tiles(result: Scored, violations: int, quality: int, lang: str) -> list[Tile]:
    tiers = counted(result.sellers.column("tier"))
    names = _TILE_NAMES[lang]
    values = (
        (result.counts["events"], ""),
        (result.sellers.num_rows, ""),
        (tiers.get("D", 0), "bad"),
        (violations, "bad"),
        (quality, "data"),
        (result.counts["rejects"], ""),
    )
    return [Tile(f"{v:,}", name, kind) for name, (v, kind) in zip(names, values, strict=True)]


def _inputs(result: Scored) -> list[dict[str, Any]]:
    return [
        {**entry, "name": PurePath(entry["path"]).name} for entry in result.inputs[:SHOWN_INPUTS]
    ]


def _reject_reasons(rejects: pa.Table, lang: str) -> list[Count]:
    found = counted(rejects.column("reason"))
    return [
        Count(label=reject_reason(reason, lang), count=count)
        for reason, count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]


_SPLIT_COLOURS = {"events": "#2a8f85", "duplicates": "#c9b458", "rejects": "#b3392f"}


def _split(counts: Mapping[str, int]) -> list[Count]:
    total = max(counts["rows"], 1)
    return [
        Count("", counts[name], colour, round(100 * counts[name] / total, 3))
        for name, colour in (
            ("events", "#2a8f85"),
            ("duplicates", "#c9b458"),
            ("rejects", "#b3392f"),
        )
    ]


def _score_key(sellers: pa.Table, lang: str) -> list[Count]:
    top = sellers.slice(0, TOP_SELLERS)
    return [
        Count(word(EVIDENCE, family, lang), colour=EVIDENCE_COLOURS.get(family, OTHER_COLOUR))
        for family in (n[len(CONTRIBUTION) :] for n in sellers.column_names if CONTRIBUTION in n)
        if (pc.max(top.column(CONTRIBUTION + family)).as_py() or 0) >= 5e-4
    ]


def report(result: Scored, lang: str, policy_version: str) -> dict[str, Any]:
    """Return everything the template shows."""
    sellers = result.sellers
    # Without evidence and sentences, which are wide: filtering copies what it keeps.
    findings = result.findings.select(NARROW)
    titles = _titles(findings)
    families = counted(findings.column("family"))
    violations = families.get("suspected_violation", 0)
    quality = families.get("data_quality", 0)
    events = result.counts["events"]
    tile_map, province_rows = _provinces(findings, sellers, lang)
    names = names_of(sellers)
    problems = registry_problems(result.registry, lang)
    tiers = counted(sellers.column("tier"))
    return {
        "period": period(result.exposure),
        "policy_version": policy_version,
        "code_version": __version__,
        "tiles": _tiles(result, violations, quality, lang),
        "sellers": seller_rows(sellers, lang),
        "seller_count": f"{sellers.num_rows:,}",
        "score_key": _score_key(sellers, lang),
        "tiers": [
            Count(words.in_(lang), tiers.get(tier, 0), tier=tier) for tier, words in TIERS.items()
        ],
        "violations": violations,
        "data_quality": quality,
        "violation_load": alert_load(violations, events, lang),
        "data_load": alert_load(quality, events, lang),
        "violation_bars": bar_groups(findings, "suspected_violation", titles, events, lang),
        "data_bars": bar_groups(findings, "data_quality", titles, events, lang),
        "trend": charts.trend(_by_day(findings), lang),
        "map": tile_map,
        "province_rows": province_rows,
        "cases": [cases.build(row, names, lang) for row in cases.choose(result.findings, sellers)],
        "counts": result.counts,
        "split": _split(result.counts),
        "inputs": _inputs(result),
        "more_inputs": max(0, len(result.inputs) - SHOWN_INPUTS),
        "reject_reasons": _reject_reasons(result.rejects, lang),
        "coverage": coverage_rows(result.coverage, titles, lang),
        "registry_problems": len(problems),
        "first_problems": problems[:SHOWN_PROBLEMS],
    }
