"""Which event of a tie group comes next, and where a scan took place (docs/semantics.md)."""

from __future__ import annotations

from tests.reference.events import Event
from tests.reference.state import CARRIES_NOTHING, INCOMING_ROLES, OUTGOING_ROLES, State
from tests.reference.world import World
from trace_engine.events.kinds import INFO, Role


def rank(state: State, event: Event, others: list[Event]) -> int:
    if event.role == Role.ORIGIN:
        return 0
    if event.role in OUTGOING_ROLES:
        return rank_outgoing(state, event, others)
    if event.role in INCOMING_ROLES:
        return rank_incoming(state, event, others)
    if event.role == Role.CONSUMER_RETURN:
        if state.sales > 0:
            return 1
        return 8 if any(o.role == Role.PERSON_SALE for o in others) else 6
    return {Role.DESTROY: 9, Role.VOID: 10}.get(event.role, 7)


def rank_outgoing(state: State, event: Event, others: list[Event]) -> int:
    giver = event.giver
    if (
        event.role == Role.PERSON_SALE
        and state.sales > 0
        and any(o.role == Role.CONSUMER_RETURN for o in others)
    ):
        return 8
    if giver is not None and state.holder == giver:
        if not any(o.role in OUTGOING_ROLES and o.giver == giver for o in others):
            return 2
        return 2 if comes_back(event, others) else 3
    if giver is not None and brought_to(state, giver, others):
        return 8
    if state.owner is None:
        return 5
    return 4 if state.owner == giver else 6


def rank_incoming(state: State, event: Event, others: list[Event]) -> int:
    giver, receiver = event.giver, event.receiver
    if receiver is not None and state.in_transit_to == receiver:
        return 1
    if receiver is not None and any(
        o.role in OUTGOING_ROLES and o.receiver == receiver and (giver is None or o.giver == giver)
        for o in others
    ):
        return 8
    if giver is not None and state.holder != giver and brought_to(state, giver, others):
        return 8
    if giver is not None and giver in (state.owner, state.holder):
        return 4
    return 5 if state.owner is None else 6


def brought_to(state: State, party: str, others: list[Event]) -> bool:
    """Whether another event brings the code to ``party`` (no person brings back what is not sold)."""
    return any(
        o.receiver == party
        and o.giver != party
        and o.role not in CARRIES_NOTHING
        and (o.role != Role.CONSUMER_RETURN or state.sales > 0)
        for o in others
    )


def comes_back(event: Event, others: list[Event]) -> bool:
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


def place_of(event: Event, world: World) -> str | None:
    """Return the region where goods were scanned, or None if unknown."""
    if not INFO[event.kind].physical:
        return None
    if event.role in (Role.DESTROY, Role.STOCK_CHANGE):
        outgoing = event.giver is not None
    else:
        outgoing = event.role in OUTGOING_ROLES
    if outgoing:
        stated, party = event.from_region, event.giver
    else:
        stated, party = event.to_region, event.receiver
    place = stated
    if place is None:
        place = world.region(party)
        if world.warehouses(party) - {place}:
            place = None
    return None if place is None or place.endswith("0000") else place
