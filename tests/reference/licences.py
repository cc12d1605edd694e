"""Detectors of licences and scopes, from the definitions in their modules."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.reference.events import DAY, MINUTE, Event, day_of
from tests.reference.history import History, RawHit
from tests.reference.world import Row, World
from trace_engine.events.kinds import Role
from trace_engine.registry.identifiers import check_licence, check_uscc

TRADE = (Role.SHIP, Role.RECEIVE, Role.PERSON_SALE)
NEEDING = {"mah", "manufacturer", "wholesaler", "chain_hq", "chain_store", "pharmacy"}
DISTRIBUTORS = {"wholesaler", "chain_hq", "chain_store", "pharmacy"}
RETAIL = {"chain_store", "pharmacy"}
CLOSING = {"suspension": "suspended", "cancellation": "cancelled", "revocation": "revoked"}
REOPENING = ("resumption", "issue", "renewal")
FOR_EVER = 10**9


class Wrong(NamedTuple):
    """One wrong event and the case it belongs to."""

    case: tuple[object, ...]
    event: Event
    subject: str | None
    counterparty: str | None
    observed: float = 0


class Told(NamedTuple):
    """A case that fires: its lead, its first day and how many events there were so far."""

    lead: Wrong
    first_day: int
    so_far: int


def stand(
    wrongs: Iterable[Wrong],
    repeat_days: int,
    needed: int = 1,
    counts_from: Callable[[int], int] = lambda day: day,
) -> list[Told]:
    """Return what is told of standing wrongs: when a case begins, and while it goes on."""
    by_case: defaultdict[tuple[object, ...], defaultdict[int, list[Wrong]]]
    by_case = defaultdict(lambda: defaultdict(list))
    for wrong in wrongs:
        by_case[wrong.case][wrong.event.day].append(wrong)
    told = []
    for days in by_case.values():
        so_far, last = 0, None
        for day in sorted(days):
            so_far += len(days[day])
            if so_far < needed or day < counts_from(min(days)):
                continue
            if last is None or day - last >= repeat_days:
                last = day
                lead = min(days[day], key=lambda w: (w.event.time, w.event.key))
                told.append(Told(lead, min(days), so_far))
    return told


def days_of(history: History, event: Event) -> tuple[int, int]:
    """Return the days an event happened on at least and at most."""
    off = 0 if event.date_only else history.settings.clock_skew_minutes * MINUTE
    return (event.time - off) // DAY, (event.time + off) // DAY


def date(row: Row, column: str) -> int | None:
    return day_of(row[column]) if row.get(column) else None


def told_of(world: World, party: str) -> list[tuple[int, str]]:
    """Return the dated licence events of a party, by day."""
    rows = (r for r in world.licence_events if r["enterprise_id"] == party)
    return sorted((day_of(r["date"]), str(r["kind"])) for r in rows)


# ---------------------------------------------------------------- licences


def closed_times(world: World, party: str) -> list[tuple[int, int, str]]:
    """Return when a party may not trade, and why."""
    row = world.enterprises[party]
    status, since = str(row.get("status") or ""), date(row, "status_date")
    closed_today = status in CLOSING.values() and since is not None
    today = since if closed_today and since is not None else FOR_EVER
    has_status = any("status" in r for r in world.enterprises.values())
    times = [(today, FOR_EVER, status)] if closed_today else []
    # Of one day, a closing comes before a reopening (the order of the kinds).
    order = ["issue", "renewal", "suspension", "resumption", "cancellation", "revocation"]
    story = [e for e in told_of(world, party) if e[1] in order]
    story.sort(key=lambda e: (e[0], order.index(e[1])))
    for number, (day, kind) in enumerate(story):
        if kind not in CLOSING:
            continue
        end = story[number + 1][0] if number + 1 < len(story) else None
        if end is None and not closed_today and has_status:
            continue
        last = min(today, FOR_EVER if end is None else end)
        if day < last:
            times.append((day, last, CLOSING[kind]))
    return sorted(times)


def why_not(history: History, party: str, event: Event, tolerance: int) -> tuple[str, int] | None:
    """Return why a party's licence does not hold for an event, and since when; None if it does."""
    world, p = history.world, history.p("licence_invalid")
    low, high = days_of(history, event)
    for begin, end, why in reversed(closed_times(world, party)):
        if begin < low - tolerance and high < end:
            return why, begin
    story = told_of(world, party)
    issues = [day for day, kind in story if kind == "issue"]
    others = [day for day, kind in story if kind != "issue"]
    if issues and min(issues) <= min(others, default=FOR_EVER) and high < min(issues):
        return "not_yet", min(issues)
    end_of_licence = date(world.enterprises[party], "licence_to")
    if end_of_licence is not None and low - tolerance > end_of_licence + p.grace_days:
        renewals = [
            day
            for day, kind in story
            if kind in ("renewal", "issue") and end_of_licence - 366 <= day <= high
        ]
        if not renewals:
            return "expired", end_of_licence + 1
    return None


