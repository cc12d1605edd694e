"""Split purchases, cold chains and flows between provinces, from the definitions in their modules."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, defaultdict
from statistics import NormalDist
from typing import Any

from tests.reference.events import DAY, Event
from tests.reference.history import History, RawHit
from tests.reference.prescriptions import gaps, new_sale_events, purchase
from tests.reference.quotas import Sale, restricted_sales, take_back, taken_back_by_day
from trace_engine.core import signals as s
from trace_engine.events.kinds import Role

# ---------------------------------------------------------------- split_purchase

LINKS = ("contact", "address", "buyer_device")


def links_of(event: Event) -> set[tuple[str, object]]:
    return {(name, getattr(event, name)) for name in LINKS if getattr(event, name) is not None}


def split_purchase(history: History) -> list[RawHit]:
    p = history.p("split_purchase")
    quotas = {
        name: min(quota["windows"])[1]
        for name, quota in history.lists.get("quotas", {}).items()
        if quota["windows"]
    }
    by_class = {name: restricted_sales(history, name, False) for name in quotas}
    restricted = {
        sale.event.key for days in by_class.values() for sales in days.values() for sale in sales
    }
    uses = [
        event
        for event in new_sale_events(history)
        if event.key not in restricted and event.buyer is not None
    ]
    hits = []
    for name, limit in quotas.items():
        remembered: list[Sale] = []
        returns = taken_back_by_day(history)
        for day in sorted({*by_class[name], *returns}):
            today = [sale for sale in by_class[name].get(day, []) if links_of(sale.event)]
            remembered = [x for x in remembered if x.event.time >= (day - 1) * DAY] + today
            for event in returns.get(day, []):
                take_back(event, remembered)
            known: defaultdict[object, set[object]] = defaultdict(set)
            for event in uses:
                if day - p.reference_days <= event.day < day:
                    for _, value in links_of(event):
                        known[value].add(event.buyer)
            shared = {value for value, buyers in known.items() if len(buyers) > p.household}
            hits += split_on(day, today, remembered, shared, limit, p)
    return hits


def split_on(
    day: int, today: list[Sale], remembered: list[Sale], shared: set[object], limit: int, p: Any
) -> list[RawHit]:
    hits = []
    moments = sorted({x.event.time for x in today if not x.event.date_only})
    if any(x.event.date_only for x in today):
        moments.append((day + 1) * DAY - 1)
    for moment in moments:
        whole_day = moment == (day + 1) * DAY - 1 and moment not in {x.event.time for x in today}
        if whole_day:
            seen = [x for x in today if not x.gone(moment)]
            now = [x for x in seen if x.event.date_only]
        else:
            seen = [
                x
                for x in remembered
                if not x.event.date_only
                and moment - DAY < x.event.time <= moment
                and not x.gone(moment)
            ]
            now = [x for x in seen if x.event.time == moment]
        before = [g for g in linked(without(seen, now), shared, p) if counts(g, limit, p)]
        for group in linked(seen, shared, p):
            judged = [x for x in group if x in now]
            if not judged or not counts(group, limit, p):
                continue
            heights = [height(g, limit) for g in before if any(x in group for x in g)]
            if max(heights, default=0) < height(group, limit):
                lead = min(judged, key=lambda x: x.event.key).event
                time = day * DAY if whole_day else moment
                packs = float(sum(x.packs for x in group))
                hits.append(RawHit("split_purchase", lead.event_id, packs, lead.giver, None, time))
    return hits


def without(sales: list[Sale], some: list[Sale]) -> list[Sale]:
    return [x for x in sales if x not in some]


def counts(group: list[Sale], limit: int, p: Any) -> bool:
    one_buyer = group[0].event.buyer is not None and len({x.event.buyer for x in group}) == 1
    orders = {purchase(x.event) for x in group}
    return sum(x.packs for x in group) > limit and len(orders) >= p.orders and not one_buyer


def height(group: list[Sale], limit: int) -> int:
    return (sum(x.packs for x in group) - 1) // limit


def linked(sales: list[Sale], shared: set[object], p: Any) -> list[list[Sale]]:
    """Return the groups of sales that share a purchase, a buyer or a link, through others too."""
    residents: defaultdict[object, set[object]] = defaultdict(set)
    for x in sales:
        if x.event.address is not None and x.event.buyer is not None:
            residents[x.event.address].add(x.event.buyer)

    def words(x: Sale) -> set[tuple[str, object]]:
        found: set[tuple[str, object]] = {("purchase", purchase(x.event))}
        if x.event.buyer is not None:
            found.add(("buyer", x.event.buyer))
        for name, value in links_of(x.event):
            crowd = name == "address" and len(residents[value]) > p.household
            if value not in shared and not crowd:
                found.add((name, value))
        return found

    groups: list[tuple[set[tuple[str, object]], list[Sale]]] = []
    for x in sales:
        mine, members = words(x), [x]
        for other in [g for g in groups if g[0] & mine]:
            groups.remove(other)
            mine |= other[0]
            members = other[1] + members
        groups.append((mine, members))
    return [members for _, members in groups]


# ---------------------------------------------------------------- cold_chain_gap

MOVES = (Role.SHIP, Role.RECEIVE, Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE)


def cold_chain_gap(history: History) -> list[RawHit]:
    p = history.p("cold_chain_gap")
    cold = [
        row.event
        for row in history.by_time()
        if "cold_chain" in history.world.classes(row.event.drug)
        and row.event.role in (*MOVES, Role.PERSON_SALE)
    ]
    low, high = round((p.low - p.tolerance) * 1000), round((p.high + p.tolerance) * 1000)
    hits = []
    for event in cold:
        t = event.temperature
        if t is None or not -100_000 <= t <= 60_000 or t < p.frozen_below * 1000:
            continue
        if not low <= t <= high:
            hits.append(
                RawHit(
                    "cold_chain_gap",
                    event.event_id,
                    1.0,
                    event.giver or event.actor,
                    event.receiver,
                    event.time,
                )
            )

    def channel(event: Event) -> object:
        return event.actor, event.kind

    def bill(event: Event) -> object:
        return event.key if event.bill is None else ("bill", event.bill)

    moves = [event for event in cold if event.role in MOVES]
    found = gaps(moves, p, channel, channel, bill, lambda e: e.temperature is not None)
    for event, bare in found:
        hits.append(
            RawHit(
                "cold_chain_gap",
                event.event_id,
                float(bare),
                event.actor,
                event.receiver,
                event.time,
            )
        )
    return hits


# ---------------------------------------------------------------- flow_shift


def month_of(day: int) -> int:
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    return date.year * 12 + date.month - 1


def begin_of(month: int) -> int:
    return (dt.date(month // 12, month % 12 + 1, 1) - dt.date(1970, 1, 1)).days * DAY


Consignment = tuple[Any, str | None, str]  # customer, drug, province


def destinations(history: History) -> list[tuple[Event, object, str]]:
    """Return shipments and online sales with their customer and province, by time."""
    world = history.world
    found: list[tuple[Event, object, str]] = []
    for row in history.by_time():
        event = row.event
        stated = (event.to_region or "")[:2]
        if event.role == Role.SHIP and event.giver and event.receiver:
            province = (world.region(event.receiver) or "")[:2] or stated
            if not world.related(event.giver, event.receiver) and province:
                found.append((event, event.receiver, province))
        elif event.role == Role.PERSON_SALE and row.has(s.NEW_SALE) and event.online:
            person = ("purchase", purchase(event)) if event.buyer is None else event.buyer
            if event.giver and stated:
                found.append((event, ("person", person), stated))
    return found


def flow_shift(history: History) -> list[RawHit]:
    p = history.p("flow_shift")
    events = destinations(history)
    firsts: dict[object, tuple[int, Event, Consignment]] = {}
    for event, customer, province in events:  # by time and key: the first of each consignment
        key = (event.giver, customer, event.drug, province, event.day)
        firsts.setdefault(key, (month_of(event.day), event, (customer, event.drug, province)))
    months = sorted({month for month, _, _ in firsts.values()})
    hits = []
    for month in months[:-1]:
        if begin_of(month - 3) + 7 * DAY < history.data_begin:
            continue
        for giver in sorted({str(e.giver) for m, e, _ in firsts.values() if m == month}):
            mine = [(m, e, c) for m, e, c in firsts.values() if e.giver == giver]
            now = [(e, c) for m, e, c in mine if m == month]
            then = [c for m, _, c in mine if month - 3 <= m < month]
            found = shift(now, then, p)
            if found is not None:
                lead, divergence = found
                hits.append(
                    RawHit(
                        "flow_shift",
                        lead.event_id,
                        divergence,
                        giver,
                        lead.receiver,
                        begin_of(month + 1),
                    )
                )
    return hits


def shift(
    now: list[tuple[Event, Consignment]], then: list[Consignment], p: Any
) -> tuple[Event, float] | None:
    result = compare([c for _, c in now], then, p)
    if result is None:
        return None
    divergence, shifted, gain, drugs, sizes = result
    if not shifted or min(sizes) < p.volume:
        return None
    now = [(e, c) for e, c in now if c[1] in drugs]
    grown = [c for _, c in now if gain[c[2]] > 0]
    for part in (0, 1):
        if part == 1 and len(drugs) == 1:
            continue
        tally = Counter(c[part] for c in grown)
        # Of equally common ones the first: a counter keeps the order of arrival.
        most = max(tally, key=lambda mark: tally[mark])
        rest = compare(
            [c for _, c in now if c[part] != most], [c for c in then if c[part] != most], p
        )
        if rest is None or not rest[1]:
            return None
    target = min(gain, key=lambda province: (-gain[province], province))
    lead = next(e for e, c in now if c[2] == target)
    return lead, divergence


def compare(
    now: list[Consignment], then: list[Consignment], p: Any
) -> tuple[float, bool, dict[str, float], set[str | None], tuple[int, int]] | None:
    drugs = {c[1] for c in now} & {c[1] for c in then}
    now, then = [c for c in now if c[1] in drugs], [c for c in then if c[1] in drugs]
    if not drugs:
        return None
    a, b = Counter(c[2] for c in now), Counter(c[2] for c in then)
    provinces = {*a, *b}
    share = {x: (a[x] / len(now), b[x] / len(then)) for x in provinces}
    divergence = 0.0
    for x, y in share.values():
        middle = (x + y) / 2
        divergence += sum(z * math.log2(z / middle) / 2 for z in (x, y) if z > 0)
    freedom = len(provinces) - 1
    if freedom == 0:
        return divergence, False, {}, drugs, (len(now), len(then))
    spread = 1 / len({c[0] for c in now}) + 1 / len({c[0] for c in then})
    unit = spread / (8 * math.log(2))
    root = 2 / (9 * freedom)
    z = NormalDist().inv_cdf(1 - p.max_chance)
    critical = freedom * max(0.0, 1 - root + z * math.sqrt(root)) ** 3 * unit
    shifted = divergence - freedom * unit >= p.divergence and divergence >= critical
    gain = {x: first - second for x, (first, second) in share.items()}
    return divergence, shifted, gain, drugs, (len(now), len(then))


DETECTORS = {
    "split_purchase": split_purchase,
    "cold_chain_gap": cold_chain_gap,
    "flow_shift": flow_shift,
}
