"""Traces told slowly: where each pack of a batch stands, who gave what to whom, and reach.

Written from ``docs/trace.md``, pack by pack and record by record.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.reference.custody import Code
from tests.reference.events import DAY, Event
from tests.reference.inside import Aggregation
from tests.reference.state import State
from tests.reference.story import Story
from tests.reference.world import Settings, World
from trace_engine.events.kinds import EventKind, Role

OUTGOING = {Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.RECALL_SHIP}
INCOMING = {Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE, Role.RECALL_RECEIVE}
WAYS = {
    Role.SHIP: "trade",
    Role.RECEIVE: "trade",
    Role.RETURN_SHIP: "return",
    Role.RETURN_RECEIVE: "return",
    Role.TRANSFER_SHIP: "transfer",
    Role.TRANSFER_RECEIVE: "transfer",
    Role.RECALL_SHIP: "recall",
    Role.RECALL_RECEIVE: "recall",
}
TYPES = {
    EventKind.PRODUCTION_SHIPMENT: "production",
    EventKind.SUPPLY_SHIPMENT: "supply",
    EventKind.SUPPLY_RECEIPT: "supply",
    EventKind.DIRECT_SHIPMENT: "direct",
    EventKind.GIFT_SHIPMENT: "gift",
    EventKind.GIFT_RECEIPT: "gift",
    EventKind.OTHER_SHIPMENT: "other",
    EventKind.OTHER_RECEIPT: "other",
}
TYPE_OF_WAY = {"trade": "sale", "return": "return", "transfer": "internal", "recall": "recall"}
INTO = {"trade": "received", "return": "returned_in", "transfer": "transferred_in"}
OUT_OF = {"trade": "shipped", "return": "returned_out", "transfer": "transferred_out"}
IDLE = (Role.NONE, Role.VOID)
NOWHERE = ("lost", "unnamed", "unknown")


@dataclass
class Move:
    """A pack's way from one enterprise to another, as often as it went."""

    giver: str
    receiver: str
    way: str
    type: str = ""
    shipments: set[Any] = field(default_factory=set)  # bills, or days
    receipts: set[Any] = field(default_factory=set)
    times: int = 0
    unreceived: int = 0
    unshipped: int = 0
    seen: list[int] = field(default_factory=list)


@dataclass
class Pack:
    """One pack: its records in order, its last state, where it stands."""

    code: str
    done: list[Event]
    state: State
    drug: str | None = None
    batch: str | None = None
    place: str = "unknown"
    party: str | None = None
    giver: str | None = None
    moves: list[Move] = field(default_factory=list)


def lives(
    events: Iterable[Event], world: World, until: int | None = None, every: bool = False
) -> list[Pack]:
    """Return the packs of ``events``, those made void left out, as of ``until`` (µs).

    Or ``every`` code, be it a larger package, or replaced, or all its events made void.
    """
    listed = list(events)
    by_code: dict[str, list[Event]] = defaultdict(list)
    for event in listed:
        by_code[event.code].append(event)
    last_day = max((e.day for e in listed), default=0)

    def settings(day: int) -> Settings:
        return Settings()

    stories = {c: Story(c, by_code[c], world, settings, last_day) for c in sorted(by_code)}
    void_day = {
        id(event): day
        for story in stories.values()
        for event, day in zip(story.voids.void, story.voids.days, strict=True)
    }
    known = Aggregation(listed, void_day, last_day)
    stated = [e for e in listed if e.parent and e.parent != e.code]
    outer = {e.parent for e in stated if e.kind == EventKind.PACK or e.role not in IDLE}
    old = {e.parent for e in stated if e.kind == EventKind.CODE_REPLACEMENT}
    inside = [
        (e.code, e.parent)
        for e in stated
        if e.kind in (EventKind.PACK, EventKind.CODE_REPLACEMENT) or e.role not in IDLE
    ]
    packs: list[Pack] = []
    whole_story: dict[str, Pack] = {}
    for code, story in stories.items():
        whole = story.telling(len(story.voids.void), known)
        own = [e for e in whole.done if e.code == code and e.role != Role.VOID]
        pack = Pack(code, whole.done, whole.state)
        with_batch = [e for e in own if e.batch_no]
        if with_batch:
            pack.drug, pack.batch = with_batch[0].drug, with_batch[0].batch_no
        else:
            pack.drug = next((e.drug for e in own if e.drug), None)
        whole_story[code] = pack
    for _ in range(4):
        heirs: dict[str, set[str]] = defaultdict(set)
        for child, outer_code in inside:
            if whole_story[child].batch is None and outer_code in whole_story:
                heirs[child] |= {whole_story[outer_code].batch or ""} - {""}
        for child, names in heirs.items():
            whole_story[child].batch = min(names, default=None)
    for code, pack in whole_story.items():
        if until is not None and any(e.time > until for e in pack.done):
            before = [e for e in pack.done if e.time <= until]
            told = Code(world, settings)
            told.live(before, max((e.day for e in before), default=0))
            pack.done, pack.state = told.done, told.state
        pack.done = [e for e in pack.done if e.role != Role.VOID]
        if not pack.done and not every:
            continue
        stand(pack)
        pack.moves = moves(pack.done, world)
        if every or (code not in outer and code not in old):
            packs.append(pack)
    return packs


