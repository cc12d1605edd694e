"""Custody of one code, told slowly: docs/semantics.md line by line.

The history of a code is put into canonical order one event at a time (the order depends on the
state reached so far) and each event is applied to explicit stacks. Where an event is made void the
story is told again without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.reference.events import HOUR, MINUTE, Event
from tests.reference.order import place_of, rank
from tests.reference.state import (
    LARGE_GROUP,
    MOVES_AFTER_DEATH,
    MOVES_AFTER_RECALL,
    MOVES_AFTER_SALE,
    SHIPPING_ROLES,
    WATCHED,
    Enriched,
    Hop,
    Moment,
    Owned,
    State,
    Waiting,
    longest_gap,
    moment_of,
)
from tests.reference.world import Settings, World
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role


class Code:
    """The life of one code, told once from beginning to end; voids do nothing here."""

    def __init__(self, world: World, settings: Callable[[int], Settings]) -> None:
        self.world = world
        self.settings = settings
        self.state = State()
        self.done: list[Event] = []  # in the order applied
        self.out: list[Enriched] = []
        self.waiting: list[Waiting] = []

    # ------------------------------------------------------------ order

    def live(self, events: Iterable[Event], last_day: int) -> None:
        """Apply all events of the code and let time pass to the beginning of ``last_day``."""
        by_day: dict[int, list[Event]] = {}
        for event in events:
            by_day.setdefault(event.day, []).append(event)
        if not by_day:
            return
        for day in range(min(by_day), last_day + 1):
            self.fall_due(day)
            self.one_day(by_day.get(day, []))

    def one_day(self, events: list[Event]) -> None:
        if any(event.date_only for event in events):
            self.tie_group(events)
            return
        for time in sorted({event.time for event in events}):
            self.tie_group([event for event in events if event.time == time])

    def tie_group(self, events: list[Event]) -> None:
        if len(events) > LARGE_GROUP:
            for event in sorted(events, key=lambda e: (e.time, e.key)):
                self.step(event)
            return
        remaining = list(events)
        while remaining:
            timed = [event.time for event in remaining if not event.date_only]
            candidates = [e for e in remaining if e.date_only or e.time == min(timed)]
            chosen = min(
                candidates,
                key=lambda e: (rank(self.state, e, [r for r in remaining if r is not e]), e.key),
            )
            remaining.remove(chosen)
            self.step(chosen)

    # ------------------------------------------------------------ deadlines

    def fall_due(self, day: int) -> None:
        for hop in self.state.made:
            settings = self.settings(hop.moment.day)
            if hop.awaits_receipt and day == hop.moment.day + settings.unmatched_shipment_days + 1:
                self.waiting.append(Waiting(hop.event, day, True, False))
            if hop.awaits_shipment and day == hop.moment.day + settings.unmatched_receipt_days + 1:
                self.waiting.append(Waiting(hop.event, day, False, hop.owner_on_record))

    # ------------------------------------------------------------ one event

    def step(self, event: Event) -> None:
        """Record what custody says of ``event`` and move on."""
        row = Enriched(event, owner_before=self.state.owner)
        row.previous = self.done[-1] if self.done else None
        if event.giver is not None and event.giver == self.state.owner:
            row.cost = self.state.paid
        self.apply(event, row)
        self.done.append(event)
        state = self.state
        row.hops, row.crossings = state.hops, state.crossings
        row.run, row.sales = state.run, state.sales
        self.out.append(row)

    def apply(self, event: Event, row: Enriched) -> None:
        role = event.role
        if role in (Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE) and self.world.strangers(
            event.giver, event.receiver
        ):  # a sale under another name
            role = Role.SHIP if role == Role.TRANSFER_SHIP else Role.RECEIVE
        self.note_movement(event, role, row)
        self.note_place(event, row)
        if role == Role.ORIGIN:
            self.own_if_unknown(event.receiver)
            self.hold(event.receiver)
        elif role == Role.SHIP:
            self.ship(event, row)
        elif role == Role.RECEIVE:
            self.receive(event, row)
        elif role in (Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE):
            self.transfer(event)
        elif role in (
            Role.RETURN_SHIP,
            Role.RETURN_RECEIVE,
            Role.RECALL_SHIP,
            Role.RECALL_RECEIVE,
        ):
            self.give_back(event, row)
        elif role == Role.PERSON_SALE:
            self.sell(event, row)
        elif role == Role.CONSUMER_RETURN:
            self.take_back(event)
        elif role == Role.DESTROY and not self.state.dead:
            self.state.dead, self.state.since = True, moment_of(event)
        elif role == Role.STOCK_GAIN:
            self.own_if_unknown(event.receiver)
            if self.world.related(event.receiver, self.state.owner):
                self.hold(event.receiver)

    def hold(self, party: str | None) -> None:
        """Put the code into hands; while it is sold, it is in nobody's."""
        self.state.holder = party if self.state.sales == 0 else None

    def own_if_unknown(self, party: str | None) -> None:
        if not self.state.owners and party is not None:
            self.state.owners = [Owned(party)]

    # ------------------------------------------------------------ hops

    def seller(self, event: Event) -> str:
        """Return who gives the goods in a hop: the giver if it is of the owner's house."""
        owner = self.state.owners[-1].owner
        giver = event.giver
        return giver if giver is not None and self.world.related(giver, owner) else owner

    def crossed(self, event: Event, before: str | None, after: str) -> bool:
        provinces = [self.province(event, party) for party in (before, after)]
        return None not in provinces and provinces[0] != provinces[1]

    def province(self, event: Event, party: str | None) -> str | None:
        region = self.world.region(party)
        if region is None and party == event.giver:
            region = event.from_region
        elif region is None and party == event.receiver:
            region = event.to_region
        return region[:2] if region else None

    def hop_to(self, event: Event, receiver: str, row: Enriched) -> Hop:
        state = self.state
        if any(owned.owner == receiver for owned in state.owners[:-1]):
            row.signal |= s.EARLIER_OWNER
        crossed = self.crossed(event, self.seller(event), receiver)
        row.signal |= s.HOP | (s.CROSSED if crossed else 0)
        hop = Hop(event, receiver, moment_of(event))
        dwell = int(self.settings(event.day).dwell_hours * HOUR)
        in_a_row = (
            state.current is not None
            and state.since is None
            and longest_gap(state.current.moment, hop.moment) <= dwell
        )
        state.run = state.run + 1 if in_a_row else 1
        state.below = state.current
        self.watch(hop)
        state.owners.append(Owned(receiver, by_hop=True, crossed=crossed))
        state.hops += 1
        state.crossings += crossed
        state.paid = event.price
        return hop

    def watch(self, hop: Hop) -> None:
        """Make a hop the current one; the eight latest of a code are watched."""
        self.state.current = hop
        self.state.made.append(hop)
        for old in self.state.made[:-WATCHED]:
            old.awaits_receipt = old.awaits_shipment = False

    def own_without_hop(self, party: str) -> None:
        state = self.state
        state.below, state.current = state.current, None
        state.owners.append(Owned(party))
        state.paid = None

    def ship(self, event: Event, row: Enriched) -> None:
        state, giver, receiver = self.state, event.giver, event.receiver
        if event.kind != EventKind.DIRECT_SHIPMENT:
            self.check_source(giver, row)
        if receiver is None or receiver == giver:
            if receiver is None:
                self.hold(None)
            return
        current = state.current
        if state.owner == receiver:
            if current is not None:
                current.awaits_shipment = False
            if event.price is not None:
                state.paid = event.price
            return
        if current is not None and current.awaits_receipt and state.owner_before == giver:
            row.signal |= s.REDIRECTED
            top = state.owners[-1]
            state.crossings -= top.crossed
            top.crossed = self.crossed(event, giver, receiver)
            state.crossings += top.crossed
            row.signal |= s.CROSSED if top.crossed else 0
            current.awaits_receipt = False
            top.owner = receiver
            self.watch(Hop(event, receiver, moment_of(event), awaits_receipt=True))
            state.paid = event.price
            self.hold(None)
            return
        self.own_if_unknown(giver)
        if state.owners:
            self.hop_to(event, receiver, row).awaits_receipt = True
        else:
            state.owners = [Owned(receiver)]
        self.hold(None)

    def receive(self, event: Event, row: Enriched) -> None:
        state, giver, receiver = self.state, event.giver, event.receiver
        assert receiver is not None, "an incoming event has a receiver: its actor"
        if giver == receiver:
            self.own_if_unknown(receiver)
            self.hold(receiver)
            return
        current, below = state.current, state.below
        delivered_to_group = (
            current is not None
            and current.awaits_receipt
            and state.owner is not None
            and self.world.related(receiver, state.owner)
        )
        if state.owner == receiver or delivered_to_group:
            if current is not None and current.awaits_receipt:
                current.awaits_receipt = False
                before = state.owner_before
                if giver and before and not self.world.related(giver, before):
                    row.signal |= s.RECEIPT_MISMATCH
            if event.price is not None:
                state.paid = event.price
        elif below is not None and below.awaits_receipt and below.receiver == receiver:
            below.awaits_receipt = False
            return
        elif not state.owners and giver is None:
            state.owners = [Owned(receiver)]
            state.paid = event.price
        else:
            on_record = state.owner is not None and state.owner == giver
            self.own_if_unknown(giver)
            hop = self.hop_to(event, receiver, row)
            if giver is not None:
                hop.awaits_shipment = True
                hop.owner_on_record = on_record
                row.signal |= s.RECEIPT_ONLY | (s.OWNER_ON_RECORD if on_record else 0)
        self.hold(receiver)

    def give_back(self, event: Event, row: Enriched) -> None:
        state, receiver = self.state, event.receiver
        recall = event.role in (Role.RECALL_SHIP, Role.RECALL_RECEIVE)
        if recall and not state.recalled and not state.dead:
            state.since = moment_of(event)
        state.recalled = state.recalled or recall
        if receiver is None:
            return
        current = state.current
        if state.owner == receiver:
            if current is not None:
                current.awaits_receipt = current.awaits_shipment = False
        elif state.owner_before == receiver:
            taken = state.owners.pop()
            state.hops -= taken.by_hop
            state.crossings -= taken.crossed
            row.signal |= s.RETURNED
            if current is not None:
                current.awaits_receipt = current.awaits_shipment = False
            state.current, state.below = state.below, None
            state.paid = None
            state.run = 0
        else:
            self.own_without_hop(receiver)
        arrives = event.role in (Role.RETURN_RECEIVE, Role.RECALL_RECEIVE)
        self.hold(receiver if arrives else None)

    def transfer(self, event: Event) -> None:
        if not self.state.owners:
            self.own_if_unknown(event.giver or event.receiver)
        if event.receiver is not None:
            self.hold(event.receiver)

    # ------------------------------------------------------------ sales to persons

    def sell(self, event: Event, row: Enriched) -> None:
        state, giver = self.state, event.giver
        sold = state.sales > 0
        again = sold and giver == state.sale_giver
        capacity = self.world.capacity(event.drug)
        continues = again and event.split and state.split_open
        if continues and (capacity is None or state.split_quantity + event.quantity <= capacity):
            state.split_quantity += event.quantity
        elif continues or not (again and event.bill is not None and event.bill == state.sale_bill):
            self.check_source(giver, row)
            row.signal |= s.NEW_SALE
            if sold:
                row.signal |= s.REPEAT_SALE
                self.name_sale(row)
            state.sales += 1
            state.sale_giver, state.sale = giver, moment_of(event)
            state.sale_bill = event.bill
            state.split_open, state.split_quantity = event.split, event.quantity
        self.own_if_unknown(giver)
        self.hold(None)

    def take_back(self, event: Event) -> None:
        state = self.state
        state.sales = max(0, state.sales - 1)
        if state.owner != event.receiver and event.receiver is not None:
            self.own_without_hop(event.receiver)
        self.hold(event.receiver)

    def name_sale(self, row: Enriched) -> None:
        """Say which sale to a person the event comes after."""
        sale = self.state.sale
        assert sale is not None, "sold, so there was a sale"
        row.signal |= s.SALE_DATE_ONLY if sale.date_only else 0
        row.sale_giver, row.sale_time = self.state.sale_giver, sale.time

    # ------------------------------------------------------------ what an event gives away

    def check_source(self, giver: str | None, row: Enriched) -> None:
        state, related = self.state, self.world.related
        if state.owner is None:
            row.signal |= s.UNKNOWN_SOURCE
            return
        row.signal |= s.SOURCE_CHECKED
        fine = (
            giver is None
            or related(giver, state.owner)
            or related(giver, state.holder)
            or any(owned.owner == giver for owned in state.owners)
        )
        if not fine:
            row.signal |= s.NO_SOURCE

    def certainly_after(self, event: Event, earlier: Moment) -> bool:
        later = moment_of(event)
        if later.date_only or earlier.date_only:
            return later.day > earlier.day
        skew = self.settings(event.day).clock_skew_minutes * MINUTE
        return later.time - earlier.time > 2 * skew

    def note_movement(self, event: Event, role: Role, row: Enriched) -> None:
        state = self.state
        if (
            role in MOVES_AFTER_SALE
            and state.sales > 0
            and state.sale is not None
            and self.certainly_after(event, state.sale)
        ):
            row.signal |= s.AFTER_SALE
            self.name_sale(row)
        barred = MOVES_AFTER_DEATH if state.dead else MOVES_AFTER_RECALL
        if state.since is not None and role in barred and self.certainly_after(event, state.since):
            row.signal |= s.AFTER_DEAD

    def note_place(self, event: Event, row: Enriched) -> None:
        place = place_of(event, self.world)
        if place is None:
            return
        before = self.state.scan
        if before is not None and before[1] != place:
            row.signal |= s.PLACED
            row.signal |= s.SHIPPED_BETWEEN if before[2] else 0
            row.signal |= s.LAST_DATE_ONLY if before[0].date_only else 0
            row.last_time, row.last_place, row.place = before[0].time, before[1], place
        self.state.scan = (moment_of(event), place, event.role in SHIPPING_ROLES)
