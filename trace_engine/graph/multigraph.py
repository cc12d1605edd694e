"""The supply graph as engine state: who gave what to whom, when, by drug, batch, type and bill.

An edge is what one enterprise gave another of one drug and batch, in one way (``EdgeType``), on one
bill (where it has a number) and one day. It is fed from what custody says of each event, so that a
shipment and its receipt are one edge:

* changes of owner (signal ``HOP``) are edges of the type their event names;
* returns and recalls are edges where they move ownership back: the first of the two records does;
* movements inside one enterprise or group have no owner to tell the two records apart, so shipments
  and receipts are kept as two types and the larger of the two is shown (:func:`without_echo`).

Edges older than ``graph_detail_days`` before the last day judged are folded: one edge for each
giver, receiver, drug, type and calendar month. What is lost is the batch, the bill and the day.
Sums are added and times are widened, so the order in which edges arrive, are merged or are folded
does not show (after :meth:`Multigraph.settle`). A void does not take its edge back.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel, leaf, record
from trace_engine.core.records import Records
from trace_engine.core.signals import Custody
from trace_engine.events.batch import DAY, EventBatch
from trace_engine.events.kinds import KINDS, EventKind, Role

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class EdgeType(IntEnum):
    """In which way goods went from one enterprise to another."""

    SALE = 0
    PRODUCTION = 1  # the producer's own shipment
    SUPPLY = 2
    DIRECT = 3  # shipped directly, past the seller's store
    GIFT = 4
    OTHER = 5
    TRANSFER = 6  # called a transfer, but between two groups: a change of owner
    INTERNAL = 7  # transfer inside one enterprise or group, as its shipments say
    INTERNAL_RECEIPT = 8  # the same, as its receipts say
    RETURN = 9
    RECALL = 10


TYPE_NAMES = tuple(t.name.lower() for t in EdgeType)
FIRST_UNOWNED = int(EdgeType.INTERNAL)  # types from here on are no change of owner by a hop

_NO_TYPE = 255
_INTERNAL, _ECHO = int(EdgeType.INTERNAL), int(EdgeType.INTERNAL_RECEIPT)
_RETURN, _TRANSFER, _OTHER = int(EdgeType.RETURN), int(EdgeType.TRANSFER), int(EdgeType.OTHER)

_OF_ROLE = {
    Role.SHIP: EdgeType.SALE,
    Role.RECEIVE: EdgeType.SALE,
    Role.RETURN_SHIP: EdgeType.RETURN,
    Role.RETURN_RECEIVE: EdgeType.RETURN,
    Role.TRANSFER_SHIP: EdgeType.INTERNAL,
    Role.TRANSFER_RECEIVE: EdgeType.INTERNAL_RECEIPT,
    Role.RECALL_SHIP: EdgeType.RECALL,
    Role.RECALL_RECEIVE: EdgeType.RECALL,
}
_OF_KIND = {
    EventKind.PRODUCTION_SHIPMENT: EdgeType.PRODUCTION,
    EventKind.SUPPLY_SHIPMENT: EdgeType.SUPPLY,
    EventKind.SUPPLY_RECEIPT: EdgeType.SUPPLY,
    EventKind.DIRECT_SHIPMENT: EdgeType.DIRECT,
    EventKind.GIFT_SHIPMENT: EdgeType.GIFT,
    EventKind.GIFT_RECEIPT: EdgeType.GIFT,
    EventKind.OTHER_SHIPMENT: EdgeType.OTHER,
    EventKind.OTHER_RECEIPT: EdgeType.OTHER,
}
TYPE_OF_KIND: npt.NDArray[np.uint8] = np.array(
    [
        int(_OF_KIND.get(k.kind, _OF_ROLE.get(k.role, _NO_TYPE)))
        for k in sorted(KINDS, key=lambda k: k.kind)
    ],
    np.uint8,
)
"""Edge type of a movement by event kind; 255 for what moves nothing between enterprises."""

EDGE = record(
    [
        ("source", np.int32),  # party
        ("target", np.int32),
        ("drug", np.int32),  # -1 unknown
        ("batch", np.int32),  # -1 unknown or folded
        ("bill", np.uint64),  # hash of the bill's number, 0 none or folded
        ("day", np.int32),  # since 1970-01-01; of a folded edge the first of its month
        ("type", np.uint8),
        ("folded", np.uint8),
        ("spare", np.uint16),  # zero: no byte is left unset, so equal edges are equal bytes
        ("codes", np.int64),
        ("packs", np.int64),
        ("value", np.int64),  # fen; rows without a price add nothing
        ("first", np.int64),  # µs of the Shanghai wall clock
        ("last", np.int64),
    ],
)


@leaf
def _hash(
    source: np.int32,
    target: np.int32,
    drug: np.int32,
    batch: np.int32,
    bill: np.uint64,
    day: np.int32,
    kind: np.uint8,
    folded: np.uint8,
) -> np.uint64:
    """Return the hash of an edge's key."""
    parties = (np.uint64(source) << np.uint64(32)) | np.uint64(target)
    goods = (np.uint64(drug + 1) << np.uint64(32)) | np.uint64(batch + 1)
    way = (np.uint64(day) << np.uint64(16)) | (np.uint64(kind) << np.uint64(8)) | np.uint64(folded)
    return mix(parties ^ mix(goods ^ mix(way ^ bill)))