def stand(pack: Pack) -> None:
    """Say where the pack stands."""
    state = pack.state
    told = [e for e in pack.done if e.role not in (Role.NONE, Role.VOID)]
    deaths = [e for e in told if e.role == Role.DESTROY]
    carried = [
        e
        for e in told
        if e.role in WAYS or e.role in (Role.ORIGIN, Role.CONSUMER_RETURN, Role.STOCK_GAIN)
    ]
    last = carried[-1] if carried else None
    pack.party = state.owner
    if state.dead:
        by = deaths[-1]
        pack.place, pack.party = "destroyed", by.giver or by.receiver or by.actor
    elif state.sales:
        pack.place, pack.party = "sold", state.sale_giver
    elif told and told[-1].kind == EventKind.STOCK_LOSS:
        pack.place, pack.party = "lost", told[-1].giver
    elif state.holder:
        pack.place, pack.party = "held", state.holder
    elif last and last.role in OUTGOING and last.receiver:
        pack.place, pack.party, pack.giver = "in_transit", last.receiver, last.giver
    elif last and last.role in OUTGOING:
        pack.place, pack.party = "unnamed", last.giver
    elif state.in_transit_to:
        pack.place, pack.party, pack.giver = "in_transit", state.owner, state.owner_before


def moves(done: Sequence[Event], world: World) -> list[Move]:
    """Return the pack's movements between enterprises."""
    found: dict[tuple[str, str, str], Move] = {}
    for event in done:
        way = WAYS.get(event.role)
        if way is None or not event.giver or not event.receiver or event.giver == event.receiver:
            continue
        key = (event.giver, event.receiver, way)
        move = found.setdefault(key, Move(*key))
        shipment = event.role in OUTGOING
        if not move.type or (shipment and not move.shipments):
            move.type = TYPES.get(event.kind, TYPE_OF_WAY[way])
        mark = event.bill if event.bill else ("day", event.day)
        (move.shipments if shipment else move.receipts).add(mark)
        move.seen.append(event.time)
    for move in found.values():
        move.times = max(len(move.shipments), len(move.receipts))
        move.unreceived = move.times - len(move.receipts)
        move.unshipped = move.times - len(move.shipments)
    for sold in found.values():
        for taken in found.values():
            if (
                (sold.giver, sold.way) == (taken.giver, taken.way)
                and sold.receiver != taken.receiver
                and world.related(sold.receiver, taken.receiver)
            ):
                both = min(sold.unreceived, taken.unshipped)
                sold.unreceived -= both
                sold.times -= both
                taken.unshipped -= both
    return [move for move in found.values() if move.times]


