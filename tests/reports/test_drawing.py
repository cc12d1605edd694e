from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.made import make, path
from trace_engine.reports import charts, explain, timeline
from trace_engine.reports.words import PROVINCES


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


def test_every_unit_and_skip_reason_of_the_catalogue_has_words() -> None:
    import inspect
    import re

    from trace_engine.detectors.registry import detector_classes
    from trace_engine.reports.words import EVIDENCE, SKIP_REASONS, UNITS

    reason = re.compile(r'"((?:no|unknown|before|type)_[a-z_]+)"')
    for name, cls in detector_classes().items():
        if not cls.__module__.startswith("trace_engine."):
            continue  # a plug-in brings words of its own
        assert cls.unit in UNITS, (name, cls.unit)
        assert str(cls.evidence) in EVIDENCE
        source = inspect.getsource(inspect.getmodule(cls))  # type: ignore[arg-type]
        stated = set(reason.findall(source)) - set(detector_classes())
        assert stated <= set(SKIP_REASONS), (name, stated - set(SKIP_REASONS))
