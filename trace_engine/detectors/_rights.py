"""Which events of a slice concern enterprises whose right to trade must be looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors.base import ROLE_OF, Slice
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
    role_of: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    kind: npt.NDArray[np.int8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write the trades of concerned parties; return how many. ``counts``: registered, others."""
    m = 0
    for i in range(len(kind)):
        role = role_of[kind[i]]
        if role != SHIP and role != RECEIVE and role != PERSON_SALE:
            continue
        giver, receiver = flags[source[i]], flags[target[i]]
        acting = receiver if role == RECEIVE else giver
        counts[0 if acting & REGISTERED else 1] += 1
        if (giver | receiver) & CONCERNED:
            rows[m] = i
            m += 1
    return m


def trades_of(data: Slice, concerned: npt.NDArray[np.bool_]) -> tuple[Int64, int, int]:
    """Return the trades with a concerned party, and how many trades acted by registered and others.

    ``concerned`` by row of ``enterprises`` (shape ``(rows + 1,)``, the last one false). A trade is a
    shipment, a receipt or a sale to a person; who acts is the giver, of a receipt the receiver.
    """
    view, batch = data.registry, data.batch
    # One entry more, for the party -1.
    flags = np.zeros(len(view.party_row) + 1, np.uint8)
    flags[:-1] = concerned[view.party_row] * np.uint8(CONCERNED)
    flags[:-1] |= view.party_known * np.uint8(REGISTERED)
    counts = np.zeros(2, np.int64)
    rows = np.empty(len(batch), np.int64)
    m = _pick(ROLE_OF, flags, batch.kind, batch.source, batch.target, rows, counts)
    return rows[:m].copy(), int(counts[0]), int(counts[1])
