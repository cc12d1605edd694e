"""Contradictory packing and attributes, from the definitions in their modules."""

from __future__ import annotations

import datetime as dt

from tests.reference.events import Event
from tests.reference.history import NOBODY, History, RawHit, hit
from tests.reference.inside import MOVEMENTS, Aggregation, Link, states_parent
from tests.reference.state import Enriched
from tests.reference.story import stories_of
from trace_engine.core import signals as s
from trace_engine.events.kinds import CODELESS, EventKind, Role


def aggregation_conflict(history: History) -> list[RawHit]:
    events = [row.event for row in history]
    _, known = stories_of(events, history.world, lambda day: history.settings, history.last_day)
    hits = []
    for row in history:
        event, view = row.event, known(row.event.day)
        held = [
            link
            for link in view.links(event.code)
            if link.opener is not event
            and link.since <= event.time
            and (link.until is None or event.time <= link.until)
        ]
        if not held:
            continue
        link = held[-1]
        if event.kind == EventKind.PACK and len(ever_in(events, event.code)) > 1:
            if (before := packed_twice(history, view, event, link)) is not None:
                hits.append(hit(NAME, row, 1, subject=event.actor, counterparty=before))
        elif row.has(s.NO_SOURCE) and (to := moved_to(view, event, link)) is not None:
            hits.append(hit(NAME, row, 1, subject=event.giver or event.actor, counterparty=to))
        elif in_one_bill(view, event, link):
            hits.append(hit(NAME, row, 1, subject=event.giver or event.actor))
    return hits


NAME = "aggregation_conflict"


def ever_in(events: list[Event], code: str) -> set[str | None]:
    return {event.parent for event in events if event.code == code and states_parent(event)}


def packed_twice(history: History, view: Aggregation, event: Event, link: Link) -> str | None:
    """Return who packed the code first, if another packs it now who never had the parent."""
    related = history.world.related
    if not states_parent(event) or event.parent == link.parent:
        return None
    if related(event.actor, link.opener.actor):
        return None
    for other in view.story(link.parent):
        parties = (other.giver, other.receiver)
        if other.day <= event.day and any(related(event.actor, party) for party in parties):
            return None
    return link.opener.actor


def moved_to(view: Aggregation, event: Event, link: Link) -> str | None:
    moved = [
        other.receiver
        for other in view.story(link.parent)
        if other.day <= event.day and other.role in MOVEMENTS and other.receiver
    ]
    return moved[-1] if moved else None


def in_one_bill(view: Aggregation, event: Event, link: Link) -> bool:
    if event.bill is None or states_parent(event) or event.role in (Role.NONE, Role.VOID):
        return False
    beside = [
        other
        for other in view.own.get(link.parent, [])
        if other.bill == event.bill and other.day == event.day and other.role == event.role
    ]
    packed = {pack.code for pack in view.packed.get(link.parent, []) if pack.day <= event.day}
    partial = any(other.quantity_stated and other.quantity < len(packed) for other in beside)
    return bool(beside) and not partial


SILENT = {EventKind.UNKNOWN, EventKind.VERIFICATION, EventKind.VOID, *CODELESS}


def attribute_mismatch(history: History) -> list[RawHit]:
    hits = []
    by_code: dict[str, list[Enriched]] = {}
    for row in history:
        by_code.setdefault(row.event.code, []).append(row)
    for rows in by_code.values():
        first: dict[str, object] = {}
        reported: set[str] = set()
        for row in sorted(rows, key=lambda r: (r.event.time, r.event.key)):
            event = row.event
            if event.kind == EventKind.VOID and not row.has(s.VOID_UNMATCHED):
                first, reported = {}, set()
            if event.kind in SILENT:
                continue
            differ = set()
            for name, value in stated_by(event).items():
                if name not in first:
                    first[name] = value
                elif name not in reported and not agree(name, first[name], value):
                    differ.add(name)
            reported |= differ
            if differ:
                hits.append(hit("attribute_mismatch", row, len(differ), event.actor, NOBODY))
    return hits


def stated_by(event: Event) -> dict[str, object]:
    found: dict[str, object] = {}
    if event.batch_no is not None:
        found["batch"] = event.batch_no
    if event.expiry is not None:
        found["expiry"] = (event.expiry, event.expiry_month_only)
    if event.drug_declared and event.drug is not None:
        found["drug"] = event.drug
    return found


def agree(name: str, first: object, value: object) -> bool:
    if name != "expiry":
        return first == value
    assert isinstance(first, tuple)
    assert isinstance(value, tuple)
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=day) for day in (first[0], value[0])]
    if first[1] or value[1]:
        return (days[0].year, days[0].month) == (days[1].year, days[1].month)
    return days[0] == days[1]


DETECTORS = {
    "aggregation_conflict": aggregation_conflict,
    "attribute_mismatch": attribute_mismatch,
}