@leaf
def _row_of(
    slots: Int32,
    edges: Records,
    used: Int64,
    source: np.int32,
    target: np.int32,
    drug: np.int32,
    batch: np.int32,
    bill: np.uint64,
    day: np.int32,
    kind: np.uint8,
    folded: np.uint8,
    time: np.int64,
) -> np.int64:
    """Return the row of the edge with this key, added with empty sums if new; -1 without room."""
    mask = np.uint64(slots.shape[0] - 1)
    slot = _hash(source, target, drug, batch, bill, day, kind, folded) & mask
    while slots[slot] != 0:
        row = np.int64(slots[slot]) - 1
        e = edges[row]
        if (
            e.source == source
            and e.target == target
            and e.drug == drug
            and e.batch == batch
            and e.bill == bill
            and e.day == day
            and e.type == kind
            and e.folded == folded
        ):
            return row
        slot = (slot + np.uint64(1)) & mask
    row = np.int64(used[0])
    if row >= edges.shape[0]:
        return np.int64(-1)
    used[0] = row + 1
    slots[slot] = np.int32(row + 1)
    e = edges[row]
    e.source = source
    e.target = target
    e.drug = drug
    e.batch = batch
    e.bill = bill
    e.day = day
    e.type = kind
    e.folded = folded
    e.codes = np.int64(0)
    e.packs = np.int64(0)
    e.value = np.int64(0)
    e.first = time
    e.last = time
    return row


