"""Mergeable sums: what each enterprise scanned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
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
