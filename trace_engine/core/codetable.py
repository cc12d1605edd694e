"""The code table: one 64-byte line a live code, found by one probe of a small index.

Lines stand densely in the order codes were first seen, in memory that is reserved at once and only
taken from the system as it is touched, so growing rarely copies. An index of 8-byte slots (32 bits
of hash, 32 bits of row) with linear probing finds them; a probe reads a line only when the hash bits
agree. Measured cost: 64 bytes a code for the line and 8 / load for the index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf, record
from trace_engine.core.records import Record, Records

SHARDS = 8  # logical shards: fixed, so that state never depends on the number of threads

NO_SEQ = np.uint32(0xFFFFFFFF)

LINE = record(
    [
        ("key", np.uint64),
        ("last_seq", np.uint32),  # log number of the code's latest event, NO_SEQ = none
        ("owner", np.int32),  # top of the stack of owners, -1 unknown
        ("previous", np.int32),  # the one below, -1 none
        ("tail", np.int32),  # the rest of the stack: party >= 0, -1 none, else -(node + 2)
        ("holder", np.int32),  # who has it in hand; while sold: who sold it last
        ("hop_time", np.uint32),  # s since 2000: of the current hop, or of death when dead
        ("last_time", np.uint32),  # s since 2000: last physical scan at a known place
        ("paid", np.int32),  # fen the owner paid for this code, -1 unknown
        ("sale_time", np.uint32),  # s since 2000: last sale to a person
        ("sale_bill", np.uint32),  # low half of the bill's hash of that sale
        ("place", np.int16),  # region index of the last physical scan, -1
        ("flags", np.uint16),
        ("hops", np.uint8),
        ("crossings", np.uint8),
        ("run", np.uint8),
        ("sales", np.uint8),
        ("next_serial", np.uint8),  # number given to the latest hop (1..255, then again 1)
        ("current", np.uint8),  # number of the current hop, 0 none
        ("below", np.uint8),  # number of the hop below it, 0 none
        ("awaits_receipt", np.uint8),  # bit (number & 7) by hop
        ("awaits_shipment", np.uint8),
        ("split_quantity", np.uint8),
        ("crossed_bits", np.uint8),  # bit 0: top of the stack came by a hop that crossed a border
        ("hop_bits", np.uint8),  # bit 0: top of the stack came by a hop
    ],
)
assert LINE.itemsize == 64, LINE.itemsize

# Bits of LINE.flags
SPLIT_OPEN = 1
DEAD = 2
RECALLED = 4
LAST_DATE_ONLY = 8
SALE_DATE_ONLY = 16
HOP_DATE_ONLY = 32
LAST_OUTGOING = 64
ALL = 0xFFFF

EPOCH_2000 = 946_684_800  # s from 1970-01-01 to 2000-01-01


class Table(NamedTuple):
    """Arrays of one shard's code table, as kernels take them."""

    lines: Records
    index: npt.NDArray[np.uint64]  # type: ignore[assignment]  # hides tuple.index
    nodes: npt.NDArray[np.int32]  # (m, 2): party, next; owners deeper than the third
    used: npt.NDArray[np.int64]  # [lines used, nodes used, scratch]


@leaf
def mix(key: np.uint64) -> np.uint64:
    """Finalizer of splitmix64: every bit of ``key`` moves every bit of the result."""
    x = np.uint64(key)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@kernel
def place_in_shards(
    codes: npt.NDArray[np.uint64],
    wanted: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.int64],
    position: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
) -> None:
    """Group the wanted rows by shard, in order: ``rows[position[i]] == i``, -1 where unwanted.

    Shard ``s`` takes positions ``bounds[s]`` to ``bounds[s + 1]``; ``bounds`` has shape (9,).
    """
    n = codes.shape[0]
    count = np.zeros(SHARDS + 1, np.int64)
    shard = np.empty(n, np.uint8)
    for i in range(n):
        s = np.uint8(mix(codes[i]) & np.uint64(SHARDS - 1))
        shard[i] = s
        if wanted[i]:
            count[s + 1] += 1
    for k in range(SHARDS):
        count[k + 1] += count[k]
    for k in range(SHARDS + 1):
        bounds[k] = count[k]
    for i in range(n):
        if wanted[i]:
            s = shard[i]
            rows[count[s]] = i
            position[i] = count[s]
            count[s] += 1
        else:
            position[i] = -1


