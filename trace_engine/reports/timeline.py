"""One code's path as swim lanes: a lane a party, a row an event. Drawn as SVG and as text.

Input is ``evidence["path"]`` of a finding: events in canonical order, each a mapping with
``event_id, time, date_only, kind, kind_zh, actor, source, target, source_name, target_name,
source_region, target_region, price, bill_code`` (any may be missing or null).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_engine.reports.words import BY_DIGITS

PERSON = "\x00person"  # key of the lane of persons; no enterprise id holds a NUL
MOST_ROWS = 24
_LETTERS = "ABCDEFGHIJKLMNOQRSTUVWXYZ"  # without P, the letter of persons in English

# Geometry of the drawing, in SVG user units.
WIDTH = 960
_LEFT, _RIGHT = 170, 600
_TOP, _STEP = 46, 40
_PERSON_KINDS = frozenset({"retail_sale", "vaccination", "dispensing"})


@dataclass(frozen=True, slots=True)
class Lane:
    """One party of the path."""

    key: str
    letter: str  # "A", "B", ... in order of appearance; "人" or "P" for persons
    name: str
    place: str
    x: float


@dataclass(frozen=True, slots=True)
class Row:
    """One event of the path (or a gap: ``omitted`` > 0)."""

    y: float
    time: str
    label: str
    detail: str
    source: int  # index of a lane, -1 none
    target: int
    accused: bool  # the finding rests on this event
    crosses: bool  # giver and receiver stand in two provinces
    event_id: str
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """A path ready to be drawn."""

    lanes: list[Lane] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    width: int = WIDTH
    height: float = 0


def place_name(code: str | None, lang: str) -> str:
    """Return the province and city of a GB/T 2260 code: ``广东 广州``; empty if unknown."""
    if not code or len(code) < 2:
        return ""
    province = BY_DIGITS.get(code[:2])
    if province is None:
        return code
    if lang == "en":
        return province.en
    from trace_engine.registry.regions import load_regions

    regions = load_regions()
    index = regions.index(code[:4] + "00") if code[2:4] not in ("00", "") else -1
    city = regions.names_zh[index] if index >= 0 and not regions.is_province[index] else ""
    return f"{province.zh} {city}" if city and not city.startswith(province.zh) else province.zh


def _party(event: Mapping[str, Any], side: str, lang: str) -> tuple[str, str, str] | None:
    key = event.get(side)
    if key:
        name = str(event.get(f"{side}_name") or key)
        return str(key), name, place_name(event.get(f"{side}_region"), lang)
    return None


def _keep(count: int, accused: Sequence[bool]) -> list[int]:
    """Return which rows to draw of a long path: the accused ones, the first and the last."""
    if count <= MOST_ROWS:
        return list(range(count))
    wanted = [i for i in range(count) if accused[i]][:MOST_ROWS]
    for i in [*range(count - 1, count - 9, -1), *range(count)]:
        if len(set(wanted)) >= MOST_ROWS:
            break
        wanted.append(i)
    return sorted(set(wanted))


def _time_text(event: Mapping[str, Any]) -> str:
    text = str(event.get("time") or "").replace("T", " ")
    return text[:10] if event.get("date_only") else text[:16]


def _detail(event: Mapping[str, Any], crosses: bool, lang: str) -> str:
    parts = []
    if event.get("price") is not None:
        parts.append(f"¥{float(event['price']):.2f}")
    if crosses:
        parts.append("crosses province" if lang == "en" else "跨省")
    if event.get("bill_code"):
        parts.append(str(event["bill_code"]))
    return " · ".join(parts)


def build(
    path: Sequence[Mapping[str, Any]], accused: Collection[str] = (), lang: str = "zh"
) -> Timeline:
    """Lay out ``path``. Events whose id is in ``accused`` are marked.

    At most ``MOST_ROWS`` events are drawn; a gap says how many were left out.
    """
    order: dict[str, tuple[str, str]] = {}
    sides: list[tuple[str | None, str | None]] = []
    for event in path:
        source, target = _party(event, "source", lang), _party(event, "target", lang)
        for party in (source, target):
            if party and (party[0] not in order or not order[party[0]][1]):
                order[party[0]] = (party[1], party[2])
        keys = (source[0] if source else None, target[0] if target else None)
        if event.get("kind") in _PERSON_KINDS and target is None:
            order.setdefault(PERSON, ("a person" if lang == "en" else "消费者/患者", ""))
            keys = (keys[0], PERSON)
        if event.get("kind") == "consumer_return" and source is None:
            order.setdefault(PERSON, ("a person" if lang == "en" else "消费者/患者", ""))
            keys = (PERSON, keys[1])
        sides.append(keys)
    lanes = _lanes(order, lang)
    index = {lane.key: i for i, lane in enumerate(lanes)}
    marks = [str(event.get("event_id")) in accused for event in path]
    rows: list[Row] = []
    y, previous = float(_TOP), -1
    for i in _keep(len(path), marks):
        if i > previous + 1:
            rows.append(Row(y, "", "", "", -1, -1, False, False, "", i - previous - 1))
            y += _STEP
        event, (source_key, target_key) = path[i], sides[i]
        from_province = str(event.get("source_region") or "")[:2]
        to_province = str(event.get("target_region") or "")[:2]
        crosses = bool(from_province and to_province and from_province != to_province)
        label = event.get("kind") if lang == "en" else event.get("kind_zh") or event.get("kind")
        rows.append(
            Row(
                y=y,
                time=_time_text(event),
                label=str(label or "").replace("_", " "),
                detail=_detail(event, crosses, lang),
                source=index.get(source_key or "", -1),
                target=index.get(target_key or "", -1),
                accused=marks[i],
                crosses=crosses,
                event_id=str(event.get("event_id") or ""),
            )
        )
        y += _STEP
        previous = i
    return Timeline(lanes=lanes, rows=rows, height=y + 6)


def _lanes(order: Mapping[str, tuple[str, str]], lang: str) -> list[Lane]:
    """Return the lanes from left to right: enterprises as they appear, persons last."""
    keys = [key for key in order if key != PERSON] + [key for key in order if key == PERSON]
    step = min((_RIGHT - _LEFT) / max(len(keys) - 1, 1), 120)
    person = "P" if lang == "en" else "人"
    lanes: list[Lane] = []
    for i, key in enumerate(keys):
        letter = person if key == PERSON else _LETTERS[i] if i < len(_LETTERS) else str(i + 1)
        lanes.append(Lane(key, letter, *order[key], _LEFT + i * step))
    return lanes


def as_text(timeline: Timeline, lang: str = "zh") -> list[str]:
    """Return the timeline as lines of text with box-drawing characters."""
    lanes = timeline.lanes
    lines = []
    for lane in lanes:
        place = f"（{lane.place}）" if lane.place and lang == "zh" else ""
        place = f" ({lane.place})" if lane.place and lang == "en" else place
        known = "" if lane.key in (PERSON, lane.name) else f" [{lane.key}]"
        lines.append(f"  {_wide(lane.letter)} {lane.name}{known}{place}")
    lines.append("")
    lines.append(" " * 20 + "".join(f"{_wide(lane.letter)}  " for lane in lanes).rstrip())
    for row in timeline.rows:
        if row.omitted:
            gap = f"{row.omitted} events left out" if lang == "en" else f"略去 {row.omitted} 个事件"
            lines.append(" " * 20 + _track(len(lanes), -1, -1, "┊") + f"  … {gap}")
            continue
        mark = "▶" if row.accused else " "
        track = _track(len(lanes), row.source, row.target, "│")
        words = f"{row.label}  {row.detail}".rstrip()
        lines.append(f"{mark} {row.time:<16}  {track}  {words}")
    return lines


def _wide(letter: str) -> str:
    """Pad a lane's letter to two columns (a Chinese character fills two by itself)."""
    return letter if not letter.isascii() else f"{letter} "[:2]


def _track(count: int, source: int, target: int, rail: str) -> str:
    """Return the lanes of one row: rails four columns apart, and an arrow between two of them."""
    cells = [" "] * max(4 * count - 3, 0)
    for i in range(count):
        cells[4 * i] = rail
    present = [i for i in (source, target) if i >= 0]
    if len(present) == 2 and source != target:
        low, high = 4 * min(present), 4 * max(present)
        for column in range(low + 1, high):
            cells[column] = "┼" if column % 4 == 0 else "─"
        cells[4 * source] = "●"
        cells[4 * target] = "▶" if target > source else "◀"
    elif present:
        cells[4 * present[0]] = "●"
    return "".join(cells)