def number_problems(world: World, party: str) -> set[str]:
    row = world.enterprises[party]
    if world.kind(party) not in NEEDING:
        return set()
    found = set()
    if row.get("uscc") and not check_uscc(str(row["uscc"])):
        found.add("bad uscc")
    if row.get("licence_no"):
        if not check_licence(str(row["licence_no"])):
            found.add("bad licence")
        for other, its in world.enterprises.items():
            same = its.get("licence_no") == row["licence_no"] and world.kind(other) in NEEDING
            names = [str(r.get("name") or "")[:4] for r in (row, its)]
            if (
                same
                and "" not in names
                and names[0] != names[1]
                and not one_group(world, party, other)
            ):
                found.add("shared licence")
    return found


def one_group(world: World, a: str, b: str) -> bool:
    uscc = [world.text(party, "uscc") for party in (a, b)]
    return world.related(a, b) or (uscc[0] != "" and uscc[0] == uscc[1])


def licence_invalid(history: History) -> list[RawHit]:
    world, p = history.world, history.p("licence_invalid")
    standing: list[Wrong] = []
    numbers: list[Wrong] = []
    for row in history if world.enterprises else ():
        event = row.event
        if event.role not in TRADE:
            continue
        receipt = event.role == Role.RECEIVE
        sides = [(event.giver, event.receiver, not receipt)]
        if event.receiver is not None and event.receiver != event.giver:
            sides.append((event.receiver, event.giver, receipt))
        for holder, other, own in sides:
            if holder is None or not world.known(holder) or (not own and other is None):
                continue
            subject, partner = (holder, None) if own else (other, holder)
            tolerance = p.transit_days if receipt or not own else 0
            reason = why_not(history, holder, event, tolerance)
            if reason is not None:
                case = (subject, partner, reason[0], own, receipt)
                standing.append(Wrong(case[:4] if own else case, event, subject, partner))
            if own:
                numbers += [
                    Wrong((holder, problem), event, holder, None)
                    for problem in number_problems(world, holder)
                ]
    that_day = Counter((wrong.case, wrong.event.day) for wrong in standing + numbers)
    return [
        raw("licence_invalid", told.lead, that_day[told.lead.case, told.lead.event.day])
        for told in [*stand(standing, p.repeat_days), *stand(numbers, 100_000)]
    ]


def raw(detector: str, wrong: Wrong, observed: float, time: int | None = None) -> RawHit:
    return RawHit(
        detector,
        wrong.event.event_id,
        float(observed),
        wrong.subject,
        wrong.counterparty,
        wrong.event.time if time is None else time,
    )


# ---------------------------------------------------------------- scope

SPECIAL = {
    "narcotic", "psychotropic_1", "psychotropic_2", "blood_product", "vaccine",
    "anabolic_or_peptide", "botulinum", "toxic", "toxic_tcm", "radioactive", "precursor",
}  # fmt: skip
DISPENSING = {"rx", "otc_a", "otc_b"}


