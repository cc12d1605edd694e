"""Which events of a slice concern enterprises whose right to trade must be looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors.base import Slice
from trace_engine.events.kinds import Role

Int64 = npt.NDArray[np.int64]

SHIP, RECEIVE, PERSON_SALE = int(Role.SHIP), int(Role.RECEIVE), int(Role.PERSON_SALE)
TRADE = (Role.SHIP, Role.RECEIVE, Role.PERSON_SALE)

# What is known of the party that acts, beside what a detector asks: bits of ``flags``
CONCERNED = 1
REGISTERED = 2


def row_of(data: Slice, parties: npt.NDArray[np.int32]) -> Int64:
    """Return the rows of ``enterprises`` of parties; -1 where there is none, shape ``(m,)``."""
    # One entry more, for the party -1.
    rows = np.append(data.registry.party_row, np.int32(-1))
    return rows[parties].astype(np.int64)


@kernel
def _pick(
    trades: Int64,
    acting: npt.NDArray[np.int32],
    other: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint8],
    rows: Int64,
    m: int,
) -> tuple[int, int]:
    """Write the trades of concerned parties after ``m`` others; return how many, and registered acts.

    Without a branch: rows are written over until one is kept.
    """
    registered = 0
    for i in trades:
        actor, partner = int(flags[acting[i]]), int(flags[other[i]])
        registered += (actor >> 1) & 1
        rows[m] = i
        m += (actor | partner) & CONCERNED
    return m, registered


def trades_of(data: Slice, concerned: npt.NDArray[np.bool_]) -> tuple[Int64, int, int]:
    """Return the trades with a concerned party, and how many trades acted by registered and others.

    ``concerned`` by row of ``enterprises`` (shape ``(rows + 1,)``, the last one false). A trade is a
    shipment, a receipt or a sale to a person; who acts is the giver, of a receipt the receiver.
    """
    view, batch = data.registry, data.batch
    flags = data.table(_registered)
    if concerned.any():
        flags = flags.copy()
        flags[:-1] |= concerned[view.party_row]
    total = registered = m = 0
    rows = np.empty(len(batch), np.int64)
    for role in TRADE:
        trades = data.rows_of(role)
        sides = (batch.source, batch.target)
        acting, other = sides[::-1] if role == Role.RECEIVE else sides
        m, known = _pick(trades, acting, other, flags, rows, m)
        registered += known
        total += len(trades)
    return np.sort(rows[:m]), registered, total - registered


def _registered(data: Slice) -> npt.NDArray[np.uint8]:
    """Return the bit REGISTERED by party, and one entry more, for the party -1."""
    known = data.registry.party_known
    return np.append(known, False) * np.uint8(REGISTERED)
