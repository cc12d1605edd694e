"""Contradictory packing and attributes, from the definitions in their modules."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from tests.reference.events import DAY, Event
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
    told = {found.event_id for found in hits}
    return hits + [found for found in overfull(history, known) if found.event_id not in told]


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


def overfull(history: History, known: Callable[[int], Aggregation]) -> list[RawHit]:
    """Return the events that put more packs of a drug into a case than the registry says it holds."""
    excess = history.p(NAME).excess
    packings: dict[tuple[str, int, str | None], list[Enriched]] = {}
    for row in history:
        if row.event.kind == EventKind.PACK and states_parent(row.event):
            filled = (str(row.event.parent), row.event.day, row.event.drug)
            packings.setdefault(filled, []).append(row)
    hits = []
    for (case, day, drug), rows in packings.items():
        limit = history.world.packs_in_case(drug)
        view = known(day)
        ever = [pack for pack in view.packed.get(case, []) if pack.day <= day]
        if limit is None or not re.fullmatch("8[0-9]{19}", case) or len(ever) > 10 * limit:
            continue
        inside = {}
        for code in {pack.code for pack in ever if pack.drug == drug}:
            other = [*view.packed.get(code, []), *view.successors.get(code, [])]
            carton_or_dead = any(event.day <= day for event in other)
            link = next((link for link in view.links(code) if in_at_night(link, case, day)), None)
            if link is not None and not carton_or_dead:
                inside[code] = link.opener
        order = sorted(
            (row for row in rows if row.event is inside.get(row.event.code)),
            key=lambda row: (row.event.time, row.event.key),
        )
        too_many = len(inside) - limit
        if too_many >= excess:
            hits += [
                hit(NAME, row, len(inside), subject=row.event.actor, counterparty=NOBODY)
                for row in order[-too_many:]
            ]
    return hits


def in_at_night(link: Link, case: str, day: int) -> bool:
    """Return whether a code is in ``case`` by this link when ``day`` ends."""
    closed = link.until is not None and link.until // DAY <= day
    return link.parent == case and link.since // DAY <= day and not closed


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