def batch(
    packs: Iterable[Pack], drug: str, batch_no: str, since: int | None = None
) -> dict[str, Any]:
    """Return what a trace of the batch tells, by names."""
    mine = [p for p in packs if (p.drug, p.batch) == (drug, batch_no)]
    parties: dict[str, Counter[str]] = defaultdict(Counter)
    flows: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    complete: Counter[str] = Counter()
    origins: Counter[tuple[str, str]] = Counter()
    for pack in mine:
        name = "unaccounted" if pack.place in NOWHERE else pack.place
        if pack.party:
            parties[pack.party][name] += 1
        if pack.giver:
            parties[pack.giver] += Counter()
        made = [e for e in pack.done if e.role == Role.ORIGIN]
        told = [e for e in pack.done if e.role not in (Role.NONE, Role.VOID)]
        if told and (told[0].giver or told[0].receiver):
            parties[told[0].giver or told[0].receiver or ""] += Counter()
        if made and made[0].receiver:
            parties[made[0].receiver]["made"] += 1
            origins[made[0].receiver, "made"] += 1
        elif not made and told and (told[0].giver or told[0].receiver):
            origins[told[0].giver or told[0].receiver or "", "first_seen"] += 1
        complete["without_origin"] += not made
        for event in pack.done:
            if event.role in OUTGOING and not (event.giver and event.receiver):
                complete["shipped_to_nobody"] += 1
            if event.role in INCOMING and not (event.giver and event.receiver):
                complete["received_from_nobody"] += 1
        for move in pack.moves:
            if since is not None and max(move.seen) < since:
                continue
            flow = flows[move.giver, move.receiver, move.type]
            flow["codes"] += move.times
            flow["only_shipped"] += move.unreceived
            flow["only_received"] += move.unshipped
            parties[move.giver][OUT_OF.get(move.way, "recalled_out")] += move.times
            parties[move.receiver][INTO.get(move.way, "recalled_in")] += move.times
    for pack in mine:
        carried = [
            e
            for e in pack.done
            if e.role in WAYS or e.role in (Role.ORIGIN, Role.CONSUMER_RETURN, Role.STOCK_GAIN)
        ]
        if pack.place == "in_transit" and carried[-1].role in OUTGOING and pack.party:
            name = INTO.get(WAYS[carried[-1].role], "recalled_in")
            parties[pack.party][name] -= 1
    moved = sum(f["codes"] for f in flows.values())
    alone = sum(f["only_shipped"] + f["only_received"] for f in flows.values())
    return {
        "codes": len(mine),
        "places": Counter(p.place for p in mine),
        "parties": {
            party: {n: c for n, c in counts.items() if c > 0} for party, counts in parties.items()
        },
        "flows": {key: {n: c for n, c in f.items() if c} for key, f in flows.items()},
        "origins": dict(origins),
        "movements": moved,
        "linked": moved - alone,
        **{n: complete[n] for n in ("without_origin", "shipped_to_nobody", "received_from_nobody")},
    }


@dataclass(frozen=True)
class PlainEdge:
    """An edge of the supply graph by names."""

    source: str
    target: str
    drug: str
    first: int
    last: int


def reach(
    edges: Sequence[PlainEdge], party: str, *, backwards: bool = False
) -> dict[str, tuple[int, int]]:
    """Return (fewest hops, earliest arrival) of whom goods can have reached, by trying every way.

    A state is (party, drug, arrival); every edge of the drug that is still possible is followed.
    Backwards time runs the other way, and the second is the latest departure.
    """

    def ends(edge: PlainEdge) -> tuple[str, str, int, int]:
        until = edge.last + DAY - 1 if edge.last % DAY == 0 else edge.last
        if backwards:
            return edge.target, edge.source, -until, -edge.first
        return edge.source, edge.target, edge.first, until

    best: dict[str, tuple[int, int]] = {}
    for drug in sorted({e.drug for e in edges}):
        frontier = {(party, -(2**62))}
        seen = set(frontier)
        hops = 0
        while frontier:
            hops += 1
            following = set()
            for at, since in frontier:
                for edge in edges:
                    source, target, first, last = ends(edge)
                    if edge.drug != drug or source != at or last < since:
                        continue
                    state = (target, max(first, since))
                    if state not in seen:
                        following.add(state)
            for target, time in following:
                if target != party:
                    least, earliest = best.get(target, (hops, time))
                    best[target] = (min(least, hops), min(earliest, time))
            seen |= following
            frontier = following
    return {p: (hops, -time if backwards else time) for p, (hops, time) in best.items()}
