"""Detectors of category, licence and region, from the definitions in their modules."""

from __future__ import annotations

from tests.reference.events import DAY, HOUR, day_of
from tests.reference.history import NOBODY, History, RawHit, hit
from tests.reference.world import World
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role

# 药品网络销售禁止清单（第一版）, as far as drugs state their class; the names are a sample.
BAN_BEGINS = day_of("2022-12-01")
BANNED_CLASSES = {
    "vaccine", "blood_product", "narcotic", "psychotropic_1", "psychotropic_2", "toxic",
    "toxic_tcm", "botulinum", "radioactive", "precursor", "hospital_preparation", "tcm_granules",
}  # fmt: skip
BANNED_UNLESS = {
    "injection": {"hypoglycaemic", "insulin"},
    "ephedrine_compound": {"herbal_ephedra"},
    "narcotic_compound": {"herbal_ephedra"},
    "tramadol_compound": {"herbal_ephedra"},
    "anabolic_or_peptide": {"insulin"},
}
BANNED_ALONE = ("华法林", "地高辛", "氨茶碱", "米非司酮", "利奈唑胺")

TRADES_WITH_LICENCE = {
    "mah", "manufacturer", "wholesaler", "chain_hq", "chain_store", "pharmacy",
}  # fmt: skip


def banned_online(world: World, drug: str | None, day: int) -> bool:
    classes = world.classes(drug)
    name = str(world.drugs.get(drug or "", {}).get("generic_name") or "")
    by_class = bool(classes & BANNED_CLASSES) or any(
        name in classes and not classes & exceptions for name, exceptions in BANNED_UNLESS.items()
    )
    by_name = any(banned in name for banned in BANNED_ALONE) and "复方" not in name
    return day >= BAN_BEGINS and (by_class or by_name)


def online_banned_sale(history: History) -> list[RawHit]:
    world = history.world
    return [
        hit("online_banned_sale", row, max(row.event.quantity, 1))
        for row in history
        if row.event.role == Role.PERSON_SALE
        and row.has(s.NEW_SALE)
        and row.event.online
        and banned_online(world, row.event.drug, row.event.day)
    ]


# ---------------------------------------------------------------- recalls


def in_range(place: str | None, area: str) -> bool:
    """Whether a region code lies in a recall's area ('' the country, xx0000 a province, a city)."""
    if area in ("", "000000", "100000"):
        return True
    if place is None:
        return False
    if area.endswith("0000"):
        return place[:2] == area[:2]
    return place[:4] == area[:4]


def recalled_sale(history: History) -> list[RawHit]:
    p = history.p("recalled_sale")
    grace = {
        "1": p.grace_hours_level_1, "2": p.grace_hours_level_2, "3": p.grace_hours_level_3,
    }  # fmt: skip
    hits = []
    for row in history:
        event = row.event
        if event.role not in (Role.SHIP, Role.PERSON_SALE) or event.drug is None:
            continue
        place = history.world.region(event.giver) or event.from_region
        limits = []
        for recall in history.world.recalls:
            begin = day_of(recall["effective"])
            hours = grace.get(str(recall.get("level") or ""), p.grace_hours_level_3)
            limit = (begin + 1) * DAY + hours * HOUR
            if (
                recall["drug_id"] == event.drug
                and recall.get("batch_no") in (None, "", event.batch_no)
                and in_range(place, str(recall.get("range_region") or ""))
                and event.time >= limit
            ):
                limits.append((limit, begin))
        if limits:
            _, begin = min(limits)
            hits.append(hit("recalled_sale", row, (event.time - begin * DAY) / DAY))
    return hits


# ---------------------------------------------------------------- licences


def unlicensed(world: World, party: str | None) -> bool:
    if party is None:
        return False
    if not world.known(party):
        return True
    stated = any("licence_no" in row for row in world.enterprises.values())
    needs = world.kind(party) in TRADES_WITH_LICENCE
    return stated and needs and not world.text(party, "licence_no")


def unlicensed_party(history: History) -> list[RawHit]:
    world = history.world
    hits = []
    for row in history if world.enterprises else ():
        event = row.event
        if event.role not in (Role.SHIP, Role.RECEIVE, Role.PERSON_SALE) or event.giver is None:
            continue
        receiver = None if event.receiver == event.giver else event.receiver
        subject, other = event.giver, receiver
        if unlicensed(world, event.giver):
            if event.role == Role.RECEIVE and receiver is not None:
                subject, other = receiver, event.giver  # it bought from one without a licence
        elif not unlicensed(world, receiver):
            continue
        hits.append(hit("unlicensed_party", row, 1, subject, NOBODY if other is None else other))
    return hits


# ---------------------------------------------------------------- where goods leave from


def dispatch_places(world: World, party: str | None) -> set[str]:
    """Return where an enterprise may ship from: its own places and its headquarters'."""
    group = world.text(party, "group_id")
    parties = [party] + [
        other
        for other, row in world.enterprises.items()
        if group and row.get("type") == "chain_hq" and row.get("group_id") == group
    ]
    places = {place for p in parties for place in {world.region(p), *world.warehouses(p)}}
    return {place for place in places if place is not None}


def city_of(region: str) -> str:
    """Return what names the city: two digits of a municipality, four of any other region."""
    return region[:2] if region[:2] in ("11", "12", "31", "50") else region[:4]


def agree(a: str, b: str, level: str) -> bool:
    """Whether two regions are one at a level; the coarser of the two may contain the other."""
    if level == "province" or a.endswith("0000") or b.endswith("0000"):
        return a[:2] == b[:2]
    if level == "city" or a.endswith("00") or b.endswith("00"):
        return city_of(a) == city_of(b)
    return a == b


def remote_dispatch(history: History) -> list[RawHit]:
    world, level = history.world, history.p("remote_dispatch").level
    hits = []
    for row in history:
        event = row.event
        sale = event.role == Role.PERSON_SALE or (
            event.role == Role.SHIP and event.kind != EventKind.DIRECT_SHIPMENT
        )
        if not sale or event.from_region is None:
            continue
        places = dispatch_places(world, event.giver)
        if places and not any(agree(event.from_region, place, level) for place in places):
            distances = [world.distance_km(event.from_region, place) for place in places]
            hits.append(hit("remote_dispatch", row, min((d for d in distances if d), default=0)))
    return hits
