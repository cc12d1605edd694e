"""How enterprises scan, from the definitions in the detectors' modules."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tests.reference.events import DAY, HOUR, MINUTE, SECOND, Event
from tests.reference.history import NOBODY, History, RawHit, hit
from tests.reference.state import Enriched
from tests.reference.world import World
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role

OUT = {Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.PERSON_SALE}
IN = {Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE}
TRADES = ({"pharmacy", "chain_store"}, {"medical", "public_hospital"})
RETAIL_OR_MEDICAL = TRADES[0] | TRADES[1]


def worked_at(event: Event) -> str | None:
    return event.giver if event.role in OUT else event.receiver


def single(event: Event) -> bool:
    return event.parent is None and (event.pack_level or 1) <= 1 and event.quantity <= 1


def precise(time: int) -> bool:
    return time % MINUTE != 0


def one_place(world: World, party: str | None) -> bool:
    """Return whether an enterprise has a region and no warehouse in another."""
    region = world.region(party)
    return region is not None and world.warehouses(party) <= {region}


def group_of(world: World, party: str) -> str:
    return world.text(party, "group_id") or f"\0{party}"


def moment(event: Event) -> tuple[int, int]:
    return event.time, event.key


def gathered(rows: Iterable[Enriched], key: Callable[[Event], Any]) -> dict[Any, list[Enriched]]:
    """Return rows by key, each list by (time, event key)."""
    found: defaultdict[Any, list[Enriched]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: moment(row.event)):
        found[key(row.event)].append(row)
    return dict(found)


# ---------------------------------------------------------------- proxy_scanning


def proxy_scanning(history: History) -> list[RawHit]:
    world, p = history.world, history.p("proxy_scanning")
    if not world.enterprises:
        return []
    judged = [
        row
        for row in history
        if row.event.role in OUT | IN
        and (row.event.device or row.event.operator)
        and world.kind(worked_at(row.event)) in RETAIL_OR_MEDICAL
        and one_place(world, worked_at(row.event))
    ]

    def enterprises(column: str, name: str | None, day: int) -> int:
        """Return at how many unrelated enterprises a device or operator has worked."""
        if name is None:
            return 0
        where = {
            group_of(world, str(worked_at(row.event)))
            for row in judged
            if getattr(row.event, column) == name and day - p.days < row.event.day <= day
        }
        return len(where) if len(where) <= p.most_enterprises else 0

    hits = []
    fired: dict[Any, list[tuple[int, int]]] = {}
    by_day = gathered(
        judged,
        lambda e: (e.day, worked_at(e), ("d", e.device) if e.device else ("o", e.operator)),
    )
    for (day, party, instrument), rows in sorted(by_day.items(), key=lambda item: item[0][0]):
        shared = any(
            max(enterprises("device", e.device, day), enterprises("operator", e.operator, day))
            >= p.enterprises
            for e in (row.event for row in rows)
        )
        quick = [row for row in rows if in_and_out(row, str(party), p.quick_seconds)]
        times = scan_times([row.event for row in rows])
        count = shared + (len(quick) >= p.quick_codes) + rhythm(times, p)
        past = fired.setdefault((party, instrument), [])
        highest = max((n for then, n in past if then > day - p.days), default=0)
        if count >= p.signals and count > highest:
            past.append((day, count))
            hits.append(hit("proxy_scanning", rows[0], count, str(party), NOBODY))
    return hits


def in_and_out(row: Enriched, party: str, seconds: int) -> bool:
    sale, before = row.event, row.previous
    return (
        sale.role == Role.PERSON_SALE
        and before is not None
        and before.role in (Role.RECEIVE, Role.TRANSFER_RECEIVE)
        and before.receiver == party
        and not sale.date_only
        and not before.date_only
        and 0 <= sale.time - before.time < seconds * SECOND
    )


def scan_times(events: Iterable[Event]) -> list[int]:
    """Return the times of single scans; a bill that bears one time only counts once."""
    scans = [event for event in events if single(event) and not event.date_only]
    if 2 * sum(precise(event.time) for event in scans) < len(scans):
        return []  # a system that writes minutes
    by_bill: defaultdict[object, list[int]] = defaultdict(list)
    for event in scans:
        by_bill[event.bill].append(event.time)
    times: list[int] = []
    for of_bill in by_bill.values():
        times += of_bill if len(set(of_bill)) > 1 else of_bill[:1]
    return sorted(times)


def rhythm(times: list[int], p: Any) -> int:
    """Return how many of the three signals of scan times hold."""
    at_one_time = Counter(times)
    at_once = any(count > p.same_time_codes for count in at_one_time.values())
    times = [time for time in times if at_one_time[time] <= p.same_time_codes]
    k = p.run_codes
    fast = any(
        (k - 1) / ((last - first) / SECOND + 1) > p.codes_per_second
        for first, last in zip(times, times[k - 1 :], strict=False)
    )
    stretches: list[list[int]] = [[]]
    for time in times:
        if stretches[-1] and time - stretches[-1][-1] > p.pause_seconds * SECOND:
            stretches.append([])
        stretches[-1].append(time)
    regular = False
    for stretch in stretches:
        if len(stretch) >= k:
            gaps = [b - a for a, b in pairwise(stretch)]
            mean = statistics.fmean(gaps)
            regular |= mean > 0 and statistics.pstdev(gaps) / mean < p.variation
    return at_once + fast + regular


# ---------------------------------------------------------------- serial_run


def serial_run(history: History) -> list[RawHit]:
    p = history.p("serial_run")
    voided = {(row.event.day, row.event.voids) for row in history if row.event.role == Role.VOID}
    sales = [
        row
        for row in history
        if row.event.kind == EventKind.RETAIL_SALE
        and row.has(s.NEW_SALE)
        and row.event.giver is not None
        and history.world.kind(row.event.giver) not in ("medical", "public_hospital")
        and len(row.event.code) == 20
        and row.event.code.isdigit()
        and row.event.code[0] == "8"
        and single(row.event)
        and not row.event.date_only
        and (row.event.day, row.event.key) not in voided
    ]
    hits = []
    by_seller = gathered(sales, lambda e: (e.day, e.giver, e.code[:7]))
    for rows in by_seller.values():
        of_serial: dict[int, Enriched] = {}
        for row in rows:  # the earliest comes first
            of_serial.setdefault(int(row.event.code[7:16]), row)
        run: list[Enriched] = []
        for serial in sorted(of_serial):
            before, row = of_serial.get(serial - 1), of_serial[serial]
            if before and abs(row.event.time - before.event.time) <= p.gap_seconds * SECOND:
                run.append(row)
            else:
                hits += run_hits(run, p)
                run = [row]
        hits += run_hits(run, p)
    return hits


def run_hits(run: list[Enriched], p: Any) -> list[RawHit]:
    times = {row.event.time for row in run if precise(row.event.time)}
    sales = {e.order or e.bill or e.buyer or e.key for e in (row.event for row in run)}
    if len(run) < p.serials or min(len(times), len(sales)) < p.sales:
        return []
    return [hit("serial_run", row, len(run)) for row in run]


# ---------------------------------------------------------------- copied_receipt


def copied_receipt(history: History) -> list[RawHit]:
    p = history.p("copied_receipt")
    receipts = [
        row
        for row in history
        if row.event.role == Role.RECEIVE
        and row.event.bill
        and row.event.receiver
        and (row.event.device or row.event.operator)
        and single(row.event)
        and not row.event.date_only
    ]
    hits = []
    for rows in gathered(receipts, lambda e: (e.day, e.receiver, e.bill)).values():
        shipments = [answered_shipment(row) for row in rows]
        known = [shipment for shipment in shipments if shipment is not None]
        if len(known) < len(rows) or len({e.bill for e in known}) > 1:
            continue
        if len({e.giver for e in known}) > 1 or len(rows) < p.codes:
            continue
        pairs = [(a.time, row.event.time) for a, row in zip(known, rows, strict=True)]
        chance = Fraction(1, math.factorial(len(pairs)))
        for side in (0, 1):
            for together in Counter(pair[side] for pair in pairs).values():
                chance *= math.factorial(together)
        if chance > p.chance:
            continue
        if any(a[0] < b[0] and a[1] > b[1] for a in pairs for b in pairs):
            continue
        first, last = min(got for _, got in pairs), max(got for _, got in pairs)
        fast = (last - first + SECOND) / SECOND * 100 / len(pairs) < p.seconds_per_100_codes
        gap = first - max(shipped for shipped, _ in pairs)
        places = [(a.from_region, row.event.to_region) for a, row in zip(known, rows, strict=True)]
        km = min(distance(history.world, *place) for place in places)
        allowed = gap + 2 * history.settings.clock_skew_minutes * MINUTE
        early = km >= max(p.min_km, 0) and allowed < km / p.speed_kmh * HOUR
        if fast or early:
            hits += [
                hit("copied_receipt", row, len(rows), row.event.receiver, row.event.giver)
                for row in rows
            ]
    return hits


def answered_shipment(row: Enriched) -> Event | None:
    receipt, before = row.event, row.previous
    if (
        before is not None
        and before.role == Role.SHIP
        and before.bill
        and before.giver == receipt.giver
        and before.receiver == receipt.receiver
        and not before.date_only
        and before.time <= receipt.time
    ):
        return before
    return None


def distance(world: World, origin: str | None, goal: str | None) -> float:
    """Return km between two regions, -1 where one is not known or a whole province."""
    if not origin or not goal or origin.endswith("0000") or goal.endswith("0000"):
        return -1.0
    km = world.distance_km(origin, goal)
    return -1.0 if km is None else km


# ---------------------------------------------------------------- record_tampering


def record_tampering(history: History) -> list[RawHit]:
    world, p = history.world, history.p("record_tampering")
    if not world.enterprises:
        return []
    named = {(row.event.code, row.event.key): row.event for row in history}
    events: Counter[tuple[str, int]] = Counter()
    acts: list[tuple[Enriched, Any]] = []
    for row in history:
        if world.known(row.event.actor):
            events[row.event.actor, row.event.day] += 1
            acts += [(row, act) for act in acts_of(row, named, p)]

    def uploaded(actor: str, first: int, last: int) -> int:
        return sum(events[actor, day] for day in range(first, last + 1))

    def acted(actor: str, first: int, last: int) -> int:
        return len(
            {a for row, a in acts if row.event.actor == actor and first <= row.event.day <= last}
        )

    hits = []
    fired: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    actors = sorted({actor for actor, _ in events})
    act_rows = gathered([row for row, _ in acts], lambda e: (e.day, e.actor))
    for (day, actor), rows in sorted(act_rows.items()):
        k = acted(actor, day - p.days + 1, day)
        n = uploaded(actor, day - p.days + 1, day)
        highest = max((was for then, was in fired[actor] if then >= day - p.days), default=0)
        closed = day - p.days, day - 1
        others = [o for o in actors if o != actor and uploaded(o, *closed) >= p.minimum_events]
        peers = [o for o in others if world.kind(o) == world.kind(actor)]
        if len(peers) < p.minimum_peers:
            trades = [t for t in TRADES if world.kind(actor) in t]
            peers = [o for o in others if any(world.kind(o) in t for t in trades)]
        if k < max(p.minimum_acts, 2 * highest) or len(peers) < p.minimum_peers:
            continue
        theirs = [(acted(other, *closed), uploaded(other, *closed)) for other in peers]
        rates = [a / u for a, u in theirs]
        chance = max(sum(a for a, _ in theirs), 1) / sum(u for _, u in theirs)
        mean = statistics.fmean(rates)
        expected = n * max(mean, chance)
        fewer = sum(math.exp(-expected) * expected**i / math.factorial(i) for i in range(k))
        if 1 - fewer > 1e-6:  # where it is not tiny the difference is exact enough
            by_chance = 1 - fewer if k > expected + 1 else 1.0
        else:
            by_chance = sum(
                math.exp(i * math.log(expected) - expected - math.lgamma(i + 1))
                for i in range(k, k + 100)
            )
        if k / n > mean + p.sigma * statistics.pstdev(rates) and by_chance <= p.chance:
            fired[actor].append((day, k))
            hits.append(hit("record_tampering", rows[0], 1000 * k / n, actor, NOBODY))
    return hits


def acts_of(row: Enriched, named: dict[tuple[str, int], Event], p: Any) -> list[Any]:
    """Return the acts an event is part of: equal ones are one act."""
    event = row.event
    found: list[Any] = []
    edit = event.kind == EventKind.CODE_REPLACEMENT
    if event.role == Role.VOID and not row.has(s.VOID_UNMATCHED):
        assert event.voids is not None
        before = named[event.code, event.voids]
        end = before.time + (DAY if before.date_only else 0)
        edit = event.time - end > p.correction_hours * HOUR
    if edit:
        found.append((event.day, event.bill or event.key))
    end = event.time + (DAY if event.date_only else 0)
    if event.record_time is not None and event.record_time - end > p.backdate_days * DAY:
        found.append(("recorded", event.record_time // DAY))
    return found


# ---------------------------------------------------------------- incomplete_scanning


def incomplete_scanning(history: History) -> list[RawHit]:
    p = history.p("incomplete_scanning")
    receipts = [
        row
        for row in history
        if (row.event.role == Role.RECEIVE or row.event.kind == EventKind.REMNANT_RECEIPT)
        and row.event.bill
        and row.event.receiver
        and row.event.receivable is not None
    ]
    bills = []
    for rows in gathered(receipts, lambda e: (e.receiver, e.bill)).values():
        open_one: list[Enriched] = []
        for row in rows:
            if open_one and row.event.day > open_one[0].event.day + p.settle_days:
                bills.append(Bill(open_one))
                open_one = []
            open_one.append(row)
        bills.append(Bill(open_one))
    seen = max((row.event.day for row in receipts), default=0)
    hits = []
    fired: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for begun in sorted({bill.day for bill in bills if bill.counts}):
        if begun + p.settle_days > seen:
            continue
        for party in sorted({bill.party for bill in bills if bill.counts and bill.day == begun}):
            window = [
                bill
                for bill in bills
                if bill.counts and bill.party == party and begun - p.days < bill.day <= begun
            ]
            due = sum(bill.due for bill in window)
            share = sum(min(bill.scanned, bill.due) for bill in window) / due
            if len(window) < p.minimum_bills or due < p.minimum_due or share >= p.share:
                continue
            lately = [was for then, was in fired[party] if then >= begun - p.days]
            if lately and share > min(lately) - 0.05:
                continue
            fired[party].append((begun, share))
            lead = min(
                (bill for bill in window if bill.day == begun),
                key=lambda bill: (min(bill.scanned, bill.due) - bill.due, bill.rows[0].event.key),
            )
            time = (begun + p.settle_days) * DAY
            hits.append(hit("incomplete_scanning", lead.rows[0], 100 * share, party, NOBODY, time))
    return hits


class Bill:
    """The receipts of one bill."""

    def __init__(self, rows: list[Enriched]) -> None:
        events = [row.event for row in rows]
        self.rows = rows
        self.day = events[0].day
        self.party = str(events[0].receiver)
        self.due = max(e.receivable or 0 for e in events)
        self.scanned = sum(max(e.quantity, 1) for e in events)
        unknown = any((e.pack_level or 1) > 1 and e.quantity <= 1 for e in events)
        self.counts = self.due > 0 and not unknown


# ---------------------------------------------------------------- disjoint_business


def disjoint_business(history: History) -> list[RawHit]:
    world, p = history.world, history.p("disjoint_business")
    if not world.enterprises:
        return []
    judged = [
        row
        for row in history
        if row.event.role in (Role.SHIP, Role.RECEIVE)
        and (row.event.device or row.event.operator)
        and row.event.giver
        and row.event.receiver
        and not world.related(row.event.giver, row.event.receiver)
        and world.known(worked_at(row.event))
        and one_place(world, worked_at(row.event))
    ]
    hits = []
    for party, rows in gathered(judged, worked_at).items():
        days = sorted({row.event.day for row in rows})
        last: int | None = None
        fired: list[tuple[int, int]] = []
        for day in days:
            if day < days[0] + p.days - 1 or (last is not None and day - last < p.pause_days):
                continue
            last = day
            window = [row for row in rows if day - p.days < row.event.day <= day]
            found = businesses(window, p)
            highest = max((n for then, n in fired if then >= day - p.days), default=0)
            if len(found) < 2 or len(found) <= highest:
                continue
            fired.append((day, len(found)))
            smallest = min(found, key=lambda b: (len(dealings_of(b)), b[0].event.key))
            hits.append(hit("disjoint_business", smallest[0], len(found), party, NOBODY, day * DAY))
    return hits


def dealings_of(rows: list[Enriched]) -> set[Any]:
    return {
        (e.day, other_side(e), e.device, e.operator, e.role) for e in (row.event for row in rows)
    }


def other_side(event: Event) -> str | None:
    return event.receiver if event.role == Role.SHIP else event.giver


def businesses(rows: list[Enriched], p: Any) -> list[list[Enriched]]:
    """Return the rows of each of those businesses that compete with another."""
    parts: list[tuple[set[Any], list[Enriched]]] = []
    for row in rows:
        e = row.event
        nodes = {("party", other_side(e)), ("device", e.device), ("operator", e.operator)}
        nodes = {node for node in nodes if node[1]}
        meeting = [part for part in parts if part[0] & nodes]
        parts = [part for part in parts if not part[0] & nodes]
        parts.append(
            (
                nodes.union(*(part[0] for part in meeting)),
                [*(r for part in meeting for r in part[1]), row],
            )
        )
    large = []
    for _, mine in parts:
        bought = {r.event.giver for r in mine if r.event.role == Role.RECEIVE}
        sold = {r.event.receiver for r in mine if r.event.role == Role.SHIP}
        if (
            len(bought) >= p.suppliers
            and len(sold) >= p.customers
            and len(dealings_of(mine)) - len(bought | sold) >= p.dealings
        ):
            large.append(sorted(mine, key=lambda r: moment(r.event)))

    def drugs(mine: list[Enriched]) -> set[str | None]:
        return {r.event.drug for r in mine} - {None}

    return [
        mine
        for mine in large
        if any(mine is not other and len(drugs(mine) & drugs(other)) >= p.drugs for other in large)
    ]


DETECTORS = {
    "copied_receipt": copied_receipt,
    "disjoint_business": disjoint_business,
    "incomplete_scanning": incomplete_scanning,
    "proxy_scanning": proxy_scanning,
    "record_tampering": record_tampering,
    "serial_run": serial_run,
}
