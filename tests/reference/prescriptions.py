"""Prescriptions, real names, pharmacists, from the definitions in their modules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from typing import Any

from tests.reference.events import HOUR, MINUTE, SECOND, Event
from tests.reference.history import History, RawHit
from tests.reference.world import World
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role

NEVER = -(10**9)


# ---------------------------------------------------------------- sales over the counter and online


def new_sale_events(history: History) -> list[Event]:
    return [
        row.event
        for row in history.by_time()
        if row.event.role == Role.PERSON_SALE and row.has(s.NEW_SALE)
    ]


def retail_events(history: History) -> list[Event]:
    """Return new sales to persons by enterprises that are no medical institutions."""
    world = history.world
    return [
        event
        for event in new_sale_events(history)
        if event.kind != EventKind.VACCINATION
        and world.kind(event.giver) not in ("", "medical", "public_hospital")
    ]


def on_prescription_only(history: History, events: Iterable[Event]) -> list[Event]:
    return [event for event in events if "rx" in history.world.classes(event.drug)]


def house(world: World, party: str | None) -> str:
    """Return the group of an enterprise, or itself."""
    group = world.text(party, "group_id")
    return f"group {group}" if group else f"alone {party}"


def purchase(event: Event) -> object:
    if event.order is not None:
        return ("order", event.order)
    if event.bill is not None:
        return ("bill", event.bill)
    return ("event", event.key)


def at(event: Event) -> tuple[int, int]:
    return event.time, event.key


def by_day(events: Iterable[Event]) -> dict[int, list[Event]]:
    days: defaultdict[int, list[Event]] = defaultdict(list)
    for event in sorted(events, key=at):
        days[event.day].append(event)
    return dict(sorted(days.items()))


def raw(detector: str, event: Event, observed: float, other: str | None = None) -> RawHit:
    return RawHit(detector, event.event_id, float(observed), event.giver, other, event.time)


# ---------------------------------------------------------------- what a source otherwise states


def tail(tries: int, successes: int, chance: float) -> float:
    """Return the chance of at least so many successes."""
    return math.fsum(
        math.comb(tries, k) * chance**k * (1 - chance) ** (tries - k)
        for k in range(successes, tries + 1)
    )


def gaps(
    events: Iterable[Event],
    p: Any,
    channel: Callable[[Event], object],
    source: Callable[[Event], object],
    unit: Callable[[Event], object],
    states: Callable[[Event], bool],
) -> list[tuple[Event, int]]:
    """Return the first events of bare purchases that fire, and how many were bare in the window."""
    kept: list[tuple[int, object, object, bool]] = []  # day, channel, source, bare
    fired = []
    for day, today in by_day(events).items():
        purchases: dict[tuple[object, object], list[Event]] = {}
        for event in today:
            purchases.setdefault((channel(event), unit(event)), []).append(event)
        bare = []
        for (place, _), some in purchases.items():
            empty = not any(states(event) for event in some)
            kept.append((day, place, source(some[0]), empty))
            if empty:
                bare.append(some[0])
        for first in bare:
            window = [k for k in kept if k[1] == channel(first) and day - p.window_days < k[0]]
            last = day - p.window_days
            usual = [
                k for k in kept if k[2] == source(first) and last - p.reference_days < k[0] <= last
            ]
            n, m = len(window), sum(k[3] for k in window)
            total, missing = len(usual), sum(k[3] for k in usual)
            if total < p.min_sales or missing > (1 - p.min_share) * total:
                continue
            if tail(n, m, (missing + 1) / (total + 2)) < p.max_chance:
                fired.append((first, m))
    return fired


def _channel(event: Event) -> object:
    return (event.giver, event.platform if event.online else None, event.online)


def _source(event: Event) -> object:
    if event.online and event.platform:
        return ("platform", event.platform)
    return _channel(event)


def no_prescription(history: History) -> list[RawHit]:
    events = on_prescription_only(history, retail_events(history))
    p = history.p("no_prescription")
    found = gaps(events, p, _channel, _source, purchase, lambda e: e.prescription)
    return [raw("no_prescription", event, m) for event, m in found]


def no_real_name(history: History) -> list[RawHit]:
    events = [e for e in on_prescription_only(history, retail_events(history)) if e.online]
    p = history.p("no_real_name")
    found = gaps(events, p, _channel, _source, purchase, lambda e: e.buyer is not None)
    return [raw("no_real_name", event, m) for event, m in found]


# ---------------------------------------------------------------- one prescription, many dispensings


class Dispensing:
    """Sales on one prescription that belong together."""

    def __init__(self, first_day: int, sales: list[Event]) -> None:
        self.first_day = first_day
        self.sales = sales

    def stated(self, history: History, name: str) -> set[object]:
        if name == "house":
            return {house(history.world, e.giver) for e in self.sales}
        return {getattr(e, name) for e in self.sales} - {None}


def dispensings(history: History, events: list[Event], day: int, p: Any) -> list[Dispensing]:
    """Return the dispensings of one number in the window that ends with ``day``."""
    window = [e for e in events if day - p.window_days < e.day <= day]
    found: list[Dispensing] = []
    for its_day, today in by_day(window).items():
        lots = [[event] for event in today]
        while pair := next(
            (
                (a, b)
                for a, b in combinations(lots, 2)
                if alike(history, Dispensing(0, a), Dispensing(0, b), "order", "bill", "house")
            ),
            None,
        ):
            a, b = pair
            lots = [lot for lot in lots if lot is not a and lot is not b] + [a + b]
        lots.sort(key=lambda lot: min(map(at, lot)))
        earlier = list(found)
        for lot in lots:
            new = Dispensing(its_day, lot)
            for old in earlier:
                near = its_day - old.first_day <= p.same_days
                if alike(history, old, new, "order", "bill") or (
                    near and alike(history, old, new, "house")
                ):
                    old.sales += lot
                    break
            else:
                found.append(new)
    return found


def alike(history: History, a: Dispensing, b: Dispensing, *names: str) -> bool:
    return any(a.stated(history, name) & b.stated(history, name) for name in names)


def ambiguous(history: History, a: Dispensing, b: Dispensing, p: Any) -> bool:
    doctors = a.stated(history, "doctor"), b.stated(history, "doctor")
    if all(doctors) and not doctors[0] & doctors[1]:
        return True
    apart = abs(a.first_day - b.first_day) > p.same_days
    return apart and not alike(history, a, b, "drug", "buyer")


def prescription_reuse(history: History) -> list[RawHit]:
    p = history.p("prescription_reuse")
    by_number: defaultdict[object, list[Event]] = defaultdict(list)
    for event in retail_events(history):
        if event.rx is not None:
            by_number[event.rx].append(event)
    hits = []
    for events in by_number.values():
        for day in sorted({e.day for e in events}):
            every = dispensings(history, events, day, p)
            if any(ambiguous(history, a, b, p) for a, b in combinations(every, 2)):
                continue
            for i, now in enumerate(every):
                linked = [
                    e
                    for e in every[:i]
                    if alike(history, e, now, "drug")
                    and alike(history, e, now, "house", "buyer", "doctor")
                ]
                if now.first_day == day and reused(history, now, linked, p):
                    lead = min(now.sales, key=lambda e: (-e.time, e.key))
                    hits.append(raw("prescription_reuse", lead, len(linked) + 1))
    return hits


def reused(history: History, now: Dispensing, linked: list[Dispensing], p: Any) -> bool:
    buyers = now.stated(history, "buyer")
    for e in linked:
        its_buyers = e.stated(history, "buyer")
        by_doctor = not (buyers and its_buyers) and alike(history, e, now, "doctor")
        if not alike(history, e, now, "house") and (buyers & its_buyers or by_doctor):
            return True
    everybody = buyers.union(*(e.stated(history, "buyer") for e in linked))
    return bool(linked and len(everybody) >= p.buyers) or len(linked) + 1 > p.dispensings


# ---------------------------------------------------------------- how many in an hour


def highest_rate(sales: list[Event], p: Any) -> tuple[int, Event]:
    """Return the highest number of prescriptions in an hour, and the sale that reached it first."""
    numbers: set[object] = set()
    slots: set[int] = set()
    counted: list[Event] = []
    for event in sorted(sales, key=at):
        if event.rx in numbers:
            continue
        numbers.add(event.rx)
        slot = event.time // (p.slot_seconds * SECOND)
        if slot not in slots:
            slots.add(slot)
            counted.append(event)
    best, lead = 0, sales[0]
    for event in counted:
        rate = sum(event.time - HOUR < other.time <= event.time for other in counted)
        if rate > best:
            best, lead = rate, event
    return best, lead


def prescription_mill(history: History) -> list[RawHit]:
    p = history.p("prescription_mill")
    world = history.world
    last: dict[object, tuple[int, int]] = {}
    hits = []
    for day, today in by_day(retail_events(history)).items():
        of_doctor: defaultdict[object, list[Event]] = defaultdict(list)
        for event in today:
            if event.rx is not None and event.doctor is not None and not event.date_only:
                of_doctor[event.doctor, house(world, event.giver)].append(event)
        for key, sales in of_doctor.items():
            rate, lead = highest_rate(sales, p)
            fired, before = last.get(key, (NEVER, 0))
            if rate > p.per_hour and (day - fired > p.again_days or rate > before):
                last[key] = (day, rate)
                hits.append(raw("prescription_mill", lead, rate))
    return hits


# ---------------------------------------------------------------- one pharmacist, many shops


def pharmacist_overload(history: History) -> list[RawHit]:
    p = history.p("pharmacist_overload")
    sales = [e for e in retail_events(history) if not e.online and e.pharmacist is not None]
    last: dict[tuple[object, object], int] = {}
    hits = []
    for day, today in by_day(sales).items():
        for name in sorted({str(e.pharmacist) for e in today}):
            mine = [e for e in today if e.pharmacist == name]
            for lead, observed, other in workplaces(history.world, mine, p):
                key = (name, lead.giver)
                if day - last.get(key, NEVER) > p.again_days:
                    last[key] = day
                    hits.append(raw("pharmacist_overload", lead, observed, other))
    return hits


def workplaces(world: World, mine: list[Event], p: Any) -> list[tuple[Event, float, str | None]]:
    """Return what fires of one pharmacist's day: event, observed value, counterparty."""
    first_of: dict[object, Event] = {}
    for event in mine:
        first_of.setdefault((house(world, event.giver), purchase(event)), event)
    in_house: defaultdict[str, list[Event]] = defaultdict(list)
    for event in first_of.values():
        in_house[house(world, event.giver)].append(event)
    employing = sorted(
        (some for some in in_house.values() if len(some) >= p.min_sales),
        key=lambda some: at(some[0]),
    )
    found: list[tuple[Event, float, str | None]] = []
    for k, here in enumerate(employing):
        for there in employing[:k]:
            timed = sorted((e for e in [*here, *there] if not e.date_only), key=at)
            switches = sum(
                (a in here) != (b in here) and b.time - a.time < p.travel_minutes * MINUTE
                for a, b in pairwise(timed)
            )
            regions = world.region(here[0].giver), world.region(there[0].giver)
            km = world.distance_km(*regions) if all(regions) else None  # type: ignore[arg-type]
            far = km is not None and km >= p.far_km
            if switches >= p.min_switches or far or k + 1 >= p.many:
                lead = min(here, key=lambda e: (-e.time, e.key))
                found.append((lead, len(here), there[0].giver))
                break
    if len({e.giver for e in mine}) == 1:
        numbered = [e for e in mine if e.rx is not None and not e.date_only]
        rate, lead = highest_rate(numbered, p) if numbered else (0, mine[0])
        if rate > p.per_hour:
            found.append((lead, rate, None))
    return found


DETECTORS = {
    "no_prescription": no_prescription,
    "no_real_name": no_real_name,
    "prescription_reuse": prescription_reuse,
    "prescription_mill": prescription_mill,
    "pharmacist_overload": pharmacist_overload,
}
