"""Detectors over the supply graph in plain Python: bills as edges, and every way tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.reference.events import DAY, Event
from tests.reference.history import History, RawHit
from trace_engine.core import signals as s

RETAIL_LEVEL = {"pharmacy", "chain_store", "medical", "public_hospital"}


@dataclass
class BillEdge:
    """Trade of one day under one bill."""

    giver: str
    receiver: str
    drug: str
    dated: bool
    events: list[Event] = field(default_factory=list)

    @property
    def last(self) -> Event:
        return max(self.events, key=lambda e: (e.time, e.key))

    @property
    def packs(self) -> int:
        return sum(max(e.quantity, 1) for e in self.events)

    @property
    def order(self) -> tuple[int, int]:
        return (self.last.time, self.last.key)


def trade(history: History) -> list[BillEdge]:
    """Return the bill edges of hops between strangers, by time."""
    found: dict[tuple[object, ...], BillEdge] = {}
    for row in history:
        e = row.event
        if not row.has(s.HOP) or e.giver is None or e.receiver is None or e.drug is None:
            continue
        if history.world.related(e.giver, e.receiver):
            continue
        key = (e.giver, e.receiver, e.drug, e.bill, e.day, e.date_only)
        edge = found.setdefault(key, BillEdge(e.giver, e.receiver, e.drug, e.date_only))
        edge.events.append(e)
    return sorted(found.values(), key=lambda edge: edge.order)


def surely_after(later: BillEdge, earlier: BillEdge) -> bool:
    a, b = earlier.last.time, later.last.time
    return b // DAY > a // DAY if earlier.dated or later.dated else b > a


def circular_trade(history: History) -> list[RawHit]:
    p = history.p("circular_trade")
    edges = trade(history)
    hits = []

    def ways(way: list[BillEdge]) -> Iterator[list[BillEdge]]:
        """Lengthen a way backwards, edge by edge, until it begins where it ends."""
        if way[0].giver == way[-1].receiver:
            yield way
            return
        visited = {edge.receiver for edge in way} | {way[0].giver}
        for edge in edges if len(way) < p.enterprises else ():
            if edge.receiver != way[0].giver or edge.drug != way[0].drug:
                continue
            if edge.giver in visited - {way[-1].receiver} or not surely_after(way[0], edge):
                continue
            yield from ways([edge, *way])

    for closing in edges:
        rings = []
        for way in ways([closing]):
            packs = [edge.packs for edge in way]
            end = closing.last.time + (DAY - 1 if closing.dated else 0)
            if (
                len(way) >= p.fewest
                and end - way[0].last.time <= p.days * DAY
                and min(packs) >= p.ratio * max(packs)
            ):
                share = min(packs) / max(packs)
                rings.append((-share, len(way), [edge.order for edge in way]))
        if rings:
            hits.append(
                RawHit(
                    "circular_trade",
                    closing.last.event_id,
                    -min(rings)[0],
                    closing.giver,
                    closing.receiver,
                    closing.last.time,
                )
            )
    return hits


def fan_in_collection(history: History) -> list[RawHit]:
    p = history.p("fan_in_collection")
    by_key: defaultdict[tuple[str, str], list[BillEdge]] = defaultdict(list)
    for edge in trade(history):
        if history.world.kind(edge.giver) in RETAIL_LEVEL:
            by_key[edge.receiver, edge.drug].append(edge)
    hits = []
    for (buyer, _), edges in by_key.items():
        peak, peak_day = 0, 0
        for day in sorted({edge.last.day for edge in edges}):
            window = [edge for edge in edges if day - p.days < edge.last.day <= day]
            sources = {
                history.world.text(edge.giver, "group_id") or (edge.giver,) for edge in window
            }
            if peak_day < day - p.days:
                peak = 0
            fires = len(sources) >= p.sources and len(sources) > peak
            peak, peak_day = (len(sources) if len(sources) >= p.sources else 0), day
            if fires:
                last = max((edge for edge in window if edge.last.day == day), key=lambda e: e.order)
                hits.append(
                    RawHit(
                        "fan_in_collection",
                        last.last.event_id,
                        float(len(sources)),
                        buyer,
                        None,
                        last.last.time,
                    )
                )
    return hits


DETECTORS: dict[str, Callable[[History], list[RawHit]]] = {
    "circular_trade": circular_trade,
    "fan_in_collection": fan_in_collection,
}
