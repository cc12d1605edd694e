"""Detectors of shops, territories, storage and platforms, from the definitions in their modules."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable

from tests.reference.categories import banned_online
from tests.reference.events import Event
from tests.reference.history import History, RawHit
from tests.reference.licences import FOR_EVER, Wrong, date, days_of, one_group, raw, stand
from tests.reference.world import World
from trace_engine.core import signals as s
from trace_engine.core.workdays import add_working_days
from trace_engine.events.kinds import Role
from trace_engine.registry.regions import load_regions

# ---------------------------------------------------------------- shops


def kin(world: World, a: str, b: str) -> bool:
    return a == b or one_group(world, a, b)


def channel_problem(history: History, event: Event) -> str | None:
    """Return what is wrong with the channel of an online sale, None if nothing is."""
    world, seller = history.world, event.giver
    assert seller is not None
    low, high = days_of(history, event)
    if event.shop is None:
        theirs = [
            row
            for row in world.shop_rows
            if world.known(row.get("enterprise_id")) and kin(world, row["enterprise_id"], seller)
        ]
        told = any(r.get("platform_id") for r in world.shop_rows) and any(
            r.get("enterprise_id") for r in world.shop_rows
        )
        there = any(row.get("platform_id") == event.platform for row in theirs)
        return "no shop there" if told and not there else None
    entries = [
        row
        for row in world.shop_rows
        if row["shop_id"] == event.shop
        and (not row.get("platform_id") or event.platform in (None, row["platform_id"]))
    ]
    if not entries:
        return "unknown"
    mine = [
        row
        for row in entries
        if not world.known(row.get("enterprise_id")) or kin(world, row["enterprise_id"], seller)
    ]
    if not mine:
        return "other holder"
    begins = [date(row, "reported_from") or -FOR_EVER for row in mine]
    ends = [date(row, "reported_to") or FOR_EVER for row in mine]
    if any(begin <= high and low <= end for begin, end in zip(begins, ends, strict=True)):
        return None
    return "before" if any(begin > high for begin in begins) else "ended"


def unreported_channel(history: History) -> list[RawHit]:
    world, p = history.world, history.p("unreported_channel")
    holders = [r["enterprise_id"] for r in world.shop_rows if r.get("enterprise_id")]
    provinces = {(world.region(holder) or "")[:2] for holder in holders} - {""}
    wrongs = []
    for row in history if world.shop_rows else ():
        event = row.event
        if event.role not in (Role.SHIP, Role.PERSON_SALE) or not event.online:
            continue
        seller = event.giver
        if seller is None or not world.known(seller):
            continue
        if holders and (world.region(seller) or "")[:2] not in provinces:
            continue
        problem = channel_problem(history, event)
        if problem is not None:
            case = (seller, event.shop, event.platform, problem)
            wrongs.append(Wrong(case, event, seller, None))

    def counts_from(day: int) -> int:
        epoch = dt.date(1970, 1, 1)
        last, _ = add_working_days(epoch + dt.timedelta(days=day), p.working_days)
        return (last - epoch).days + 1

    told = stand(wrongs, p.repeat_days, counts_from=counts_from)
    return [raw("unreported_channel", t.lead, t.lead.event.day - t.first_day) for t in told]


# ---------------------------------------------------------------- territories


def inside(place: str, area: str) -> bool:
    """Whether a place lies in an area, as far as both are known (county codes are compared whole)."""
    regions = load_regions()
    if place[2:] == "0000" or area[2:] == "0000":
        return place[:2] == area[:2]
    if place[4:] == "00" or area[4:] == "00":
        return bool(regions.city[regions.index(place)] == regions.city[regions.index(area)])
    return place == area


def premises(world: World, party: str) -> set[str]:
    """Return the places of an enterprise: its own, its warehouses, its head offices'."""
    found = {world.region(party), *world.warehouses(party)}
    for other in world.enterprises:
        if world.kind(other) == "chain_hq" and one_group(world, party, other):
            found |= {world.region(other), *world.warehouses(other)}
    return {place for place in found if place}


