"""State of one code, and the columns custody fills (docs/semantics.md, "State of one code")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.reference.events import DAY, SECOND, Event
from trace_engine.events.kinds import Role

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
WATCHED = 8  # hops of one code that can still be confirmed or fall due


class Moment(NamedTuple):
    """A time as custody keeps it: whole seconds (in µs), and whether it is a whole day."""

    time: int
    date_only: bool

    @property
    def day(self) -> int:
        return self.time // DAY


def moment_of(event: Event) -> Moment:
    return Moment(event.time // SECOND * SECOND, event.date_only)


@dataclass
class Hop:
    """A change of owner that waits for its other half, or has it."""

    event: Event
    receiver: str
    moment: Moment
    awaits_receipt: bool = False
    awaits_shipment: bool = False
    owner_on_record: bool = False


@dataclass
class Owned:
    """One entry of the stack of owners."""

    owner: str
    by_hop: bool = False
    crossed: bool = False


@dataclass
class State:
    owners: list[Owned] = field(default_factory=list)
    current: Hop | None = None  # the hop that made the owner
    below: Hop | None = None  # the current hop when that one was made
    made: list[Hop] = field(default_factory=list)  # all hops, for their deadlines
    holder: str | None = None
    hops: int = 0
    crossings: int = 0
    run: int = 0
    paid: int | None = None
    sales: int = 0
    sale_giver: str | None = None
    sale: Moment | None = None
    sale_bill: object | None = None
    split_open: bool = False
    split_quantity: int = 0
    dead: bool = False
    recalled: bool = False
    since: Moment | None = None  # of death; of the recall while not dead
    scan: tuple[Moment, str, bool] | None = None  # when, region, by a shipment

    @property
    def owner(self) -> str | None:
        return self.owners[-1].owner if self.owners else None

    @property
    def owner_before(self) -> str | None:
        return self.owners[-2].owner if len(self.owners) > 1 else None

    @property
    def in_transit_to(self) -> str | None:
        return self.owner if self.current is not None and self.current.awaits_receipt else None


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


def longest_gap(earlier: Moment, later: Moment) -> int:
    """Return the largest distance the two moments could have, µs."""
    return later.time - earlier.time + (DAY if later.date_only else 0)
