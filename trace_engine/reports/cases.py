"""Worked cases of the report: which findings show best what the engine saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.reports import network, timeline
from trace_engine.reports.words import UNITS, word

CASES = 3
MOST_CANDIDATES = 300  # findings whose evidence is parsed in search of cases
_GOOD_FLOW = range(3, 17)  # flows between enterprises that fit in one drawing
_GOOD_PATH = range(3, 17)  # events in a path that a reader can take in at a glance


@dataclass(frozen=True, slots=True)
class Fact:
    """One line below the drawing."""

    label: str
    value: str
    mono: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One finding, drawn and told."""

    family: str
    title: str
    subject: str
    explanation: str
    other: str
    timeline: timeline.Timeline | None  # one of these two is there
    network: network.Network | None
    facts: list[Fact] = field(default_factory=list)


def parse_evidence(text: str | None) -> dict[str, Any]:
    """Return a finding's evidence; empty if it has none or is no JSON object."""
    if not text:
        return {}
    try:
        evidence = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return evidence if isinstance(evidence, dict) else {}


def path_of(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the events of a finding's code, in order."""
    path = evidence.get("path")
    return [event for event in path if isinstance(event, dict)] if isinstance(path, list) else []


def accused(path: Sequence[Mapping[str, Any]], event_ids: Sequence[str] | None) -> set[str]:
    """Return the events of a path to be marked: those that made the finding true.

    A finding on one code rests on its whole path; then it is the last event that fired.
    """
    ids = {str(event.get("event_id")) for event in path} & set(event_ids or ())
    if len(ids) == len(path):
        return {str(event.get("event_id")) for event in path[-1:]}
    return ids


def bureau(row: Mapping[str, Any], lang: str) -> str:
    """Return the authority that must act on a finding; findings carry its Chinese name."""
    if lang == "zh" or not row["jurisdiction"]:
        return str(row["jurisdiction"] or "")
    from trace_engine.registry.jurisdiction import responsible_bureau
    from trace_engine.registry.types import ENTERPRISE_TYPE_NAMES, EnterpriseType

    kind = ENTERPRISE_TYPE_NAMES.get(str(row["subject_type"]), EnterpriseType.UNKNOWN)
    return responsible_bureau(kind, str(row["region"] or ""), "en")


def _candidates(findings: pa.Table, sellers: pa.Table) -> pa.Table:
    """Return the findings to choose from, most severe first.

    Those of the first sellers, at most two a seller and detector, at most ``MOST_CANDIDATES``.
    """
    first = sellers.slice(0, 40).column("enterprise_id").combine_chunks()
    # Evidence is by far the widest column: only the rows chosen at the end are taken with it.
    keys = findings.select(["subject_id", "detector", "family", "severity", "finding_id"])
    rows = pc.indices_nonzero(pc.is_in(keys.column("subject_id"), value_set=first))
    if not len(rows):
        rows = pa.array(range(min(keys.num_rows, 10_000)), pa.uint64())
    ours = keys.take(rows)
    place = pc.fill_null(pc.index_in(ours.column("subject_id"), value_set=first), 1 << 20)
    order = pc.sort_indices(
        pa.table(
            {
                "quality": pc.cast(pc.equal(ours.column("family"), "data_quality"), pa.int8()),
                "place": place,
                "severity": ours.column("severity"),
                "id": ours.column("finding_id"),
            }
        ),
        sort_keys=[
            ("quality", "ascending"),
            ("place", "ascending"),
            ("severity", "descending"),
            ("id", "ascending"),
        ],
    )
    pairs = ours.select(["subject_id", "detector"]).take(order).to_pydict()
    seen: dict[tuple[str, str], int] = {}
    kept: list[int] = []
    for position, key in enumerate(zip(pairs["subject_id"], pairs["detector"], strict=True)):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 2:
            kept.append(position)
            if len(kept) == MOST_CANDIDATES:
                break
    return findings.take(rows.take(order.take(pa.array(kept, pa.int64()))))


def choose(findings: pa.Table, sellers: pa.Table) -> list[dict[str, Any]]:
    """Return up to four findings that differ in detector and subject and have something to draw.

    Suspected violations of the highest-ranked sellers come first; paths that fit on half a page
    come before longer and shorter ones. The last is one of flows, of a network rule if there is one.
    """
    from trace_engine.detectors.base import Evidence
    from trace_engine.detectors.registry import detector_classes

    classes = detector_classes()
    networks = {name for name, cls in classes.items() if cls.evidence == Evidence.NETWORK}
    rows = _candidates(findings, sellers).to_pylist()
    for row in rows:
        evidence = parse_evidence(row["evidence"])
        row["path"], row["flow"] = path_of(evidence), network.flow_of(evidence)
    drawn = [row for row in rows if len(row["flow"]) in _GOOD_FLOW and not row["path"]]
    drawn.sort(key=lambda row: row["detector"] not in networks)
    rows = [row for row in rows if row["path"]]
    rows.sort(
        key=lambda row: (
            row["family"] == "data_quality",
            len(row["path"]) not in _GOOD_PATH,
        )
    )
    chosen: list[dict[str, Any]] = []
    for fields in (("detector", "subject_id"), ("detector",), ("finding_id",)):
        for row in rows:
            if len(chosen) == CASES:
                return chosen + drawn[:1]
            taken = [{other[name] for other in chosen} for name in fields]
            if not any(row[name] in values for name, values in zip(fields, taken, strict=True)):
                chosen.append(row)
    return chosen + drawn[:1]


def amount_text(value: float) -> str:
    """Return an observed value or threshold without needless digits."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def build(row: Mapping[str, Any], names: Mapping[str, str], lang: str) -> Case:
    """Return the case of one finding (a row of the findings table with ``path`` and ``flow``)."""
    english = lang == "en"
    subject = str(row["subject_id"] or "")
    unit = word(UNITS, row["unit"], lang)
    facts = [
        Fact("Trace code" if english else "追溯码", str(row["code"] or ""), mono=True),
        Fact(
            "Observed / threshold" if english else "观测值 / 阈值",
            f"{amount_text(row['observed'])} / {amount_text(row['threshold'])} {unit}",
        ),
    ]
    if (row["code_count"] or 0) > 1:
        label = "Codes in this finding" if english else "涉及追溯码数"
        facts.append(Fact(label, f"{row['code_count']:,}"))
    if row["amount"] is not None:
        facts.append(Fact("Amount" if english else "涉及金额", f"¥{row['amount']:,.2f}"))
    facts += [
        Fact("Basis" if english else "依据", str(row["basis"] or "")),
        Fact("To act" if english else "处置机关", bureau(row, lang)),
        Fact("Finding" if english else "线索编号", str(row["finding_id"]), mono=True),
    ]
    return Case(
        family=str(row["family"]),
        title=str(row["title_en"] if english else row["title_zh"]),
        subject=names.get(subject) or subject,
        explanation=str(row["explanation_en"] if english else row["explanation_zh"]),
        other="" if english else str(row["explanation_en"] or ""),
        timeline=(
            timeline.build(row["path"], accused(row["path"], row["event_ids"]), lang)
            if row["path"]
            else None
        ),
        network=None if row["path"] else network.build(row["flow"], subject, lang),
        facts=[fact for fact in facts if fact.value],
    )
