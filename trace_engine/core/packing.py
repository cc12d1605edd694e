"""Events and results of custody as records of one cache line, and the kernels that pack them.

Custody takes events one by one, code by code; a record keeps all it needs of one event together and
lets the kernels pass a pointer instead of thirty arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import EPOCH_2000
from trace_engine.core.kernel import kernel, record
from trace_engine.core.records import Records
from trace_engine.events.batch import DATE_ONLY, SECOND, SPLIT_SALE
from trace_engine.events.kinds import CODELESS, KINDS, EventKind, Role

EVENT = record(
    [
        ("code", np.uint64),
        ("event_key", np.uint64),
        ("time", np.int64),  # µs
        ("seconds", np.uint32),  # since 2000
        ("source", np.int32),
        ("target", np.int32),
        ("price", np.int32),
        ("bill", np.uint32),  # low half of the hash, 0 none
        ("quantity", np.int32),
        ("source_group", np.int32),
        ("target_group", np.int32),
        ("place", np.int16),  # region index of a physical scan at a certain place, else -1
        ("source_province", np.int8),  # 0 unknown
        ("target_province", np.int8),
        ("role", np.uint8),
        ("flags", np.uint8),  # DATE_ONLY, SPLIT_SALE of the batch, and the two below
        ("capacity", np.uint8),  # units a pack, 0 unknown
        ("kind", np.uint8),
    ],
)
assert EVENT.itemsize == 64, EVENT.itemsize

DIRECT = 64  # flag: a direct shipment, whose giver need not have received the goods
NO_CODE = 128  # flag: a quantity-only bill

RESULT = record(
    [
        ("signal", np.uint32),
        ("owner_before", np.int32),
        ("cost", np.int32),
        ("previous", np.uint32),
        ("sale_giver", np.int32),
        ("sale_seconds", np.uint32),
        ("last_seconds", np.uint32),
        ("last_place", np.int16),
        ("hops", np.uint8),
        ("crossings", np.uint8),
        ("run", np.uint8),
        ("sales", np.uint8),
        ("state", np.uint8),  # scratch of the ordering
        ("spare", np.uint8),
        ("row", np.uint32),  # scratch: line of the code
        ("following", np.int32),  # scratch: the code's next event within the slice, -1 none
    ],
)

_BY_KIND = sorted(KINDS, key=lambda k: k.kind)
# One kind more than there are: the death of a code that another replaced, at no place.
DEATH = len(_BY_KIND)
_ROLE = np.array([*(k.role for k in _BY_KIND), Role.DESTROY], np.uint8)
_PHYSICAL = np.array([*(k.physical for k in _BY_KIND), False], np.bool_)
_CODELESS = np.array([*(k.kind in CODELESS for k in _BY_KIND), False], np.bool_)
_DIRECT_KIND = int(EventKind.DIRECT_SHIPMENT)
_INCOMING = np.zeros(len(Role), np.bool_)
_INCOMING[
    [
        Role.ORIGIN,
        Role.RECEIVE,
        Role.RETURN_RECEIVE,
        Role.TRANSFER_RECEIVE,
        Role.RECALL_RECEIVE,
        Role.CONSUMER_RETURN,
        Role.STOCK_GAIN,
    ]
] = True


class Columns(NamedTuple):
    """The columns of a batch that custody reads."""

    time: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]
    flags: npt.NDArray[np.uint8]
    code: npt.NDArray[np.uint64]
    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    source_region: npt.NDArray[np.int16]
    target_region: npt.NDArray[np.int16]
    drug: npt.NDArray[np.int32]
    quantity: npt.NDArray[np.int32]
    price: npt.NDArray[np.int32]
    bill: npt.NDArray[np.uint64]
    event_key: npt.NDArray[np.uint64]


class Reference(NamedTuple):
    """Reference data addressed by party, drug and region."""

    province: npt.NDArray[np.int8]  # by party, 0 unknown
    group: npt.NDArray[np.int32]  # by party, -1 none
    region: npt.NDArray[np.int16]  # by party, -1 unknown
    single_place: npt.NDArray[np.bool_]  # by party: has no registered warehouse elsewhere
    capacity: npt.NDArray[np.int32]  # by drug: units a pack, -1 unknown
    packs_in_case: npt.NDArray[np.int32]  # by drug: smallest packs a case, -1 unknown
    region_province: npt.NDArray[np.int8]
    region_is_province: npt.NDArray[np.bool_]


@kernel
def pack(
    c: Columns,
    ref: Reference,
    position: npt.NDArray[np.int64],
    start: int,
    stop: int,
    events: Records,
) -> None:
    """Write rows ``start`` to ``stop`` to ``events[position]`` (EVENT), with what is known of them.

    Grouped by shard: each shard then reads its events in one sweep of memory.
    """
    for i in range(start, stop):
        if position[i] < 0:
            continue
        e = events[position[i]]
        kind = c.kind[i]
        role = _ROLE[kind]
        source, target = c.source[i], c.target[i]
        e.code = c.code[i]
        e.event_key = c.event_key[i]
        e.time = c.time[i]
        e.seconds = np.uint32(c.time[i] // SECOND - EPOCH_2000)
        e.source = source
        e.target = target
        e.price = c.price[i]
        e.bill = np.uint32(c.bill[i] & np.uint64(0xFFFFFFFF))
        e.quantity = c.quantity[i]
        e.kind = np.uint8(kind)
        e.role = role
        flags = c.flags[i] & np.uint8(DATE_ONLY | SPLIT_SALE)
        if kind == _DIRECT_KIND:
            flags |= np.uint8(DIRECT)
        if _CODELESS[kind]:
            flags |= np.uint8(NO_CODE)
        e.flags = flags
        source_province, target_province = np.int8(0), np.int8(0)
        e.source_group = np.int32(-1)
        e.target_group = np.int32(-1)
        if source >= 0:
            source_province = ref.province[source]
            e.source_group = ref.group[source]
            if source_province == 0 and c.source_region[i] >= 0:
                source_province = ref.region_province[c.source_region[i]]
        if target >= 0:
            target_province = ref.province[target]
            e.target_group = ref.group[target]
            if target_province == 0 and c.target_region[i] >= 0:
                target_province = ref.region_province[c.target_region[i]]
        e.source_province = source_province
        e.target_province = target_province
        capacity = np.int32(-1)
        if c.drug[i] >= 0:
            capacity = ref.capacity[c.drug[i]]
        e.capacity = np.uint8(capacity) if 0 < capacity <= 250 else np.uint8(0)
        place = np.int16(-1)
        if _PHYSICAL[kind]:
            incoming = _INCOMING[role] or source < 0
            place = c.target_region[i] if incoming else c.source_region[i]
            party = target if incoming else source
            if place < 0 and party >= 0 and ref.single_place[party]:
                place = ref.region[party]
            if place >= 0 and ref.region_is_province[place]:
                place = np.int16(-1)
        e.place = place


@kernel
def unpack(
    results: Records,
    position: npt.NDArray[np.int64],
    start: int,
    stop: int,
    signal: npt.NDArray[np.uint32],
    hops: npt.NDArray[np.uint8],
    crossings: npt.NDArray[np.uint8],
    run: npt.NDArray[np.uint8],
    sales: npt.NDArray[np.uint8],
    owner_before: npt.NDArray[np.int32],
    cost: npt.NDArray[np.int32],
    previous: npt.NDArray[np.int64],
) -> None:
    """Spread the records of rows ``start`` to ``stop`` over columns, in row order."""
    for i in range(start, stop):
        if position[i] < 0:
            signal[i] = 0
            hops[i] = 0
            crossings[i] = 0
            run[i] = 0
            sales[i] = 0
            owner_before[i] = -1
            cost[i] = -1
            previous[i] = -1
            continue
        r = results[position[i]]
        signal[i] = r.signal
        hops[i] = r.hops
        crossings[i] = r.crossings
        run[i] = r.run
        sales[i] = r.sales
        owner_before[i] = r.owner_before
        cost[i] = r.cost
        previous[i] = np.int64(-1) if r.previous == 0xFFFFFFFF else np.int64(r.previous)