def outside(history: History, event: Event, person: bool) -> bool:
    world = history.world
    assert event.giver is not None
    low, high = days_of(history, event)
    rows = [
        row
        for row in world.territories
        if row["drug_id"] == event.drug
        and (date(row, "valid_from") or -FOR_EVER) <= high
        and low <= (date(row, "valid_to") or FOR_EVER)
    ]
    if not rows:
        return False
    buyer = event.giver if person else event.receiver
    assert buyer is not None
    places = premises(world, buyer) | (
        {event.to_region} if event.to_region and not person else set()
    )
    sides = [event.giver] if person else [event.giver, buyer]
    for row in rows:
        area, named = row.get("region"), row.get("enterprise_id")
        here = not area or any(inside(place, area) for place in places if place)
        if named and not world.known(named):
            return False
        known_sides = [side for side in sides if world.known(side)]
        if here and (not named or any(kin(world, side, named) for side in known_sides)):
            return False
    if any(row.get("region") for row in rows):
        return bool(places)
    return not person and world.kind(event.giver) == "wholesaler"


def territory_breach(history: History) -> list[RawHit]:
    world, p = history.world, history.p("territory_breach")
    wrongs = []
    for row in history if world.territories else ():
        event = row.event
        person = event.role == Role.PERSON_SALE
        if not (person or event.role == Role.SHIP) or event.giver is None:
            continue
        if person and event.online:
            continue
        if not person and (
            event.receiver in (None, event.giver)
            or one_group(world, event.giver, event.receiver or "")
        ):
            continue
        if world.kind(event.giver) in ("mah", "manufacturer"):
            continue
        if outside(history, event, person):
            wrongs.append(Wrong((event.giver, event.drug), event, event.giver, event.receiver))
    told = stand(wrongs, p.repeat_days, p.needed)
    return [raw("territory_breach", t.lead, t.so_far) for t in told]


# ---------------------------------------------------------------- whose goods are sent out


def cities(places: Iterable[str]) -> set[int]:
    regions = load_regions()
    return {int(regions.city[regions.index(place)]) for place in places}


def shared_warehouse(history: History) -> list[RawHit]:
    world, p = history.world, history.p("shared_warehouse")
    sent: defaultdict[tuple[str, int], list[Event]] = defaultdict(list)
    for row in history if world.enterprises else ():
        event = row.event
        actor, giver = event.actor, event.giver
        if event.role not in (Role.SHIP, Role.PERSON_SALE) or giver in (None, actor):
            continue
        assert giver is not None
        home = world.region(actor)
        if (
            world.known(actor)
            and world.known(giver)
            and home is not None
            and not one_group(world, actor, giver)
            and world.kind(actor) not in ("platform", "logistics")
            and not cities([home]) & cities(premises(world, giver))
        ):
            sent[actor, event.day].append(event)
    told: dict[str, int] = {}
    hits = []
    for actor, day in sorted(sent, key=lambda key: key[1]):
        principals = {
            event.giver
            for (other, then), events in sent.items()
            for event in events
            if other == actor and day - p.window_days < then <= day
        }
        if len(principals) >= p.principals and len(principals) > told.get(actor, 0):
            told[actor] = len(principals)
            lead = min(sent[actor, day], key=lambda event: (event.time, event.key))
            hits.append(raw("shared_warehouse", Wrong((), lead, actor, None), len(principals)))
    return hits


def platform_interception(history: History) -> list[RawHit]:
    world, p = history.world, history.p("platform_interception")
    months: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    for row in history if world.drugs and world.enterprises else ():
        event = row.event
        drug = world.drugs.get(event.drug or "", {})
        if (
            event.role == Role.PERSON_SALE
            and row.has(s.NEW_SALE)
            and event.platform is not None
            and world.known(event.platform)
            and (drug.get("generic_name") or drug.get("classes"))
        ):
            date_of = dt.date(1970, 1, 1) + dt.timedelta(days=event.day)
            months[event.platform, str(date_of)[:7]].append(event)
    hits = []
    for (platform, _), events in months.items():
        for day in sorted({event.day for event in events}):
            so_far = [event for event in events if event.day <= day]
            banned = [e for e in so_far if banned_online(world, e.drug, e.day)]
            today = [event for event in banned if event.day == day]
            if (
                today
                and len(banned) >= p.minimum_sales
                and len({event.giver for event in banned}) >= p.minimum_sellers
                and len(banned) >= p.rate * len(so_far)
            ):
                lead = min(today, key=lambda event: (event.time, event.key))
                wrong = Wrong((), lead, platform, lead.giver)
                hits.append(raw("platform_interception", wrong, len(banned) / len(so_far)))
                break
    return hits


DETECTORS = {
    "platform_interception": platform_interception,
    "shared_warehouse": shared_warehouse,
    "territory_breach": territory_breach,
    "unreported_channel": unreported_channel,
}
