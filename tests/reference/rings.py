"""Detectors over the supply graph in plain Python: bills as edges, and every way tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from tests.reference.categories import agree, dispatch_places
from tests.reference.events import DAY, MINUTE, Event
from tests.reference.history import History, RawHit
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role

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


def pass_through(history: History) -> list[RawHit]:
    p, world = history.p("pass_through"), history.world
    receipts: defaultdict[tuple[object, ...], list[Event]] = defaultdict(list)
    dispatches: defaultdict[tuple[object, ...], list[Event]] = defaultdict(list)
    passed: defaultdict[tuple[object, ...], list[Event]] = defaultdict(list)

    def booked(e: Event) -> bool:
        return (
            e.role == Role.RECEIVE
            and e.receiver is not None
            and e.bill is not None
            and not e.date_only
            and world.kind(e.receiver) not in RETAIL_LEVEL
        )

    for row in history:
        e, before = row.event, row.previous
        if booked(e):
            receipts[e.receiver, e.bill, e.day].append(e)
        if (
            e.role != Role.SHIP
            or e.kind == EventKind.DIRECT_SHIPMENT
            or e.from_region is None
            or e.receiver is None
            or e.giver is None
            or e.bill is None
            or e.date_only
        ):
            continue
        places = dispatch_places(world, e.giver)
        if not places or any(agree(e.from_region, place, "city") for place in places):
            continue
        dispatches[e.giver, e.bill, e.day].append(e)
        if (
            before is None
            or not booked(before)
            or before.receiver != e.giver
            or before.giver is None
            or before.day != e.day
            or not 0 <= e.time - before.time < p.minutes * MINUTE
            or e.from_region not in (before.from_region, world.region(before.giver))
        ):
            continue
        three = (before.giver, e.giver, e.receiver)
        if any(world.related(a, b) for a, b in combinations(three, 2)):
            continue
        passed[(*three, before.bill, e.bill, e.day)].append(e)
    hits = []
    for (_, through, buyer, bill_in, bill_out, day), events in passed.items():
        common = len(events)
        either = (
            len(receipts[through, bill_in, day]) + len(dispatches[through, bill_out, day]) - common
        )
        if common >= p.codes and common / either >= p.likeness:
            lead = max(events, key=lambda e: (e.time, e.key))
            hits.append(
                RawHit(
                    "pass_through",
                    lead.event_id,
                    common / either,
                    str(through),
                    str(buyer),
                    lead.time,
                )
            )
    return hits


DETECTORS: dict[str, Callable[[History], list[RawHit]]] = {
    "circular_trade": circular_trade,
    "fan_in_collection": fan_in_collection,
    "pass_through": pass_through,
}