@leaf
def find_or_add(table: Table, key: np.uint64) -> np.int64:
    """Return the row of ``key``, adding a fresh line if it is new (room must be there)."""
    index = table.index
    mask = np.uint64(index.shape[0] - 1)
    h = mix(key)
    slot = (h >> np.uint64(3)) & mask
    mark = h & np.uint64(0xFFFFFFFF00000000)
    while True:
        entry = index[slot]
        if entry == np.uint64(0):
            break
        if (entry & np.uint64(0xFFFFFFFF00000000)) == mark:
            row = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if table.lines[row].key == key:
                return row
        slot = (slot + np.uint64(1)) & mask
    row = np.int64(table.used[0])
    table.used[0] = row + 1
    index[slot] = mark | np.uint64(row + 1)
    clear_line(table.lines[row], key)
    return row


@leaf
def clear_line(line: Record, key: np.uint64) -> None:
    """Make ``line`` the line of a code nothing is known of."""
    line.key = key
    line.last_seq = np.uint32(0xFFFFFFFF)
    line.owner = np.int32(-1)
    line.previous = np.int32(-1)
    line.tail = np.int32(-1)
    line.holder = np.int32(-1)
    line.hop_time = np.uint32(0)
    line.last_time = np.uint32(0)
    line.paid = np.int32(-1)
    line.sale_time = np.uint32(0)
    line.sale_bill = np.uint32(0)
    line.place = np.int16(-1)
    line.flags = np.uint16(0)
    line.hops = np.uint8(0)
    line.crossings = np.uint8(0)
    line.run = np.uint8(0)
    line.sales = np.uint8(0)
    line.next_serial = np.uint8(0)
    line.current = np.uint8(0)
    line.below = np.uint8(0)
    line.awaits_receipt = np.uint8(0)
    line.awaits_shipment = np.uint8(0)
    line.split_quantity = np.uint8(0)
    line.crossed_bits = np.uint8(0)
    line.hop_bits = np.uint8(0)


@leaf
def find(table: Table, key: np.uint64) -> np.int64:
    """Return the row of ``key`` or -1."""
    index = table.index
    mask = np.uint64(index.shape[0] - 1)
    h = mix(key)
    slot = (h >> np.uint64(3)) & mask
    mark = h & np.uint64(0xFFFFFFFF00000000)
    while True:
        entry = index[slot]
        if entry == np.uint64(0):
            return np.int64(-1)
        if (entry & np.uint64(0xFFFFFFFF00000000)) == mark:
            row = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if table.lines[row].key == key:
                return row
        slot = (slot + np.uint64(1)) & mask


@kernel
def reindex(table: Table) -> None:
    """Fill an empty index with the lines in use."""
    index = table.index
    mask = np.uint64(index.shape[0] - 1)
    for row in range(table.used[0]):
        h = mix(table.lines[row].key)
        slot = (h >> np.uint64(3)) & mask
        while index[slot] != np.uint64(0):
            slot = (slot + np.uint64(1)) & mask
        index[slot] = (h & np.uint64(0xFFFFFFFF00000000)) | np.uint64(row + 1)


@kernel
def _keep(
    table: Table,
    stay: npt.NDArray[np.bool_],
    lines: Records,
    nodes: npt.NDArray[np.int32],
    used: npt.NDArray[np.int64],
    new_row: npt.NDArray[np.int64],
) -> None:
    """Copy the lines that stay, with the chains of their deeper owners."""
    for row in range(stay.shape[0]):
        if not stay[row]:
            new_row[row] = -1
            continue
        at = used[0]
        used[0] = at + 1
        new_row[row] = at
        lines[at] = table.lines[row]
        line = lines[at]
        tail = np.int64(line.tail)
        above = np.int64(-1)
        while tail < -1:
            node = used[1]
            used[1] = node + 1
            nodes[node, 0] = table.nodes[-tail - 2, 0]
            nodes[node, 1] = table.nodes[-tail - 2, 1]
            if above < 0:
                line.tail = np.int32(-(node + 2))
            else:
                nodes[above, 1] = np.int32(-(node + 2))
            above = node
            tail = np.int64(table.nodes[-tail - 2, 1])