def scope_breach(history: History) -> list[RawHit]:
    """As far as drugs state their class: lists by name and their dates are tested elsewhere."""
    world, p = history.world, history.p("scope_breach")
    classes: list[Wrong] = []
    manners: list[Wrong] = []
    for row in history if world.enterprises else ():
        event = row.event
        if event.role not in TRADE:
            continue
        party = event.receiver if event.role == Role.RECEIVE else event.giver
        if party is None:
            continue
        if (
            event.role == Role.PERSON_SALE
            and event.receiver is None
            and world.kind(party) in ("wholesaler", "mah", "manufacturer")
            and not any(
                world.kind(other) in RETAIL
                and world.text(other, "uscc") == world.text(party, "uscc") != ""
                for other in world.enterprises
            )
        ):
            manners.append(Wrong((party,), event, party, None))
        scope = set(world.text(party, "scope").split(";")) - {""}
        understood = scope and all(part in SPECIAL | DISPENSING | {"cold_chain"} for part in scope)
        changed = [day for day, kind in told_of(world, party) if kind == "scope_change"]
        if (
            world.kind(party) not in DISTRIBUTORS
            or not understood
            or days_of(history, event)[0] < max(changed, default=0)
        ):
            continue
        held = world.classes(event.drug)
        special = held & SPECIAL - ({"anabolic_or_peptide"} if "insulin" in held else set())
        classes += [Wrong((party, name), event, party, None) for name in special - scope]
        dispensed = held & DISPENSING
        if dispensed and scope & DISPENSING and not dispensed & scope:
            classes.append(Wrong((party, "dispensing"), event, party, None))
    told = stand(classes, p.repeat_days) + stand(manners, p.repeat_days, p.needed)
    return [raw("scope_breach", t.lead, t.so_far) for t in told]


# ---------------------------------------------------------------- changes and closings


def is_change(kind: str) -> bool:
    return kind.endswith("_change")


def licence_churn(history: History) -> list[RawHit]:
    world, p = history.world, history.p("licence_churn")
    window = round(p.months * 30.4)
    wrongs = []
    for row in history if world.licence_events else ():
        event = row.event
        if event.role not in TRADE:
            continue
        party = event.receiver if event.role == Role.RECEIVE else event.giver
        if party is None or not world.known(party):
            continue
        low, _ = days_of(history, event)
        days = {day for day, kind in told_of(world, party) if is_change(kind)}
        recent = [day for day in days if low - window < day <= low]
        if len(recent) >= p.changes:
            wrongs.append(Wrong((party, max(recent)), event, party, None, len(recent)))
    return [raw("licence_churn", t.lead, t.lead.observed) for t in stand(wrongs, 100_000)]


def pre_closure_dump(history: History) -> list[RawHit]:
    world = history.world
    hits = []
    for party in world.enterprises:
        for closing, _, why in closed_times(world, party):
            if why in ("suspended", "cancelled") and closing <= history.last_day:
                hits += dump_before(history, party, closing)
    return hits


def dump_before(history: History, party: str, closing: int) -> list[RawHit]:
    p = history.p("pre_closure_dump")
    events = [
        row.event
        for row in history
        if row.event.giver == party
        and (
            row.event.role == Role.PERSON_SALE
            or (
                row.event.role == Role.SHIP
                and not in_a_group_with(history.world, party, row.event.receiver)
            )
        )
        and closing - p.window_days - p.history_days <= row.event.day < closing
    ]
    if not events:
        return []
    whole = (closing - min(event.day for event in events)) // 7
    packs = [0] * whole
    for event in events:
        week = (closing - 1 - event.day) // 7
        if week < whole:
            packs[week] += 1 if event.split else max(event.quantity, 1)
    judged = min(whole, p.window_days // 7)
    usual, unusual = packs[judged:], {}
    for week in reversed(range(judged)):
        if len(usual) >= p.minimum_weeks:
            mean, n = statistics.fmean(usual), len(usual)
            spread = max(statistics.stdev(usual), math.sqrt(mean), 1)
            z = (packs[week] - mean) / (spread * math.sqrt(1 + 1 / n))
            if z >= p.z and packs[week] >= p.ratio * mean and packs[week] >= p.minimum_packs:
                unusual[week] = z
                continue
        usual.append(packs[week])
    if not unusual:
        return []
    best = max(unusual, key=lambda week: (unusual[week], week))
    of_week = [event for event in events if (closing - 1 - event.day) // 7 == best]
    lead = min(of_week, key=lambda event: (event.time, event.key))
    wrong = Wrong((), lead, party, None)
    return [raw("pre_closure_dump", wrong, unusual[best], closing * DAY)]


def in_a_group_with(world: World, party: str, other: str | None) -> bool:
    """Whether both belong to one group (an enterprise without a group is in none with itself)."""
    if other is None or not world.known(other):
        return False
    grouped = world.text(party, "group_id") != "" or any(
        world.text(party, "uscc") == world.text(third, "uscc") != ""
        for third in world.enterprises
        if third != party
    )
    return grouped and one_group(world, party, other)


DETECTORS = {
    "licence_churn": licence_churn,
    "licence_invalid": licence_invalid,
    "pre_closure_dump": pre_closure_dump,
    "scope_breach": scope_breach,
}
