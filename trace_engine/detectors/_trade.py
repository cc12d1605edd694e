"""What the rules about the supply graph share: trade as edges, one for each bill, drug and day.

Definitions
-----------
*Trade*: an event that made a hop (a change of owner that is no return) whose giver, receiver and drug
are known and whose two sides are strangers (not of one registered group). Transfers inside a group,
returns and recalls make no hop; a shipment and its receipt make one.

*Bill edge*: the trade of one day with one giver, receiver, drug and bill (without a bill number: of
that day), scans that state only a date apart from those with a time. Its packs are the sum of their
quantities (each at least 1), its amount what they cost (price × quantity, fen, where a price is
stated), its time that of its last scan (by time, then event key), which also
stands for it as evidence. So it rests on nothing that happened after its time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, pair_all
from trace_engine.detectors._scanning import taken
from trace_engine.detectors.base import Rows, Slice
from trace_engine.events.batch import DAY

Int64 = npt.NDArray[np.int64]

COLUMNS: dict[str, Any] = {
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
    "source": np.int32,
    "target": np.int32,
    "drug": np.int32,
    "bill": np.uint64,
    "packs": np.int64,
    "amount": np.int64,
}


_SLOTS = 4096  # bills open at a time while a slice is summed


@kernel
def _trades(
    signal: npt.NDArray[np.uint32],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    wanted: npt.NDArray[np.bool_],
    rows: Int64,
    counts: Int64,
) -> int:
    """Write the rows that are trade of ``wanted`` givers; return how many.

    ``counts``: trade, that names no drug, and with a drug of other givers.
    """
    m = 0
    for i in range(len(signal)):
        if not signal[i] & np.uint32(signals.HOP):
            continue
        giver, receiver = source[i], target[i]
        if giver < 0 or receiver < 0 or giver == receiver:
            continue
        if group[giver] >= 0 and group[giver] == group[receiver]:
            continue
        counts[0] += 1
        if drug[i] < 0:
            counts[1] += 1
        elif wanted[giver]:
            rows[m] = i
            m += 1
        else:
            counts[2] += 1
    return m


def trades(data: Slice, wanted: npt.NDArray[np.bool_] | None = None) -> tuple[Int64, Int64]:
    """Return the rows of a slice that are trade, and counts: trade, without a drug, not wanted.

    ``wanted``: givers by party that are looked at; None: all.
    """
    batch, view = data.batch, data.registry
    rows, counts = np.empty(len(data), np.int64), np.zeros(3, np.int64)
    if wanted is None:
        wanted = np.ones(len(view.party_group), np.bool_)
    m = _trades(
        data.custody.signal, batch.source, batch.target, batch.drug, view.party_group, wanted,
        rows, counts,
    )  # fmt: skip
    return rows[:m].copy(), counts


@kernel
def sum_bills(
    rows: Int64,
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    bill: npt.NDArray[np.uint64],
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    quantity: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    by_pack: bool,
    slot: Int64,
    last: Int64,
    total: Int64,
    amount: Int64,
) -> int:
    """Sum rows of one bill edge that follow one another; return how many sums there are.

    ``last``: the row of each sum that is last by (time, event key). Few bills are scanned at a
    time, so a small table (``slot``, filled with -1) holds the open ones; a bill that was driven
    out of it gives a further sum, which :func:`bill_edges` joins. ``by_pack``: sum packs, else codes.
    ``amount``: what they cost, fen.
    """
    n = 0
    mask = np.uint64(len(slot) - 1)
    for k in range(len(rows)):
        i = rows[k]
        place = mix(bill[i] ^ (np.uint64(target[i]) << np.uint64(32)) ^ np.uint64(source[i])) & mask
        packs = max(quantity[i], 1) if by_pack else 1
        worth = np.int64(max(price[i], 0)) * max(quantity[i], 1)
        at = slot[place]
        if at >= 0:
            j = last[at]
            if (
                bill[i] == bill[j]
                and source[i] == source[j]
                and target[i] == target[j]
                and drug[i] == drug[j]
                and time[i] // DAY == time[j] // DAY
                and (time[i] % DAY == 0) == (time[j] % DAY == 0)
            ):
                total[at] += packs
                amount[at] += worth
                if (time[i], event_key[i]) > (time[j], event_key[j]):
                    last[at] = i
                continue
        slot[place] = n
        last[n], total[n], amount[n] = i, packs, worth
        n += 1
    return n


def summed(
    data: Slice, rows: Int64, drug: npt.NDArray[np.int32], *, by_pack: bool
) -> tuple[Int64, Int64, Int64]:
    """Return the last row of each sum of ``rows``, sums and amounts; see :func:`sum_bills`."""
    batch = data.batch
    last, total, amount = np.empty((3, len(rows)), np.int64)
    m = sum_bills(
        rows, batch.source, batch.target, drug, batch.bill, batch.time, batch.event_key,
        batch.quantity, batch.price, by_pack, np.full(_SLOTS, -1, np.int64), last, total, amount,
    )  # fmt: skip
    return last[:m].copy(), total[:m].copy(), amount[:m].copy()


def trade_rows(data: Slice, hops: Int64) -> Rows:
    """Return the bill edges of the trade at rows ``hops`` of a slice, in parts, by time."""
    batch = data.batch
    last, packs, amount = summed(data, hops, batch.drug, by_pack=True)
    order = np.argsort(batch.time[last], kind="stable")
    last = last[order]
    rows: Rows = {"seq": data.seq_base + last, "packs": packs[order], "amount": amount[order]}
    for name in ("time", "event_key", "source", "target", "drug", "bill"):
        rows[name] = getattr(batch, name)[last]
    return rows


@kernel
def _sum_by(
    ids: npt.NDArray[np.int32],
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    packs: Int64,
    amount: Int64,
    total: Int64,
    worth: Int64,
    last: Int64,
) -> None:
    """Sum packs and amounts by id, and note the row of each that is last by (time, event key)."""
    for i in range(ids.shape[0]):
        k = ids[i]
        total[k] += packs[i]
        worth[k] += amount[i]
        at = last[k]
        if at < 0 or (time[i], event_key[i]) > (time[at], event_key[at]):
            last[k] = i


def bill_edges(rows: Rows) -> Rows:
    """Join rows of the same bill edge (in parts, or of two engines), by (time, event key)."""
    day = rows["time"] // DAY
    moment = 2 * day + (rows["time"] % DAY == 0)
    ends = KeySpace({}, "ends")
    of_day = ends.ids(pair_all(rows["source"], rows["target"]), pair_all(rows["drug"], moment))
    edges = KeySpace({}, "edges")
    ids = edges.ids(rows["bill"], of_day.astype(np.uint64))
    (total, worth), last = np.zeros((2, len(edges)), np.int64), np.full(len(edges), -1, np.int64)
    _sum_by(ids, rows["time"], rows["event_key"], rows["packs"], rows["amount"], total, worth, last)
    order = np.lexsort((rows["event_key"][last], rows["time"][last]))
    joined = taken(rows, last[order])
    joined["packs"], joined["amount"] = total[order], worth[order]
    return joined
