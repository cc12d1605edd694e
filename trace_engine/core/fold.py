"""Mergeable sums: what each enterprise scanned, and the edges of the supply graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel
from trace_engine.core.signals import Custody
from trace_engine.events.batch import ONLINE, EventBatch
from trace_engine.events.kinds import KINDS, Role

_ROLE = np.array([k.role for k in sorted(KINDS, key=lambda k: k.kind)], np.uint8)
_SHIP, _RECEIVE, _PERSON_SALE = int(Role.SHIP), int(Role.RECEIVE), int(Role.PERSON_SALE)

# Columns of Exposure.totals
EVENTS, RECEIVED, SHIPPED, SOLD, SOLD_ONLINE, VALUE, FIRST, LAST = range(8)
_NEVER = np.iinfo(np.int64).max


@kernel
def add_exposure(
    kind: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    quantity: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    time: npt.NDArray[np.int64],
    signal: npt.NDArray[np.uint32],
    totals: npt.NDArray[np.int64],
) -> None:
    """Add events to ``totals`` (parties, 8): see the column names above; value in fen."""
    for i in range(kind.shape[0]):
        role = _ROLE[kind[i]]
        giver, receiver = source[i], target[i]
        packs = np.int64(quantity[i])
        if giver >= 0:
            t = totals[giver]
            t[EVENTS] += 1
            t[FIRST] = min(t[FIRST], time[i])
            t[LAST] = max(t[LAST], time[i])
            shipped = role == _SHIP and receiver >= 0 and receiver != giver
            sold = role == _PERSON_SALE and (signal[i] & np.uint32(sig.NEW_SALE)) != 0
            if shipped:
                t[SHIPPED] += packs
            if sold:
                t[SOLD] += packs
                if (flags[i] & ONLINE) != 0:
                    t[SOLD_ONLINE] += packs
            if (shipped or sold) and price[i] > 0:
                t[VALUE] += packs * np.int64(price[i])
        if receiver >= 0 and receiver != giver:
            t = totals[receiver]
            t[EVENTS] += 1
            t[FIRST] = min(t[FIRST], time[i])
            t[LAST] = max(t[LAST], time[i])
            if role == _RECEIVE:
                t[RECEIVED] += packs


@kernel
def add_edges(
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    quantity: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    time: npt.NDArray[np.int64],
    signal: npt.NDArray[np.uint32],
    index: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int32],
    sums: npt.NDArray[np.int64],
    used: npt.NDArray[np.int64],
) -> None:
    """Add hops to edges: ``keys`` (m, 3) source, target, drug; ``sums`` (m, 5).

    Columns of ``sums``: codes, packs, value in fen, first and last time. ``index`` holds row + 1
    by open addressing and must have room, as must ``keys`` and ``sums``.
    """
    mask = np.uint64(index.shape[0] - 1)
    for i in range(source.shape[0]):
        if (signal[i] & np.uint32(sig.HOP)) == 0 or source[i] < 0 or target[i] < 0:
            continue
        h = mix(
            (np.uint64(source[i]) << np.uint64(40))
            ^ (np.uint64(target[i]) << np.uint64(16))
            ^ mix(np.uint64(np.int64(drug[i]) + 1))
        )
        slot = h & mask
        row = np.int64(-1)
        while index[slot] != 0:
            at = index[slot] - 1
            if keys[at, 0] == source[i] and keys[at, 1] == target[i] and keys[at, 2] == drug[i]:
                row = at
                break
            slot = (slot + np.uint64(1)) & mask
        if row < 0:
            row = used[0]
            used[0] = row + 1
            index[slot] = row + 1
            keys[row, 0] = source[i]
            keys[row, 1] = target[i]
            keys[row, 2] = drug[i]
            sums[row, 0] = 0
            sums[row, 1] = 0
            sums[row, 2] = 0
            sums[row, 3] = time[i]
            sums[row, 4] = time[i]
        sums[row, 0] += 1
        sums[row, 1] += quantity[i]
        if price[i] > 0:
            sums[row, 2] += np.int64(price[i]) * np.int64(quantity[i])
        sums[row, 3] = min(sums[row, 3], time[i])
        sums[row, 4] = max(sums[row, 4], time[i])


@kernel
def index_edges(keys: npt.NDArray[np.int32], used: int, index: npt.NDArray[np.int64]) -> None:
    """Fill an empty index with the edges in use."""
    mask = np.uint64(index.shape[0] - 1)
    for row in range(used):
        h = mix(
            (np.uint64(keys[row, 0]) << np.uint64(40))
            ^ (np.uint64(keys[row, 1]) << np.uint64(16))
            ^ mix(np.uint64(np.int64(keys[row, 2]) + 1))
        )
        slot = h & mask
        while index[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        index[slot] = row + 1


class Exposure:
    """What each enterprise scanned, addressed by party id."""

    def __init__(self) -> None:
        self.totals: npt.NDArray[np.int64] = np.empty((0, 8), np.int64)

    def grow(self, parties: int) -> None:
        """Have a row for each of ``parties``."""
        have = len(self.totals)
        if parties <= have:
            return
        grown = np.zeros((max(parties, 2 * have), 8), np.int64)
        grown[:, FIRST] = _NEVER
        grown[:, LAST] = -_NEVER
        grown[:have] = self.totals
        self.totals = grown

    def add(self, batch: EventBatch, custody: Custody) -> None:
        """Add the events of a slice."""
        b = batch
        add_exposure(
            b.kind,
            b.flags,
            b.source,
            b.target,
            b.quantity,
            b.price,
            b.time,
            custody.signal,
            self.totals,
        )

    def merge(self, other: npt.NDArray[np.int64], parties: npt.NDArray[np.int32]) -> None:
        """Add another engine's totals; ``parties`` gives its ids' numbers here."""
        if len(parties) == 0:
            return
        self.grow(int(parties.max()) + 1)
        theirs = other[: len(parties)]
        self.totals[parties, :FIRST] += theirs[:, :FIRST]
        self.totals[parties, FIRST] = np.minimum(self.totals[parties, FIRST], theirs[:, FIRST])
        self.totals[parties, LAST] = np.maximum(self.totals[parties, LAST], theirs[:, LAST])


class Edges:
    """Edges of the supply graph by giver, receiver and drug: one a hop, summed."""

    def __init__(self) -> None:
        self.used = np.zeros(1, np.int64)
        self.keys: npt.NDArray[np.int32] = np.empty((1 << 10, 3), np.int32)
        self.sums: npt.NDArray[np.int64] = np.empty((1 << 10, 5), np.int64)
        self.index: npt.NDArray[np.int64] = np.zeros(1 << 12, np.int64)

    def __len__(self) -> int:
        return int(self.used[0])

    def _reserve(self, more: int) -> None:
        need = len(self) + more
        if need > len(self.keys):
            size = max(2 * len(self.keys), need)
            keys, sums = np.empty((size, 3), np.int32), np.empty((size, 5), np.int64)
            keys[: len(self)] = self.keys[: len(self)]
            sums[: len(self)] = self.sums[: len(self)]
            self.keys, self.sums = keys, sums
        if 2 * need > len(self.index):
            size = len(self.index)
            while 2 * need > size:
                size *= 2
            self.index = np.zeros(size, np.int64)
            index_edges(self.keys, len(self), self.index)

    def add(self, batch: EventBatch, custody: Custody) -> None:
        """Add the hops of a slice."""
        b = batch
        self._reserve(int(np.count_nonzero(custody.signal & np.uint32(sig.HOP))))
        add_edges(
            b.source,
            b.target,
            b.drug,
            b.quantity,
            b.price,
            b.time,
            custody.signal,
            self.index,
            self.keys,
            self.sums,
            self.used,
        )

    def restore(self, keys: npt.NDArray[np.int32], sums: npt.NDArray[np.int64]) -> None:
        """Hold exactly these edges."""
        self.keys, self.sums = np.ascontiguousarray(keys), np.ascontiguousarray(sums)
        self.used[0] = len(keys)
        self.index = np.zeros(1 << max(12, (4 * len(keys)).bit_length()), np.int64)
        index_edges(self.keys, len(keys), self.index)

    def merge(
        self,
        keys: npt.NDArray[np.int32],
        sums: npt.NDArray[np.int64],
        parties: npt.NDArray[np.int32],
        drugs: npt.NDArray[np.int32],
    ) -> None:
        """Add another engine's edges; ``parties`` and ``drugs`` give its ids' numbers here."""
        drugs_and_none = np.append(drugs, np.int32(-1))
        mine = np.column_stack(
            [parties[keys[:, 0]], parties[keys[:, 1]], drugs_and_none[keys[:, 2]]]
        ).astype(np.int32)
        all_keys = np.concatenate([self.keys[: len(self)], mine])
        all_sums = np.concatenate([self.sums[: len(self)], sums])
        unique, where = np.unique(all_keys, axis=0, return_inverse=True)
        where = where.reshape(-1)
        totals: npt.NDArray[Any] = np.zeros((len(unique), 5), np.int64)
        totals[:, 3] = _NEVER
        totals[:, 4] = -_NEVER
        for column in range(3):
            np.add.at(totals[:, column], where, all_sums[:, column])
        np.minimum.at(totals[:, 3], where, all_sums[:, 3])
        np.maximum.at(totals[:, 4], where, all_sums[:, 4])
        self.restore(unique.astype(np.int32), totals)
