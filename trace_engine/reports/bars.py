"""Findings by detector, as bars: grouped by kind of evidence, so that many of them stay readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.reports import charts
from trace_engine.reports.words import EVIDENCE, EVIDENCE_COLOURS, OTHER_COLOUR, word


@dataclass(frozen=True, slots=True)
class DetectorBar:
    """One detector's findings."""

    title: str
    other: str
    count: int
    load: str
    percent: float


@dataclass(frozen=True, slots=True)
class BarGroup:
    """The detectors of one kind of evidence."""

    label: str
    colour: str
    count: int
    bars: list[DetectorBar]


def counted(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each non-null value of a string column occurs."""
    return {
        str(item["values"]): int(item["counts"])
        for item in pc.value_counts(column).to_pylist()
        if item["values"] is not None
    }


def alert_load(count: int, events: int, lang: str) -> str:
    """Return findings per 10 000 events, as text."""
    unit = "/10k" if lang == "en" else "/万"
    return f"{10_000 * count / events:.2f}{unit}" if events else "–"


def bar_groups(
    findings: pa.Table, family: str, titles: Mapping[str, tuple[str, str]], events: int, lang: str
) -> list[BarGroup]:
    """Return the detectors of one family that found something, by kind of evidence.

    Groups with most findings come first, and so do the detectors in them; all bars of the family
    are drawn to one scale. Detectors of a plug-in that is not here any more are "other rules".
    """
    from trace_engine.detectors.registry import detector_classes

    rows = findings.filter(pc.equal(findings.column("family"), family))
    found = sorted(counted(rows.column("detector")).items(), key=lambda item: (-item[1], item[0]))
    shares = charts.percentages([count for _, count in found])
    classes = detector_classes()
    groups: dict[str, list[DetectorBar]] = {}
    for (detector, count), percent in zip(found, shares, strict=True):
        zh, en = titles.get(detector, (detector, detector))
        title, other = (en, "") if lang == "en" else (zh, en)
        kind = str(classes[detector].evidence) if detector in classes else "other"
        bar = DetectorBar(title, other, count, alert_load(count, events, lang), percent)
        groups.setdefault(kind, []).append(bar)
    out = [
        BarGroup(
            word(EVIDENCE, kind, lang),
            EVIDENCE_COLOURS.get(kind, OTHER_COLOUR),
            sum(bar.count for bar in bars),
            bars,
        )
        for kind, bars in groups.items()
    ]
    return sorted(out, key=lambda group: (-group.count, group.label))