class CodeTable:
    """The growing owner of a :class:`Table`."""

    MAXIMUM_LOAD = 0.7
    RESERVED_LINES = 1 << 20

    def __init__(self) -> None:
        self.used = np.zeros(3, np.int64)
        self.lines: Records = np.empty(self.RESERVED_LINES, LINE)
        self.index: npt.NDArray[np.uint64] = np.zeros(1 << 10, np.uint64)
        self.nodes: npt.NDArray[np.int32] = np.empty((1 << 12, 2), np.int32)

    def __len__(self) -> int:
        return int(self.used[0])

    @property
    def nbytes(self) -> int:
        """Bytes in use (reserved but untouched memory is not counted)."""
        lines, nodes = int(self.used[0]), int(self.used[1])
        return lines * LINE.itemsize + nodes * 8 + int(self.index.nbytes)

    def view(self) -> Table:
        """Return the arrays for kernels; valid until the next :meth:`reserve`."""
        return Table(self.lines, self.index, self.nodes, self.used)

    def reserve(self, events: int) -> None:
        """Make room for ``events`` more events, each of which may bring a code and two owners."""
        lines = int(self.used[0])
        if lines + events > len(self.lines):
            grown = np.empty(max(2 * len(self.lines), lines + events), LINE)
            grown[:lines] = self.lines[:lines]
            self.lines = grown
        self.reserve_nodes(2 * events)
        # Few events bring a new code: size the index by what is used, and leave the room the
        # worst case needs; it grows again long before it is full.
        wanted = len(self.index)
        while lines + events > self.MAXIMUM_LOAD * wanted:
            wanted *= 2
        if wanted > len(self.index):
            self.index = np.zeros(wanted, np.uint64)
            reindex(self.view())

    def reserve_nodes(self, more: int) -> None:
        """Make room for ``more`` nodes."""
        nodes = int(self.used[1])
        if nodes + more > len(self.nodes):
            grown = np.empty((max(2 * len(self.nodes), nodes + more), 2), np.int32)
            grown[:nodes] = self.nodes[:nodes]
            self.nodes = grown

    def keep(self, stay: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Drop the lines that do not ``stay`` and return the new row of each (-1: dropped).

        The others keep their order; nodes nobody refers to go too. All arrays are new ones, so that
        who looks a code up meanwhile (and holds its key against the line) finds it or asks again.
        """
        count = int(np.count_nonzero(stay))
        lines: Records = np.empty(max(self.RESERVED_LINES, count), LINE)
        nodes = np.empty_like(self.nodes)
        used = np.zeros(3, np.int64)
        new_row = np.empty(len(stay), np.int64)
        _keep(self.view(), stay, lines, nodes, used, new_row)
        slots = 1 << 10
        while 1.5 * count > self.MAXIMUM_LOAD * slots:
            slots *= 2
        index = np.zeros(slots, np.uint64)
        reindex(Table(lines, index, nodes, used))
        self.lines, self.index, self.nodes, self.used = lines, index, nodes, used
        return new_row

    def room(self, lines: int, nodes: int) -> tuple[Records, npt.NDArray[np.int32]]:
        """Hold exactly so many lines and nodes, and return them to be filled: then :meth:`refilled`.

        What was held before is forgotten.
        """
        self.used[:2] = 0
        self.reserve(max(lines, -(-nodes // 2)))
        self.used[:2] = (lines, nodes)
        return self.lines[:lines], self.nodes[:nodes]

    def refilled(self) -> None:
        """Index the lines anew: those that :meth:`room` returned were filled."""
        self.index[:] = 0
        reindex(self.view())

    def restore(self, lines: Records, nodes: npt.NDArray[np.int32]) -> None:
        """Hold exactly ``lines`` and ``nodes``."""
        our_lines, our_nodes = self.room(len(lines), len(nodes))
        our_lines[:] = lines
        our_nodes[:] = nodes
        self.refilled()
