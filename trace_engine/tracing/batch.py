"""Where the packs of a batch went, who holds them now, and where they came from.

Every pack known to be of the batch stands in exactly one place (:data:`PLACES`), so the places add
up to the packs. A place is what custody last knew (``docs/semantics.md``); where goods are on their
way without a receipt they are ``in_transit``, however long ago that was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import DEAD
from trace_engine.core.records import Records
from trace_engine.events.kinds import KINDS, Role
from trace_engine.graph.multigraph import TYPE_NAMES
from trace_engine.graph.trace import (
    LAST,
    LAST_DESTROYED,
    LAST_MOVE,
    ORIGIN,
    RECALL,
    RETURN,
    STOCK_LOSS,
    TRADE,
    WAY_OF_KIND,
    Movements,
    movements,
)
from trace_engine.tracing.packs import ToldPacks, tell_packs

if TYPE_CHECKING:
    from trace_engine.registry import RegistryView
    from trace_engine.tracing.tracer import Tracer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

PLACES = ("held", "in_transit", "sold", "destroyed", "lost", "unnamed", "unknown")
HELD, IN_TRANSIT, SOLD, DESTROYED, LOST, UNNAMED, UNKNOWN = range(7)
UNACCOUNTED = (LOST, UNNAMED, UNKNOWN)
"""Stock-taking missed it; it left to nobody named; no record says who has it."""

_BY_KIND = sorted(KINDS, key=lambda k: k.kind)
_OUTGOING = np.array(
    [
        k.role in (Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.RECALL_SHIP)
        for k in _BY_KIND
    ],
    np.bool_,
)
_PERSON_SALE = np.array([k.role == Role.PERSON_SALE for k in _BY_KIND], np.bool_)

# What of an enterprise is counted, in packs of the batch; the last five are where packs stand now.
COUNTS = (
    "made", "received", "shipped", "returned_in", "returned_out", "transferred_in",
    "transferred_out", "recalled_in", "recalled_out", "held", "in_transit", "sold", "destroyed",
    "unaccounted",
)  # fmt: skip
_IN = {TRADE: "received", RETURN: "returned_in", RECALL: "recalled_in"}
_OUT = {TRADE: "shipped", RETURN: "returned_out", RECALL: "recalled_out"}


@dataclass(frozen=True)
class Flow:
    """What one enterprise gave another of the batch, in one way."""

    source: int
    target: int
    type: str
    packs: int
    unreceived: int  # packs that only the giver recorded
    unshipped: int  # packs that only the receiver recorded
    first: int  # µs
    last: int


@dataclass(frozen=True)
class Packs:
    """Packs of a batch and where each stands; arrays of shape ``(packs,)``."""

    numbers: Int64
    place: npt.NDArray[np.int8]  # index into PLACES
    party: Int32  # who answers for it there: holder, receiver, seller, destroyer; -1 unknown
    giver: Int32  # in transit: from whom; else -1
    weight: Int64  # smallest packs this code stands for


@dataclass(frozen=True)
class BatchTrace:
    """The trace of a batch. Parties and drugs are numbers of the engine's vocabulary.

    ``places``: codes by place; ``place_packs`` the same in smallest packs. ``parties``: counts by
    party (names of :data:`COUNTS`) in codes, with ``first`` and ``last`` µs and ``level``, steps
    from where the batch came from. ``origins``: (party, how, codes, first time) with how ``made``,
    or ``first_seen`` where no event of production is known. ``tree``: (party, level, parent) in
    the order to draw. ``completeness``: see :func:`_completeness`.
    """

    drug: int
    batch: str
    codes: int
    packs: int
    begin: int | None
    end: int | None
    first: int
    last: int
    places: dict[str, int]
    place_packs: dict[str, int]
    parties: dict[int, dict[str, int]]
    flows: list[Flow]
    origins: list[tuple[int, str, int, int]]
    tree: list[tuple[int, int, int]]
    completeness: dict[str, int]
    sold_again: int


def trace_batch(
    tracer: Tracer, drug: int, batch: int, begin: int | None, end: int | None
) -> BatchTrace:
    """Return the trace of a batch, as of ``end`` (µs), with movements since ``begin``."""
    index, engine = tracer.index, tracer.engine
    told = tell_packs(engine, index, index.packs_of(drug, batch), end)
    numbers, lines, columns = told.numbers, told.lines, told.columns
    moved, marks, unnamed = movements(
        told.starts, columns["kind"], columns["source"], columns["target"], columns["bill"],
        columns["time"], tracer.groups(),
    )  # fmt: skip
    weight = _weights(told)
    packs = _standing(numbers, lines, marks, columns, weight)
    if begin is not None:
        recent = moved.last >= begin
        moved = Movements._make(column[recent] for column in moved)
    flows = _flows(moved)
    parties = _parties(packs, moved, marks, columns, len(engine.vocabulary.parties))
    origins = _origins(marks, columns)
    tree = _tree(flows, [party for party, *_ in origins], parties)
    for party, level, _ in tree:
        parties[party]["level"] = level
    by_place = np.bincount(packs.place, minlength=len(PLACES))
    weights = np.bincount(packs.place, weight, minlength=len(PLACES))
    complete = _completeness(moved, marks, unnamed)
    complete["other_batch_stated"] = int(index.mixed[numbers].sum())
    complete["packages"], complete["replaced"] = told.packages, told.replaced
    times = columns["time"]
    return BatchTrace(
        drug=drug,
        batch=engine.vocabulary.batches.text(batch),
        codes=len(numbers),
        packs=int(weight.sum()),
        begin=begin,
        end=end,
        first=int(times.min(initial=np.iinfo(np.int64).max)),
        last=int(times.max(initial=np.iinfo(np.int64).min)),
        places=dict(zip(PLACES, by_place.tolist(), strict=True)),
        place_packs={n: int(w) for n, w in zip(PLACES, weights, strict=True)},
        parties=parties,
        flows=flows,
        origins=origins,
        tree=tree,
        completeness=complete,
        sold_again=int(((packs.place == SOLD) & (lines["sales"] > 1)).sum()),
    )


def _weights(told: ToldPacks) -> Int64:
    """Return how many smallest packs each code stands for: the most stated, sales apart."""
    if len(told.numbers) == 0:
        return np.empty(0, np.int64)
    counts = told.own & ~_PERSON_SALE[told.columns["kind"]]
    quantity = np.where(counts, told.columns["quantity"], 1).astype(np.int64)
    # A row past the end serves packs without events (all of them made void).
    most = np.maximum.reduceat(np.append(quantity, 1), told.starts[:-1])
    return np.where(np.diff(told.starts) > 0, np.maximum(most, 1), 1)


def _standing(
    numbers: Int64, lines: Records, marks: Int32, columns: dict[str, Any], weight: Int64
) -> Packs:
    """Return where each pack stands."""
    n = len(numbers)
    place, party = np.full(n, UNKNOWN, np.int8), lines["owner"].astype(np.int32)
    giver = np.full(n, -1, np.int32)
    kind, source, target = columns["kind"], columns["source"], columns["target"]

    def at(column: Any, mark: int) -> Any:
        return np.where(marks[:, mark] >= 0, column[marks[:, mark]], -1) if len(column) else party

    waits = (lines["awaits_receipt"] & (1 << (lines["current"] & 7))) != 0
    waits &= lines["current"] != 0
    place[waits], giver[waits] = IN_TRANSIT, lines["previous"][waits]
    move = marks[:, LAST_MOVE]
    out = (move >= 0) & _OUTGOING[kind[move]] if len(kind) else np.zeros(n, np.bool_)
    named = at(target, LAST_MOVE) >= 0
    there = out & named
    place[there], party[there] = IN_TRANSIT, at(target, LAST_MOVE)[there]
    giver[there] = at(source, LAST_MOVE)[there]
    nowhere = out & ~named
    place[nowhere], party[nowhere] = UNNAMED, at(source, LAST_MOVE)[nowhere]
    giver[nowhere] = -1
    held = lines["holder"] >= 0
    place[held], party[held], giver[held] = HELD, lines["holder"][held], -1
    lost = (marks[:, LAST] >= 0) & (at(kind, LAST) == STOCK_LOSS)
    place[lost], party[lost], giver[lost] = LOST, at(source, LAST)[lost], -1
    sold = lines["sales"] > 0
    place[sold], party[sold], giver[sold] = SOLD, lines["holder"][sold], -1
    dead = (lines["flags"] & DEAD) != 0
    by = at(source, LAST_DESTROYED)
    by = np.where(by >= 0, by, at(target, LAST_DESTROYED))
    by = np.where(by >= 0, by, at(columns["actor"], LAST_DESTROYED))
    place[dead], party[dead], giver[dead] = DESTROYED, by[dead], -1
    return Packs(numbers, place, party, giver, weight)


def _flows(moved: Movements) -> list[Flow]:
    """Return the movements summed by giver, receiver and type, earliest first."""
    if len(moved.pack) == 0:
        return []
    key = (moved.source.astype(np.int64) << 36) | (moved.target.astype(np.int64) << 4) | moved.type
    order = np.argsort(key)  # equal ones in any order: sums do not tell
    cuts = np.flatnonzero(np.diff(key[order], prepend=key[order[:1]] - 1))
    sums = [np.add.reduceat(c[order], cuts) for c in (moved.times, moved.unreceived)]
    sums.append(np.add.reduceat(moved.unshipped[order], cuts))
    first = np.minimum.reduceat(moved.first[order], cuts)
    last = np.maximum.reduceat(moved.last[order], cuts)
    which = order[cuts]
    rows = zip(
        moved.source[which].tolist(), moved.target[which].tolist(), moved.type[which].tolist(),
        *(s.tolist() for s in sums), first.tolist(), last.tolist(), strict=True,
    )  # fmt: skip
    flows = [Flow(s, t, TYPE_NAMES[w], *rest) for s, t, w, *rest in rows]
    return sorted(flows, key=lambda f: (f.first, f.source, f.target, f.type))


def _parties(
    packs: Packs, moved: Movements, marks: Int32, columns: dict[str, Any], parties: int
) -> dict[int, dict[str, int]]:
    """Return what each enterprise did and holds, by party (numbers below ``parties``)."""
    made = marks[:, ORIGIN]
    made = made[made >= 0]
    begun = marks[marks[:, 0] >= 0, 0]
    first_seen = np.where(columns["source"] >= 0, columns["source"], columns["target"])[begun]
    every = (
        packs.party, packs.giver, moved.source, moved.target, columns["target"][made], first_seen
    )  # fmt: skip
    seen = np.zeros(parties + 1, np.bool_)
    for some in every:
        seen[some] = True
    seen[-1] = False  # where those that are not known fall
    known = np.flatnonzero(seen)
    number = np.zeros(parties + 1, np.int64)
    number[known] = np.arange(len(known))
    table = {name: np.zeros(len(known), np.int64) for name in COUNTS}
    low = np.full(len(known), np.iinfo(np.int64).max)
    high = np.full(len(known), np.iinfo(np.int64).min)

    def add(name: str, who: Any, amounts: Any = None) -> None:
        named = who >= 0
        weights = None if amounts is None else amounts[named]
        table[name] += np.bincount(number[who[named]], weights, len(known)).astype(np.int64)

    add("made", columns["target"][made])
    for way in range(4):
        some = moved.way == way
        add(_IN.get(way, "transferred_in"), moved.target[some], moved.times[some])
        add(_OUT.get(way, "transferred_out"), moved.source[some], moved.times[some])
    # What is still on its way has left its giver and not yet come.
    coming = np.flatnonzero(packs.place == IN_TRANSIT)
    coming = coming[marks[coming, LAST_MOVE] >= 0]
    kind = columns["kind"][marks[coming, LAST_MOVE]]
    coming, way_now = coming[_OUTGOING[kind]], WAY_OF_KIND[kind][_OUTGOING[kind]]
    for way in range(4):
        name = _IN.get(way, "transferred_in")
        mine = packs.party[coming[way_now == way]]
        add(name, mine, np.full(len(mine), -1))
        np.maximum(table[name], 0, out=table[name])
    for place in range(len(PLACES)):
        name = "unaccounted" if place in UNACCOUNTED else PLACES[place]
        add(name, packs.party[packs.place == place])
    for side in (moved.source, moved.target):
        np.minimum.at(low, number[side], moved.first)
        np.maximum.at(high, number[side], moved.last)
    rows = {}
    counts = zip(*(table[name].tolist() for name in COUNTS), strict=True)
    for party, row, first, last in zip(
        known.tolist(), counts, low.tolist(), high.tolist(), strict=True
    ):
        rows[party] = dict(zip(COUNTS, row, strict=True))
        if first <= last:
            rows[party] |= {"first": first, "last": last}
    return rows


def _origins(marks: Int32, columns: dict[str, Any]) -> list[tuple[int, str, int, int]]:
    """Return where packs came from: who made them, else the first party known to have had them."""
    made = marks[:, ORIGIN]
    none = (made < 0) & (marks[:, 0] >= 0)
    found = []
    for how, rows in (("made", made[made >= 0]), ("first_seen", marks[none, 0])):
        source, target = columns["source"][rows], columns["target"][rows]
        party = target if how == "made" else np.where(source >= 0, source, target)
        for who in np.unique(party[party >= 0]).tolist():
            times = columns["time"][rows[party == who]]
            found.append((int(who), how, len(times), int(times.min())))
    return sorted(found, key=lambda o: (-o[2], o[3], o[0], o[1]))


def _tree(
    flows: list[Flow], origins: list[int], parties: dict[int, dict[str, int]]
) -> list[tuple[int, int, int]]:
    """Return (party, level, parent) in the order to draw, each party once.

    A party stands below the one of the level before that gave it most packs. Parties that no flow
    ties to an origin come last, at level 0.
    """
    given: dict[int, dict[int, int]] = {}
    for flow in flows:
        if flow.type not in ("return", "recall"):
            into = given.setdefault(flow.target, {})
            into[flow.source] = into.get(flow.source, 0) + flow.packs
    gave: dict[int, list[int]] = {}
    for target, sources in given.items():
        for source in sources:
            gave.setdefault(source, []).append(target)
    level: dict[int, int] = {}
    parent: dict[int, int] = {}
    waiting = list(dict.fromkeys(origins))
    rest = sorted(parties, key=lambda p: (len(given.get(p, {})), p))
    while waiting:
        for party in waiting:
            level[party], parent[party] = 0, -1
        frontier, depth = waiting, 0
        while frontier:
            depth += 1
            reached = {t for p in frontier for t in gave.get(p, ()) if t not in level}
            for target in sorted(reached):
                above = [s for s in given[target] if level.get(s) == depth - 1]
                level[target] = depth
                parent[target] = min(above, key=lambda s: (-given[target][s], s))
            frontier = sorted(reached)
        waiting = [p for p in rest if p not in level][:1]
    below: dict[int, list[int]] = {}
    for party, giver in parent.items():
        below.setdefault(giver, []).append(party)
    out: list[tuple[int, int, int]] = []
    stack = [(p, 0) for p in reversed(_by_packs(below.get(-1, []), -1, given))]
    while stack:
        party, depth = stack.pop()
        out.append((party, depth, parent[party]))
        stack += [(p, depth + 1) for p in reversed(_by_packs(below.get(party, []), party, given))]
    return out


def _by_packs(parties: list[int], above: int, given: dict[int, dict[int, int]]) -> list[int]:
    return sorted(parties, key=lambda p: (-given.get(p, {}).get(above, 0), p))


def _completeness(moved: Movements, marks: Int32, unnamed: tuple[int, int]) -> dict[str, int]:
    """Return how far the records tie packs together.

    ``movements``: times a pack went from one enterprise to another; ``linked``: of these, told by
    both sides; ``only_shipped``, ``only_received``: by one. ``shipped_to_nobody``,
    ``received_from_nobody``: records that name no other side. ``without_origin``: packs of which no
    event of production is known. (``packages`` and ``replaced``: see ``packs.ToldPacks``.)
    """
    total = int(moved.times.sum())
    shipped, received = int(moved.unreceived.sum()), int(moved.unshipped.sum())
    return {
        "movements": total,
        "linked": total - shipped - received,
        "only_shipped": shipped,
        "only_received": received,
        "shipped_to_nobody": unnamed[0],
        "received_from_nobody": unnamed[1],
        "without_origin": int((marks[:, ORIGIN] < 0).sum()),
    }


def province_rows(found: BatchTrace, view: RegistryView) -> list[dict[str, Any]]:
    """Return what stands in each province: enterprises to notify and packs, by province code."""
    rows: dict[str, dict[str, Any]] = {}
    for party, counts in found.parties.items():
        code = view.party_region_code(party)[:2]
        row = rows.setdefault(
            code,
            {"province": code, "enterprises": 0, "holders": 0}
            | dict.fromkeys(("held", "in_transit", "sold", "destroyed", "unaccounted"), 0),
        )
        row["enterprises"] += 1
        row["holders"] += counts["held"] + counts["in_transit"] > 0
        for name in ("held", "in_transit", "sold", "destroyed", "unaccounted"):
            row[name] += counts[name]
    return [rows[code] for code in sorted(rows, key=lambda c: (c == "", c))]


def place_of(tracer: Tracer, told: ToldPacks) -> tuple[str, int, int]:
    """Return where the one pack of ``told`` stands, who answers for it there, and the giver."""
    columns = told.columns
    _, marks, _ = movements(
        told.starts, columns["kind"], columns["source"], columns["target"], columns["bill"],
        columns["time"], tracer.groups(),
    )  # fmt: skip
    packs = _standing(told.numbers, told.lines, marks, columns, np.ones(1, np.int64))
    return PLACES[int(packs.place[0])], int(packs.party[0]), int(packs.giver[0])
