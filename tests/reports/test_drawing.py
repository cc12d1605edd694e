from __future__ import annotations

import ast
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.made import make, path
from trace_engine import detectors
from trace_engine.detectors.registry import detector_classes
from trace_engine.reports import bars, cases, charts, explain, timeline
from trace_engine.reports.words import EVIDENCE, PROVINCES, SKIP_REASONS, UNITS


def test_lanes_are_parties_in_order_of_appearance() -> None:
    line = timeline.build(path(10, 2), {"e10-3"}, "zh")
    assert [lane.letter for lane in line.lanes] == ["A", "B", "C", "人"]
    assert [(r.source, r.target) for r in line.rows] == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3)]
    assert [r.accused for r in line.rows] == [False, False, False, True, False]
    assert line.rows[0].crosses
    assert line.rows[2].time == "2025-01-12"  # a date-only bill has no time of day
    assert line.rows[0].time == "2025-01-11 09:00"


def test_path_as_text() -> None:
    lines = timeline.as_text(timeline.build(path(10, 2), {"e10-3"}, "en"), "en")
    assert lines[-1] == ("  2025-01-12 12:00  │   │   ●───▶  retail sale  ¥13.50 · XS0000101")
    assert lines[-2].startswith("▶ 2025-01-12")
    assert lines[-5] == (
        "  2025-01-11 09:00  ●───▶   │   │  sale shipment  ¥12.50 · crosses province · XS0000100"
    )


def test_a_skipped_lane_is_crossed_and_a_way_back_points_left() -> None:
    events = [
        {"event_id": "1", "source": "A", "target": "B"},
        {"event_id": "2", "source": "B", "target": "C"},
        {"event_id": "3", "source": "C", "target": "A"},
        {"event_id": "4", "source": None, "target": "B"},
    ]
    lines = [line[20:].rstrip() for line in timeline.as_text(timeline.build(events), "zh")[-4:]]
    assert lines == ["●───▶   │", "│   ●───▶", "◀───┼───●", "│   ●   │"]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["event_id", "source", "target", "time", "kind", "source_region"]),
            st.none() | st.text(max_size=8),
        ),
        max_size=60,
    )
)
def test_any_path_can_be_drawn(events: list[dict[str, str | None]]) -> None:
    accused = {str(events[-1].get("event_id"))} if events else set()
    line = timeline.build(events, accused)
    drawn = [row for row in line.rows if not row.omitted]
    assert len(drawn) == min(len(events), timeline.MOST_ROWS)
    assert len(drawn) + sum(row.omitted for row in line.rows) == len(events)
    assert all(row.y < line.height for row in line.rows)
    assert timeline.as_text(line)


def test_provinces_each_have_a_tile_of_their_own() -> None:
    assert len(PROVINCES) == 34
    assert len({(p.column, p.row) for p in PROVINCES}) == 34
    assert len({p.digits for p in PROVINCES}) == 34


def test_tiles_darken_with_counts() -> None:
    drawn = charts.tile_map({"44": 1000, "31": 10, "11": 1}, {"44": 1}, "zh")
    tile = {t.name: t for t in drawn.tiles}
    assert len({tile[name].fill for name in ("广东", "上海", "北京", "西藏")}) == 4
    assert tile["广东"].high
    assert not tile["上海"].high
    assert tile["广东"].label == "1000"
    assert [key.label for key in drawn.key] == ["1–3", "4–15", "16–62", "63–250", "≥ 251"]


@pytest.mark.parametrize(
    "value,text",
    [(0, "0"), (9999, "9999"), (12_345, "12.3k"), (20_000, "20k"), (999_999, "1M"),
     (4_510_000, "4.5M")],
)  # fmt: skip
def test_compact_numbers(value: int, text: str) -> None:
    assert charts.compact(value) == text


DAYS = st.dates(date(1970, 1, 1), date(2200, 1, 1))
NUMBERS = st.integers(0, 10**7)


@given(st.dictionaries(DAYS, st.tuples(NUMBERS, NUMBERS), max_size=40))
def test_trend_holds_every_finding(days: dict[date, tuple[int, int]]) -> None:
    drawn = charts.trend(days, "en")
    assert len(drawn.bars) <= 300
    total = 0
    for bar in drawn.bars:
        numbers = bar.title.split(": ")[1].replace(",", "").split()
        total += int(numbers[1]) + int(numbers[-1])
        assert bar.y_data >= 9.9
        assert bar.x + bar.width <= drawn.width
    assert total == sum(bad + data for bad, data in days.values())


def test_trend_is_by_week_in_a_short_period() -> None:
    days = {date(2025, 1, 1) + timedelta(days=i): (1, 0) for i in range(30)}
    drawn = charts.trend(days, "en")
    assert drawn.unit == "by week (Mondays)"
    assert [bar.title.split(":")[0] for bar in drawn.bars] == [
        "12-30", "01-06", "01-13", "01-20", "01-27",
    ]  # fmt: skip


def test_finding_is_told_with_its_path() -> None:
    result = make(12)
    row = result.findings.slice(7, 1).to_pylist()[0]
    text = "\n".join(explain.finding_text(row, "zh"))
    assert "追溯码流转" in text
    assert row["finding_id"] in text
    assert row["explanation_zh"] in text
    assert "▶ " in text


