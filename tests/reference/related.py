"""Licences under one hand, from the definition of ``related_party_ring``."""

from __future__ import annotations

from collections import defaultdict

from tests.reference.clues import last_day_of, month_of
from tests.reference.events import DAY
from tests.reference.history import History, RawHit
from trace_engine.core import signals as s


def rings(history: History) -> list[set[str]]:
    """Return the enterprises of each ring."""
    p = history.p("related_party_ring")
    stated: dict[tuple[str, str], set[str]] = defaultdict(set)
    for party, row in history.world.enterprises.items():
        for column in ("controller_id", "legal_person", "phone", "address"):
            value = str(row.get(column) or "").strip()
            if value and column == "legal_person":
                value += "/" + str(row.get("region") or "")[:4]
            if value:
                stated[column, value].add(party)
    found: list[set[str]] = []
    for parties in stated.values():
        if not 2 <= len(parties) <= p.most_linked:
            continue
        touched = [ring for ring in found if ring & parties]
        found = [ring for ring in found if not ring & parties]
        found.append(parties.union(*touched))
    out = []
    for ring in found:
        rows = [history.world.enterprises[party] for party in ring]
        licences = {row.get("licence_no") for row in rows if row.get("licence_no")}
        groups = {row.get("group_id") or None for row in rows}
        if len(licences) >= p.licences and not (len(groups) == 1 and groups != {None}):
            out.append(ring)
    return out


def related_party_ring(history: History) -> list[RawHit]:
    p = history.p("related_party_ring")
    world = history.world
    hits = []
    for ring in rings(history):
        months = defaultdict(list)
        for row in history:
            event = row.event
            sides = {event.giver, event.receiver}
            if not row.has(s.HOP) or None in sides or len(sides) < 2 or not sides & ring:
                continue
            groups = [world.text(side, "group_id") for side in (event.giver, event.receiver)]
            if groups[0] and groups[0] == groups[1]:
                continue
            months[month_of(event.day)].append(event)
        for month, events in months.items():
            if last_day_of(month) > history.last_day:
                continue
            inside = [e for e in events if e.giver in ring and e.receiver in ring]
            packs = sum(e.quantity for e in inside)
            share = packs / sum(e.quantity for e in events)
            members = {side for e in inside for side in (e.giver, e.receiver)}
            if len(members) < p.licences or packs < p.packs or share < p.share:
                continue
            latest = max(inside, key=lambda e: (e.time, e.key))
            hits.append(
                RawHit(
                    "related_party_ring",
                    latest.event_id,
                    share,
                    latest.giver,
                    latest.receiver,
                    last_day_of(month) * DAY,
                )
            )
    return hits


DETECTORS = {"related_party_ring": related_party_ring}