@kernel
def _add_events(
    begin: int,
    kind: npt.NDArray[np.int8],
    source: Int32,
    target: Int32,
    drug: Int32,
    batch: Int32,
    bill: npt.NDArray[np.uint64],
    quantity: Int32,
    price: Int32,
    time: Int64,
    signal: npt.NDArray[np.uint32],
    owner_before: Int32,
    slots: Int32,
    edges: Records,
    used: Int64,
) -> int:
    """Add events from row ``begin``; return the row that found no room, or the length."""
    n = len(kind)
    row = np.int64(-1)
    for i in range(begin, n):
        way = TYPE_OF_KIND[kind[i]]
        hop = (signal[i] & np.uint32(sig.HOP)) != 0
        if way == _NO_TYPE and not hop:
            continue
        giver, receiver = source[i], target[i]
        if hop:
            if way == _NO_TYPE:
                way = np.uint8(_OTHER)
            elif way == _INTERNAL or way == _ECHO:
                way = np.uint8(_TRANSFER)
        elif way >= _RETURN:
            if owner_before[i] == receiver:
                continue
            if giver < 0:
                giver = owner_before[i]
        elif way < _INTERNAL:
            continue
        if giver < 0 or receiver < 0 or giver == receiver:
            continue
        day = np.int32(time[i] // DAY)
        # Rows of one bill follow each other: look up again only when the key changes.
        same = False
        if row >= 0:
            e = edges[row]
            same = (
                e.source == giver
                and e.target == receiver
                and e.drug == drug[i]
                and e.batch == batch[i]
                and e.bill == bill[i]
                and e.day == day
                and e.type == way
                and e.folded == 0
            )
        if not same:
            row = _row_of(
                slots, edges, used, giver, receiver, drug[i], batch[i], bill[i], day,
                np.uint8(way), np.uint8(0), time[i],
            )  # fmt: skip
            if row < 0:
                return i
        e = edges[row]
        e.codes += 1
        e.packs += quantity[i]
        if price[i] > 0:
            e.value += np.int64(price[i]) * np.int64(quantity[i])
        e.first = min(e.first, time[i])
        e.last = max(e.last, time[i])
    return n


@kernel
def _add_edges(begin: int, more: Records, slots: Int32, edges: Records, used: Int64) -> int:
    """Add edges from row ``begin`` of ``more``; return the row that found no room, or the length."""
    n = len(more)
    for i in range(begin, n):
        m = more[i]
        row = _row_of(
            slots, edges, used, m.source, m.target, m.drug, m.batch, m.bill, m.day, m.type,
            m.folded, m.first,
        )  # fmt: skip
        if row < 0:
            return i
        e = edges[row]
        e.codes += m.codes
        e.packs += m.packs
        e.value += m.value
        e.first = min(e.first, m.first)
        e.last = max(e.last, m.last)
    return n


@kernel
def _index(slots: Int32, edges: Records, used: int) -> None:
    """Fill empty ``slots`` with the edges in use."""
    mask = np.uint64(slots.shape[0] - 1)
    for row in range(used):
        e = edges[row]
        slot = _hash(e.source, e.target, e.drug, e.batch, e.bill, e.day, e.type, e.folded) & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = np.int32(row + 1)


class Multigraph:
    """The growing table of edges (records ``EDGE``) and its index."""

    def __init__(self) -> None:
        self.used = np.zeros(1, np.int64)
        self.edges: Records = np.zeros(1 << 10, EDGE)
        self.slots: Int32 = np.zeros(1 << 11, np.int32)
        self.settled_before = np.iinfo(np.int64).min  # edges of earlier days have been folded

    def __len__(self) -> int:
        return int(self.used[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the edges in use and of their index."""
        return len(self) * EDGE.itemsize + int(self.slots.nbytes)

    def records(self) -> Records:
        """Return the edges in use (a view), in order of arrival."""
        return self.edges[: len(self)]

    def _grow(self, edges: int) -> None:
        grown: Records = np.zeros(edges, EDGE)
        grown[: len(self)] = self.records()
        self.edges = grown
        self.slots = np.zeros(2 * edges, np.int32)
        _index(self.slots, self.edges, len(self))

    def add(self, batch: EventBatch, custody: Custody) -> None:
        """Add the movements of a slice, as custody judged them."""
        b = batch
        begin = 0
        while True:
            begin = _add_events(
                begin, b.kind, b.source, b.target, b.drug, b.batch_no, b.bill, b.quantity,
                b.price, b.time, custody.signal, custody.owner_before, self.slots, self.edges,
                self.used,
            )  # fmt: skip
            if begin == len(b):
                return
            self._grow(2 * len(self.edges))

    def add_edges(self, more: Records) -> None:
        """Add edges (records ``EDGE``): sums to those of the same key, the rest as new ones."""
        begin = 0
        while True:
            begin = _add_edges(begin, more, self.slots, self.edges, self.used)
            if begin == len(more):
                return
            self._grow(2 * len(self.edges))

    def restore(self, edges: Records) -> None:
        """Hold exactly ``edges``."""
        room = 1 << max(10, len(edges).bit_length())
        self.used = np.zeros(1, np.int64)
        self.edges, self.slots = np.zeros(room, EDGE), np.zeros(2 * room, np.int32)
        self.add_edges(edges)

    def merge(self, other: Records, parties: Int32, drugs: Int32, batches: Int32) -> None:
        """Add another engine's edges.

        The three arrays give its ids' numbers here, and -1 at the end for "none".
        """
        mine = other.copy()
        mine["source"] = parties[mine["source"]]
        mine["target"] = parties[mine["target"]]
        mine["drug"] = drugs[mine["drug"]]
        mine["batch"] = batches[mine["batch"]]
        self.add_edges(mine)
        self.settled_before = np.iinfo(np.int64).min

    def settle(self, before: int) -> None:
        """Fold the edges of days earlier than ``before`` (since 1970-01-01) into months."""
        self.settled_before = before
        edges = self.records()
        old = (edges["folded"] == 0) & (edges["day"] < before)
        if old.any():
            kept, months = edges[~old].copy(), edges[old].copy()
            months["batch"], months["bill"], months["folded"] = -1, 0, 1
            days = months["day"].astype("datetime64[D]")
            months["day"] = days.astype("datetime64[M]").astype("datetime64[D]").astype(np.int32)
            self.restore(kept)
            self.add_edges(months)

    def sorted(self) -> Records:
        """Return a copy in an order that does not depend on how the edges came."""
        edges = self.records()
        keys = ("folded", "type", "bill", "batch", "drug", "target", "source", "day")
        return edges[np.lexsort([edges[name] for name in keys])]


def hop_sums(edges: Records) -> tuple[Int32, Int64]:
    """Return the changes of owner by giver, receiver and drug: keys ``(k, 3)``, sums ``(k, 5)``.

    Columns of the sums: codes, packs, value in fen, first and last time. By key.
    """
    folded = Multigraph()
    hops = edges[edges["type"] < FIRST_UNOWNED].copy()
    for name in ("batch", "bill", "day", "type", "folded"):
        hops[name] = 0
    folded.restore(hops)
    sums = folded.records()
    sums = sums[np.lexsort((sums["drug"], sums["target"], sums["source"]))]
    keys = np.column_stack([sums[n] for n in ("source", "target", "drug")])
    values = np.column_stack([sums[n] for n in ("codes", "packs", "value", "first", "last")])
    return keys.astype(np.int32), values.astype(np.int64)
