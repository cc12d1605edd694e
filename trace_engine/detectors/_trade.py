"""What the rules about the supply graph share: trade as edges, one for each bill, drug and day.

Definitions
-----------
*Trade*: an event that made a hop (a change of owner that is no return) whose giver, receiver and drug
are known and whose two sides are strangers (not of one registered group). Transfers inside a group,
returns and recalls make no hop; a shipment and its receipt make one.

*Bill edge*: the trade of one day with one giver, receiver, drug and bill (without a bill number: of
that day), scans that state only a date apart from those with a time. Its packs are the sum of their
quantities (each at least 1), its time that of its last scan (by time, then event key), which also
stands for it as evidence. So it rests on nothing that happened after its time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
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
}


def trades(data: Slice) -> tuple[Int64, int]:
    """Return the rows of a slice that are trade, and how many hops name no drug."""
    hops = data.custody.rows(signals.HOP)
    source, target = data.batch.source[hops], data.batch.target[hops]
    known = (source >= 0) & (target >= 0) & (source != target)
    hops, source, target = hops[known], source[known], target[known]
    group = data.registry.party_group
    strangers = (group[source] < 0) | (group[source] != group[target])
    hops = hops[strangers]
    named = data.batch.drug[hops] >= 0
    return hops[named], int(len(hops) - np.count_nonzero(named))


def trade_rows(data: Slice, hops: Int64) -> Rows:
    """Return the bill edges of the trade at rows ``hops`` of a slice, by time."""
    batch = data.batch
    rows: Rows = {"seq": data.seq_base + hops}
    for name in ("time", "event_key", "source", "target", "drug", "bill"):
        rows[name] = getattr(batch, name)[hops]
    rows["packs"] = np.maximum(batch.quantity[hops], 1).astype(np.int64)
    return bill_edges(rows)


@kernel
def _sum_by(
    ids: npt.NDArray[np.int32],
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    packs: Int64,
    total: Int64,
    last: Int64,
) -> None:
    """Sum packs by id, and note the row of each that is last by (time, event key)."""
    for i in range(ids.shape[0]):
        k = ids[i]
        total[k] += packs[i]
        at = last[k]
        if at < 0 or (time[i], event_key[i]) > (time[at], event_key[at]):
            last[k] = i


def bill_edges(rows: Rows) -> Rows:
    """Join rows of the same bill edge (those of two engines, say), by (time, event key)."""
    day = rows["time"] // DAY
    moment = 2 * day + (rows["time"] % DAY == 0)
    ends = KeySpace({}, "ends")
    of_day = ends.ids(pair_all(rows["source"], rows["target"]), pair_all(rows["drug"], moment))
    edges = KeySpace({}, "edges")
    ids = edges.ids(rows["bill"], of_day.astype(np.uint64))
    total, last = np.zeros(len(edges), np.int64), np.full(len(edges), -1, np.int64)
    _sum_by(ids, rows["time"], rows["event_key"], rows["packs"], total, last)
    order = np.lexsort((rows["event_key"][last], rows["time"][last]))
    joined = taken(rows, last[order])
    joined["packs"] = total[order]
    return joined
