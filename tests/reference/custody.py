"""Custody of one code, told slowly: docs/semantics.md line by line.

The history of a code is put into canonical order one event at a time (the order depends on the
state reached so far) and each event is applied to explicit stacks. A void rebuilds the state by
replaying, in the order in which they were applied, the events that still count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.reference.events import DAY, HOUR, MINUTE, Event
from tests.reference.world import Settings, World
from trace_engine.core import signals as s
from trace_engine.events.kinds import INCOMING, INFO, OUTGOING, EventKind, Role

OUTGOING_ROLES = {
    Role.SHIP,
    Role.RETURN_SHIP,
    Role.TRANSFER_SHIP,
    Role.RECALL_SHIP,
    Role.PERSON_SALE,
}
INCOMING_ROLES = {
    Role.RECEIVE,
    Role.RETURN_RECEIVE,
    Role.TRANSFER_RECEIVE,
    Role.RECALL_RECEIVE,
}
SHIPPING_ROLES = OUTGOING_ROLES - {Role.PERSON_SALE}
CARRIES_NOTHING = {Role.NONE, Role.VOID, Role.DESTROY, Role.STOCK_CHANGE}
MOVES_AFTER_SALE = {
    Role.SHIP,
    Role.RECEIVE,
    Role.RETURN_SHIP,
    Role.RETURN_RECEIVE,
    Role.TRANSFER_SHIP,
    Role.TRANSFER_RECEIVE,
}
MOVES_AFTER_DEATH = MOVES_AFTER_SALE | {Role.PERSON_SALE, Role.CONSUMER_RETURN}
MOVES_AFTER_RECALL = {Role.SHIP, Role.RECEIVE, Role.PERSON_SALE}
LARGE_GROUP = 64


@dataclass
class Hop:
    """How the present owner came to own the code."""

    event: Event
    time: int
    crossed: bool
    awaits_receipt: bool = False
    awaits_shipment: bool = False
    owner_on_record: bool = False


@dataclass
class Owned:
    """One entry of the stack of owners; ``hop`` is None where it came without a hop."""

    owner: str
    hop: Hop | None = None


@dataclass
class State:
    owners: list[Owned] = field(default_factory=list)
    holder: str | None = None
    hops: int = 0
    crossings: int = 0
    run: int = 0
    hop_time: int | None = None  # of the latest hop; of a dead or recalled code: ``since``
    paid: int | None = None
    sales: int = 0
    sale_giver: str | None = None
    sale_time: int | None = None
    sale_bill: object | None = None
    split_open: bool = False
    split_quantity: int = 0
    dead: bool = False
    recalled: bool = False
    since: int | None = None  # of death; of the recall while not dead
    scan: tuple[int, str, bool] | None = None  # time, region, outgoing

    @property
    def owner(self) -> str | None:
        return self.owners[-1].owner if self.owners else None

    @property
    def hop(self) -> Hop | None:
        return self.owners[-1].hop if self.owners else None

    @property
    def below(self) -> Owned | None:
        return self.owners[-2] if len(self.owners) > 1 else None

    @property
    def in_transit_to(self) -> str | None:
        return self.owner if self.hop is not None and self.hop.awaits_receipt else None


@dataclass
class Enriched:
    """One event and what custody says of it (columns of ``trace_engine.core.signals.Custody``)."""

    event: Event
    signal: int = 0
    hops: int = 0
    crossings: int = 0
    run: int = 0
    sales: int = 0
    owner_before: str | None = None
    cost: int | None = None
    previous: Event | None = None
    sale_giver: str | None = None
    sale_time: int | None = None
    last_time: int | None = None
    last_place: str | None = None
    place: str | None = None

    def has(self, bit: int) -> bool:
        return bool(self.signal & bit)


@dataclass(frozen=True)
class Waiting:
    """A hop whose shipment or receipt did not come in time."""

    event: Event
    deadline: int  # day at whose beginning it fell due
    shipment: bool  # True: shipped and not received; False: received and not shipped
    owner_on_record: bool


def longest_gap(earlier: int, later: int) -> int:
    """Return the largest distance the two moments could have, µs."""
    return later - earlier + (DAY if later % DAY == 0 else 0)


class Code:
    """The life of one code."""

    def __init__(self, world: World, settings: Callable[[int], Settings]) -> None:
        self.world = world
        self.settings = settings
        self.state = State()
        self.done: list[Event] = []  # in the order applied
        self.void: set[int] = set()  # keys of events made void
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
        remaining = list(events)
        large = len(events) > LARGE_GROUP
        while remaining:
            timed = [event.time for event in remaining if not event.date_only]
            candidates = [e for e in remaining if e.date_only or e.time == min(timed)]
            chosen = min(
                candidates,
                key=lambda e: (self.rank(e, [r for r in remaining if r is not e], large), e.key),
            )
            remaining.remove(chosen)
            self.step(chosen)

    def rank(self, event: Event, others: list[Event], large: bool) -> int:
        if event.role == Role.ORIGIN:
            return 0
        if event.role in OUTGOING_ROLES:
            return self.rank_outgoing(event, others, large)
        if event.role in INCOMING_ROLES:
            return self.rank_incoming(event, others)
        if event.role == Role.CONSUMER_RETURN:
            if self.state.sales > 0:
                return 1
            return 8 if any(o.role == Role.PERSON_SALE for o in others) else 6
        return {Role.DESTROY: 9, Role.VOID: 10}.get(event.role, 7)

    def rank_outgoing(self, event: Event, others: list[Event], large: bool) -> int:
        state, giver = self.state, event.giver
        if (
            event.role == Role.PERSON_SALE
            and state.sales > 0
            and any(o.role == Role.CONSUMER_RETURN for o in others)
        ):
            return 8
        if giver is not None and state.holder == giver:
            if not any(o.role in OUTGOING_ROLES and o.giver == giver for o in others):
                return 2
            return 2 if not large and self.comes_back(event, others) else 3
        if giver is not None and self.brought_to(giver, others):
            return 8
        if state.owner is None:
            return 5
        return 4 if state.owner == giver else 6

    def rank_incoming(self, event: Event, others: list[Event]) -> int:
        state, giver, receiver = self.state, event.giver, event.receiver
        if receiver is not None and state.in_transit_to == receiver:
            return 1
        if receiver is not None and any(
            o.role in OUTGOING_ROLES
            and o.receiver == receiver
            and (giver is None or o.giver == giver)
            for o in others
        ):
            return 8
        if giver is not None and state.holder != giver and self.brought_to(giver, others):
            return 8
        if giver is not None and giver in (state.owner, state.holder):
            return 4
        return 5 if state.owner is None else 6

    def brought_to(self, party: str, others: list[Event]) -> bool:
        return any(
            o.receiver == party and o.giver != party and o.role not in CARRIES_NOTHING
            for o in others
        )

    def comes_back(self, event: Event, others: list[Event]) -> bool:
        giver = event.giver
        if event.role == Role.PERSON_SALE:
            return any(o.role == Role.CONSUMER_RETURN and o.receiver == giver for o in others)
        if event.receiver is None:
            return False
        places = {event.receiver}  # where the code can be
        used: list[Event] = []
        while True:
            more = [
                o
                for o in others
                if o not in used
                and o.giver in places
                and o.receiver is not None
                and o.receiver != o.giver
            ]
            if any(o.receiver == giver for o in more):
                return True
            if not more:
                return False
            used += more
            places |= {o.receiver for o in more if o.receiver is not None}

    # ------------------------------------------------------------ deadlines

    def fall_due(self, day: int) -> None:
        for owned in self.state.owners:
            hop = owned.hop
            if hop is None:
                continue
            settings = self.settings(hop.time // DAY)
            if (
                hop.awaits_receipt
                and day == hop.time // DAY + settings.unmatched_shipment_days + 1
            ):
                self.waiting.append(Waiting(hop.event, day, True, hop.owner_on_record))
            if (
                hop.awaits_shipment
                and day == hop.time // DAY + settings.unmatched_receipt_days + 1
            ):
                self.waiting.append(Waiting(hop.event, day, False, hop.owner_on_record))

    # ------------------------------------------------------------ one event

    def step(self, event: Event) -> None:
        """Record what custody says of ``event`` and move on."""
        row = Enriched(event, owner_before=self.state.owner)
        row.previous = self.done[-1] if self.done else None
        if event.giver is not None and event.giver == self.state.owner:
            row.cost = self.state.paid
        if event.role == Role.VOID:
            self.undo(event, row)
        else:
            self.apply(event, row)
        self.done.append(event)
        state = self.state
        row.hops, row.crossings = state.hops, state.crossings
        row.run, row.sales = state.run, state.sales
        self.out.append(row)

    def undo(self, event: Event, row: Enriched) -> None:
        if event.voids is None or all(event.voids != known.key for known in self.done):
            row.signal |= s.VOID_UNMATCHED
            return
        self.void.add(event.voids)
        self.state = State()
        for known in self.done:
            if known.role != Role.VOID and known.key not in self.void:
                self.apply(known, Enriched(known))

    def apply(self, event: Event, row: Enriched) -> None:
        self.note_movement(event, row)
        self.note_place(event, row)
        role = event.role
        if role in (Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE):
            if self.world.strangers(event.giver, event.receiver):
                role = Role.SHIP if role == Role.TRANSFER_SHIP else Role.RECEIVE
            else:
                self.transfer(event)
        if role == Role.ORIGIN:
            self.own_if_unknown(event.receiver)
            self.hold(event.receiver)
        elif role == Role.SHIP:
            self.ship(event, row)
        elif role == Role.RECEIVE:
            self.receive(event, row)
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
            self.state.dead, self.state.since = True, event.time
        elif role == Role.STOCK_GAIN:
            self.own_if_unknown(event.receiver)
            if self.world.related(event.receiver, self.state.owner):
                self.hold(event.receiver)
        if self.state.since is not None:
            self.state.hop_time = self.state.since

    def hold(self, party: str | None) -> None:
        """Put the code into hands; while it is sold, it is in nobody's."""
        self.state.holder = party if self.state.sales == 0 else None

    def own_if_unknown(self, party: str | None) -> None:
        if not self.state.owners and party is not None:
            self.state.owners = [Owned(party)]

    # ------------------------------------------------------------ hops

    def crossed(self, event: Event, before: str, after: str) -> bool:
        provinces = [self.province(event, party) for party in (before, after)]
        return None not in provinces and provinces[0] != provinces[1]

    def province(self, event: Event, party: str) -> str | None:
        region = self.world.region(party)
        if region is None and party == event.giver:
            region = event.from_region
        elif region is None and party == event.receiver:
            region = event.to_region
        return region[:2] if region else None

    def hop_to(self, event: Event, receiver: str, row: Enriched) -> Hop:
        state = self.state
        before = state.owners[-1].owner
        if any(owned.owner == receiver for owned in state.owners[:-1]):
            row.signal |= s.EARLIER_OWNER
        hop = Hop(event, event.time, self.crossed(event, before, receiver))
        row.signal |= s.HOP | (s.CROSSED if hop.crossed else 0)
        dwell = int(self.settings(event.day).dwell_hours * HOUR)
        near = (
            state.hop is not None
            and state.hop_time is not None
            and longest_gap(state.hop_time, event.time) <= dwell
        )
        state.run = state.run + 1 if near else 1
        state.hop_time = event.time
        state.owners.append(Owned(receiver, hop))
        state.hops += 1
        state.crossings += hop.crossed
        state.paid = event.price
        return hop

    def ship(self, event: Event, row: Enriched) -> None:
        state, giver, receiver = self.state, event.giver, event.receiver
        if event.kind != EventKind.DIRECT_SHIPMENT:
            self.check_source(giver, row)
        if receiver is None or receiver == giver:
            if receiver is None:
                self.hold(None)
            return
        hop, below = state.hop, state.below
        if state.owner == receiver:
            if hop is not None:
                hop.awaits_shipment = False
            if event.price is not None:
                state.paid = event.price
            return
        if hop is not None and hop.awaits_receipt and below is not None and below.owner == giver:
            row.signal |= s.REDIRECTED
            state.crossings -= hop.crossed
            hop.crossed = self.crossed(event, below.owner, receiver)
            state.crossings += hop.crossed
            row.signal |= s.CROSSED if hop.crossed else 0
            hop.event, hop.time = event, event.time
            state.hop_time = event.time
            state.owners[-1].owner = receiver
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
        below = state.below
        if state.owner == receiver:
            if state.hop is not None:
                state.hop.awaits_receipt = False
            if giver and below and not self.world.related(giver, below.owner):
                row.signal |= s.RECEIPT_MISMATCH
            if event.price is not None:
                state.paid = event.price
        elif below and below.owner == receiver and below.hop and below.hop.awaits_receipt:
            below.hop.awaits_receipt = False
            return
        elif not state.owners and giver is None:
            state.owners = [Owned(receiver)]
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
            state.since = event.time
        state.recalled = state.recalled or recall
        if receiver is None:
            return
        below = state.below
        if state.owner == receiver:
            if state.hop is not None:
                state.hop.awaits_receipt = state.hop.awaits_shipment = False
        elif below is not None and below.owner == receiver:
            taken = state.owners.pop().hop
            if taken is not None:
                state.hops -= 1
                state.crossings -= taken.crossed
                row.signal |= s.RETURNED
            state.paid = None
            state.run = 0
        else:
            state.owners.append(Owned(receiver))
            state.paid = None
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
                if state.sale_time is not None and state.sale_time % DAY == 0:
                    row.signal |= s.SALE_DATE_ONLY
                row.sale_giver, row.sale_time = state.sale_giver, state.sale_time
            state.sales += 1
            state.sale_giver, state.sale_time = giver, event.time
            state.sale_bill = event.bill
            state.split_open, state.split_quantity = event.split, event.quantity
        self.own_if_unknown(giver)
        self.hold(None)

    def take_back(self, event: Event) -> None:
        state = self.state
        state.sales = max(0, state.sales - 1)
        if state.owner != event.receiver and event.receiver is not None:
            state.paid = None
            state.owners.append(Owned(event.receiver))
        self.hold(event.receiver)

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

    def certainly_after(self, event: Event, earlier: int) -> bool:
        if event.date_only or earlier % DAY == 0:
            return event.day > earlier // DAY
        skew = self.settings(event.day).clock_skew_minutes * MINUTE
        return event.time - earlier > 2 * skew

    def note_movement(self, event: Event, row: Enriched) -> None:
        state, role = self.state, event.role
        if (
            role in MOVES_AFTER_SALE
            and state.sales > 0
            and state.sale_time is not None
            and self.certainly_after(event, state.sale_time)
        ):
            row.signal |= s.AFTER_SALE
            row.signal |= s.SALE_DATE_ONLY if state.sale_time % DAY == 0 else 0
            row.sale_giver, row.sale_time = state.sale_giver, state.sale_time
        barred = MOVES_AFTER_DEATH if state.dead else MOVES_AFTER_RECALL if state.recalled else set()
        if role in barred and state.since is not None and self.certainly_after(event, state.since):
            row.signal |= s.AFTER_DEAD

    def note_place(self, event: Event, row: Enriched) -> None:
        place = place_of(event, self.world)
        if place is None:
            return
        before = self.state.scan
        if before is not None and before[1] != place:
            row.signal |= s.PLACED
            row.signal |= s.SHIPPED_BETWEEN if before[2] else 0
            row.signal |= s.LAST_DATE_ONLY if before[0] % DAY == 0 else 0
            row.last_time, row.last_place, row.place = before[0], before[1], place
        self.state.scan = (event.time, place, event.role in SHIPPING_ROLES)