def test_seller_is_told_with_the_parts_of_its_score() -> None:
    result = make()
    row = result.sellers.slice(0, 1).to_pylist()[0]
    ours = result.findings.filter(
        [s == row["enterprise_id"] for s in result.findings.column("subject_id").to_pylist()]
    )
    lines = explain.seller_text(row, ours, "en")
    parts = [float(line.split()[0]) for line in lines if "█" in line]
    assert sum(parts) == pytest.approx(row["score"], abs=0.005)
    assert any(line.startswith("Findings (") for line in lines)


def strings(node: ast.AST) -> set[str]:
    """Return all texts below ``node``; of mappings, the keys."""
    mappings = [found for found in ast.walk(node) if isinstance(found, ast.Dict)]
    roots = [key for found in mappings for key in found.keys if key] if mappings else [node]
    below = [found for root in roots for found in ast.walk(root)]
    texts = [found.value for found in below if isinstance(found, ast.Constant)]
    return {text for text in texts if isinstance(text, str)}


def skip_reasons(tree: ast.Module) -> set[str]:
    """Return the reasons for which a module of detectors skips events."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("skipped", "_REASONS"):
            found |= strings(node.value)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("skipped"):
            found |= strings(node.slice)
        elif isinstance(node, ast.Call):
            found |= {r for k in node.keywords if k.arg == "skipped" for r in strings(k.value)}
            if ast.unparse(node.func) == "Verdict" and len(node.args) > 2:
                found |= strings(node.args[2])
    return found


def test_every_unit_and_skip_reason_of_the_catalogue_has_words() -> None:
    for name, cls in detector_classes().items():
        if cls.__module__.startswith("trace_engine."):  # a plug-in brings words of its own
            assert cls.unit in UNITS, (name, cls.unit)
            assert cls.evidence in EVIDENCE
    stated: set[str] = set()
    for module in Path(detectors.__file__).parent.glob("*.py"):
        found = skip_reasons(ast.parse(module.read_text(encoding="utf-8")))
        assert found <= set(SKIP_REASONS), (module.name, found - set(SKIP_REASONS))
        stated |= found
    assert {"no_registry", "no_price", "date_only", "medical", "no_device"} <= stated


def test_a_reason_that_names_what_is_missing_says_what_to_bring() -> None:
    # What a code or the trade itself does not hold cannot be brought.
    beyond = {"no_identifier", "no_serial", "no_counterparty"}
    for reason, words in SKIP_REASONS.items():
        if reason.startswith("no_") and reason not in beyond:
            assert "（请" in words.zh or "请向" in words.zh, reason
            assert "(" in words.en, reason


def test_bars_of_many_detectors_are_grouped_by_evidence() -> None:
    names = list(detector_classes())
    found = [name for i, name in enumerate(names) for _ in range(i + 1)] + ["gone"] * 3
    table = pa.table({"detector": found, "family": ["suspected_violation"] * len(found)})
    titles = {name: (cls.title_zh, cls.title_en) for name, cls in detector_classes().items()}
    groups = bars.bar_groups(table, "suspected_violation", titles, 10_000, "zh")
    assert sum(group.count for group in groups) == len(found)
    assert [group.count for group in groups] == sorted((g.count for g in groups), reverse=True)
    shown = [bar for group in groups for bar in group.bars]
    assert sorted(bar.title for bar in shown) == sorted(
        [*(cls.title_zh for cls in detector_classes().values()), "gone"]
    )
    assert max(bar.percent for bar in shown) == 100
    assert {bar.load for bar in shown if bar.title == "gone"} == {"3.00/万"}
    assert [g.label for g in groups if any(bar.title == "gone" for bar in g.bars)] == ["其他规则"]


def test_the_last_case_is_one_of_flows_and_of_a_network_rule_if_there_is_one() -> None:
    result = make()
    rows = result.findings.to_pylist()
    ring = [
        {"source": a, "target": b, "source_name": a, "target_name": b, "source_region": "",
         "target_region": "", "packs": 1, "events": 1, "first": "2026-01-01", "last": "2026-01-01"}
        for a, b in (("A", "B"), ("B", "C"), ("C", "A"))
    ]  # fmt: skip
    leading = result.sellers.column("enterprise_id").to_pylist()[:2]
    flows = msgspec.json.encode({"flow": ring}).decode()
    for place, detector in enumerate(("quota_rolling", "circular_trade")):
        rows.append(
            rows[0]
            | {"detector": detector, "subject_id": leading[place], "evidence": flows}
            | {"family": "suspected_violation", "finding_id": detector}
        )
    findings = pa.Table.from_pylist(rows, schema=result.findings.schema)
    last = cases.choose(findings, result.sellers)[-1]
    assert last["finding_id"] == "circular_trade"
    drawn = cases.build(last, {}, "zh").network
    assert drawn is not None
    assert [arrow.label for arrow in drawn.arrows] == ["01-01"] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (1234.5, "1,234.50"),
        (0.25, "0.25"),
        (0.001, "0.001"),
        (0.0, "0"),
        (0.0049, "0.0049"),
    ],
)
def test_small_limits_are_not_rounded_away(value: float, text: str) -> None:
    assert cases.amount_text(value) == text
