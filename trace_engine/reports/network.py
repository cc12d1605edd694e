"""The small graph of a finding: enterprises on a circle, an arrow for each flow. SVG and text.

Input is ``evidence["flow"]`` of a finding: edges as ``evidence.flows`` makes them, each a mapping
with ``source, target, source_name, target_name, source_region, target_region, packs, events,
first, last`` (any may be missing or null).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_engine.reports.timeline import PERSON, place_name

WIDTH = 960
MOST_NODES = 16
_RADIUS_X, _RADIUS_Y = 300, 150
_NODE = 13  # radius of a node


@dataclass(frozen=True, slots=True)
class Node:
    """One enterprise (or "persons")."""

    key: str
    letter: str
    name: str
    place: str
    x: float
    y: float
    subject: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """One flow, drawn as a curve: ``path`` is the SVG path, (``x``, ``y``) where its label stands."""

    source: int
    target: int
    path: str
    head: str
    x: float
    y: float
    label: str
    width: float
    crosses: bool


@dataclass(frozen=True, slots=True)
class Network:
    """A graph ready to be drawn."""

    nodes: list[Node] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    width: int = WIDTH
    height: int = 2 * _RADIUS_Y + 90
    omitted: int = 0  # flows between enterprises that are not drawn


def flow_of(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the edges of a finding's small graph, without numbers of packs.

    A finding names a sample of the events it rests on: what they hold is less than what went.
    """
    flow = evidence.get("flow")
    edges = [edge for edge in flow if isinstance(edge, dict)] if isinstance(flow, list) else []
    return [{name: value for name, value in edge.items() if name != "packs"} for edge in edges]


def build(flow: Sequence[Mapping[str, Any]], subject: str = "", lang: str = "zh") -> Network:
    """Lay out ``flow`` on an ellipse: at most ``MOST_NODES`` parties, those met first."""
    order: dict[str, tuple[str, str]] = {}
    ends: list[tuple[str, str]] = []
    for edge in flow:
        source = str(edge.get("source") or "")
        target = str(edge.get("target") or "") or PERSON
        for key, side in ((source, "source"), (target, "target")):
            if key == PERSON:
                order.setdefault(key, ("persons" if lang == "en" else "消费者/患者", ""))
            elif key:
                name = str(edge.get(f"{side}_name") or key)
                order.setdefault(key, (name, place_name(edge.get(f"{side}_region"), lang)))
        ends.append((source, target))
    keys = list(order)
    if subject in order:  # the answerable party stands first, at the left
        keys.remove(subject)
        keys.insert(0, subject)
    keys = keys[:MOST_NODES]
    middle_x, middle_y = WIDTH / 2, _RADIUS_Y + 45
    nodes = []
    for i, key in enumerate(keys):
        angle = math.pi + 2 * math.pi * i / len(keys)
        nodes.append(
            Node(
                key,
                _letter(i),
                *order[key],
                round(middle_x + _RADIUS_X * math.cos(angle), 1),
                round(middle_y + _RADIUS_Y * math.sin(angle), 1),
                key == subject,
            )
        )
    place = {key: i for i, key in enumerate(keys)}
    drawn = [
        (edge, place[a], place[b])
        for edge, (a, b) in zip(flow, ends, strict=True)
        if a in place and b in place and a != b
    ]
    most = max((_packs(edge) for edge, _, _ in drawn), default=1)
    arrows = [_arrow(edge, a, b, nodes, most, lang) for edge, a, b in drawn]
    return Network(nodes, arrows, omitted=len(flow) - len(drawn))


def _letter(index: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[index] if index < len(letters) else str(index + 1)


def _packs(edge: Mapping[str, Any]) -> int:
    value = edge.get("packs")
    return value if isinstance(value, int) and value > 0 else 0


def _arrow(
    edge: Mapping[str, Any], a: int, b: int, nodes: Sequence[Node], most: int, lang: str
) -> Arrow:
    """Bend the way from a to b to the left of its direction: there and back lie apart."""
    one, two = nodes[a], nodes[b]
    dx, dy = two.x - one.x, two.y - one.y
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    bend = 0.12 * length + 10
    cx, cy = (one.x + two.x) / 2 + uy * bend, (one.y + two.y) / 2 - ux * bend
    start_x, start_y = _off(one, cx, cy, _NODE)
    end_x, end_y = _off(two, cx, cy, _NODE + 9)
    tip_x, tip_y = _off(two, cx, cy, _NODE + 1)
    back = math.hypot(tip_x - end_x, tip_y - end_y) or 1.0
    vx, vy = (tip_x - end_x) / back, (tip_y - end_y) / back
    head = (
        f"M{tip_x:.1f} {tip_y:.1f}L{end_x - 4.5 * vy:.1f} {end_y + 4.5 * vx:.1f}"
        f"L{end_x + 4.5 * vy:.1f} {end_y - 4.5 * vx:.1f}z"
    )
    packs = _packs(edge)
    unit = (" pack" if packs == 1 else " packs") if lang == "en" else "盒"
    day = str(edge.get("first") or "")
    told = [f"{packs:,}{unit}"] if packs else []
    told += [day[5:]] if len(day) == 10 else []
    from_province = str(edge.get("source_region") or "")[:2]
    to_province = str(edge.get("target_region") or "")[:2]
    return Arrow(
        source=a,
        target=b,
        path=f"M{start_x:.1f} {start_y:.1f}Q{cx:.1f} {cy:.1f} {end_x:.1f} {end_y:.1f}",
        head=head,
        x=round((one.x + 2 * cx + two.x) / 4, 1),
        y=round((one.y + 2 * cy + two.y) / 4 + 4, 1),
        label=" · ".join(told),
        width=round(1.5 + 2.5 * packs / most, 1) if most else 1.5,
        crosses=bool(from_province and to_province and from_province != to_province),
    )


def _off(node: Node, x: float, y: float, distance: float) -> tuple[float, float]:
    """Return the point ``distance`` away from a node towards (x, y)."""
    dx, dy = x - node.x, y - node.y
    length = math.hypot(dx, dy) or 1.0
    return node.x + dx / length * distance, node.y + dy / length * distance


def as_text(network: Network, lang: str = "zh") -> list[str]:
    """Return the graph as lines of text: its parties, then an arrow a line."""
    lines = []
    for node in network.nodes:
        place = ""
        if node.place:
            place = f" ({node.place})" if lang == "en" else f"（{node.place}）"
        known = "" if node.key in (PERSON, node.name) else f" [{node.key}]"
        lines.append(f"{'▶' if node.subject else ' '} {node.letter}  {node.name}{known}{place}")
    lines.append("")
    for arrow in network.arrows:
        crosses = ""
        if arrow.crosses:
            crosses = " · crosses province" if lang == "en" else " · 跨省"
        one, two = network.nodes[arrow.source].letter, network.nodes[arrow.target].letter
        lines.append(f"  {one} ──▶ {two}  {arrow.label}{crosses}")
    if network.omitted:
        lines.append(
            f"  … {network.omitted} flows left out"
            if lang == "en"
            else f"  … 略去 {network.omitted} 条"
        )
    return lines