def place_of(event: Event, world: World) -> str | None:
    """Return the region where goods were scanned, or None if unknown."""
    if not INFO[event.kind].physical:
        return None
    if event.kind in OUTGOING:
        stated, party = event.from_region, event.giver
    elif event.kind in INCOMING:
        stated, party = event.to_region, event.receiver
    else:
        return None
    place = stated
    if place is None:
        place = world.region(party)
        if world.warehouses(party) - {place}:
            place = None
    return None if place is None or place.endswith("0000") else place


def run(
    events: Iterable[Event],
    world: World,
    settings: Settings | Callable[[int], Settings] | None = None,
    last_day: int | None = None,
) -> tuple[list[Enriched], list[Waiting]]:
    """Return custody of all codes: enriched events (by code, in canonical order) and late hops."""
    listed = list(events)
    chosen = settings or Settings()
    by_day = chosen if callable(chosen) else (lambda day: chosen)
    if last_day is None:
        last_day = max((event.day for event in listed), default=0)
    by_code: dict[str, list[Event]] = {}
    for event in listed:
        by_code.setdefault(event.code, []).append(event)
    rows: list[Enriched] = []
    waiting: list[Waiting] = []
    for name in sorted(by_code):
        code = Code(world, by_day)
        code.live(by_code[name], last_day)
        rows += code.out
        waiting += code.waiting
    return rows, waiting


__all__ = ["Code", "Enriched", "Hop", "Owned", "State", "Waiting", "place_of", "run"]
