"""What a trace asks of arrays alone: movements of packs, and how far goods can have got.

A *movement* is one pack going from one enterprise to another in one way (trade, return, transfer or
recall). Its shipment and its receipt tell the same movement, so of a pack, giver, receiver and way
the larger number of records of one side counts; records of one side that name the same bill (or, if
they name none, the same day) are one. A movement told by one side only is *unlinked*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.records import Records
from trace_engine.events.kinds import KINDS, EventKind, Role
from trace_engine.graph.multigraph import TYPE_OF_KIND, EdgeType
from trace_engine.graph.selection import latest_moment

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

TRADE, RETURN, TRANSFER, RECALL = range(4)
_WAY_OF_ROLE = {
    Role.SHIP: TRADE, Role.RECEIVE: TRADE, Role.RETURN_SHIP: RETURN, Role.RETURN_RECEIVE: RETURN,
    Role.TRANSFER_SHIP: TRANSFER, Role.TRANSFER_RECEIVE: TRANSFER, Role.RECALL_SHIP: RECALL,
    Role.RECALL_RECEIVE: RECALL,
}  # fmt: skip
_RECEIPTS = (Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE, Role.RECALL_RECEIVE)
_BY_KIND = sorted(KINDS, key=lambda k: k.kind)
WAY_OF_KIND: Int8 = np.array([_WAY_OF_ROLE.get(k.role, -1) for k in _BY_KIND], np.int8)
"""Way of a movement by event kind; -1 for what is none."""
_RECEIPT = np.array([k.role in _RECEIPTS for k in _BY_KIND], np.bool_)
_SHOWN: npt.NDArray[np.uint8] = np.where(
    TYPE_OF_KIND == EdgeType.INTERNAL_RECEIPT, int(EdgeType.INTERNAL), TYPE_OF_KIND
).astype(np.uint8)
_ROLE = np.array([int(k.role) for k in _BY_KIND], np.int8)
_ORIGIN, _DESTROY = int(Role.ORIGIN), int(Role.DESTROY)
_CONSUMER_RETURN, _STOCK_GAIN = int(Role.CONSUMER_RETURN), int(Role.STOCK_GAIN)
_NONE, _VOID = int(Role.NONE), int(Role.VOID)
STOCK_LOSS = int(EventKind.STOCK_LOSS)

# Columns of ``marks``: rows of a pack's events that say where it stands, -1 where there is none.
FIRST, LAST, LAST_MOVE, LAST_DESTROYED, ORIGIN = range(5)


class Movements(NamedTuple):
    """Movements of packs, one row for each pack, giver, receiver and way; all of shape ``(m,)``."""

    pack: Int32  # number of the pack
    source: Int32
    target: Int32
    way: Int8
    type: npt.NDArray[np.uint8]  # EdgeType of the first shipment, else of the first receipt
    times: Int32  # how many times it went this way
    unreceived: Int32  # of these, told by a shipment only
    unshipped: Int32  # of these, told by a receipt only
    first: Int64  # µs of the first and the last record
    last: Int64


@kernel
def _movements(
    starts: Int64,
    kind: Int8,
    source: Int32,
    target: Int32,
    bill: npt.NDArray[np.uint64],
    time: Int64,
    group: Int32,
    out_pack: Int32,
    out_source: Int32,
    out_target: Int32,
    out_way: Int8,
    out_type: npt.NDArray[np.uint8],
    shipments: Int32,
    receipts: Int32,
    times: Int32,
    unreceived: Int32,
    unshipped: Int32,
    first: Int64,
    last: Int64,
    marks: Int32,
    unnamed: Int64,
) -> int:
    """Fill the columns of :class:`Movements` and return how many rows they have."""
    used = 0
    day = 86_400_000_000
    for k in range(len(starts) - 1):
        begin = used
        for i in range(starts[k], starts[k + 1]):
            role = _ROLE[kind[i]]
            if role == _NONE or role == _VOID:
                continue
            if marks[k, 0] < 0:
                marks[k, 0] = i
            marks[k, 1] = i
            way = WAY_OF_KIND[kind[i]]
            if way >= 0 or role == _ORIGIN or role == _CONSUMER_RETURN or role == _STOCK_GAIN:
                marks[k, 2] = i
            if role == _DESTROY:
                marks[k, 3] = i
            elif role == _ORIGIN and marks[k, 4] < 0:
                marks[k, 4] = i
            if way < 0:
                continue
            receipt = _RECEIPT[kind[i]]
            if source[i] < 0 or target[i] < 0:
                unnamed[1 if receipt else 0] += 1
                continue
            if source[i] == target[i]:
                continue
            # A record of the same side, parties and way under the same bill, or day, is told again.
            again = False
            for j in range(starts[k], i):
                if (
                    source[j] == source[i]
                    and target[j] == target[i]
                    and WAY_OF_KIND[kind[j]] == way
                    and _RECEIPT[kind[j]] == receipt
                    and bill[j] == bill[i]
                    and (bill[i] != 0 or time[j] // day == time[i] // day)
                ):
                    again = True
                    break
            row = begin
            while row < used and not (
                out_source[row] == source[i]
                and out_target[row] == target[i]
                and out_way[row] == way
            ):
                row += 1
            if row == used:
                used += 1
                out_pack[row], out_source[row], out_target[row] = k, source[i], target[i]
                out_way[row], out_type[row] = way, _SHOWN[kind[i]]
                shipments[row], receipts[row] = 0, 0
                first[row], last[row] = time[i], time[i]
            first[row] = min(first[row], time[i])
            last[row] = max(last[row], time[i])
            if again:
                continue
            if receipt:
                receipts[row] += 1
            else:
                if shipments[row] == 0:
                    out_type[row] = _SHOWN[kind[i]]
                shipments[row] += 1
        for row in range(begin, used):
            times[row] = max(shipments[row], receipts[row])
            unreceived[row] = times[row] - receipts[row]
            unshipped[row] = times[row] - shipments[row]
        # Sold to one enterprise of a group and delivered to another: one movement, to the latter.
        for sold in range(begin, used):
            if unreceived[sold] == 0 or group[out_target[sold]] < 0:
                continue
            for taken in range(begin, used):
                if (
                    unshipped[taken] > 0
                    and out_source[taken] == out_source[sold]
                    and out_way[taken] == out_way[sold]
                    and group[out_target[taken]] == group[out_target[sold]]
                ):
                    both = min(unreceived[sold], unshipped[taken])
                    unreceived[sold] -= both
                    times[sold] -= both
                    unshipped[taken] -= both
    return used


def movements(
    starts: Int64,
    kind: Int8,
    source: Int32,
    target: Int32,
    bill: npt.NDArray[np.uint64],
    time: Int64,
    group: Int32,
) -> tuple[Movements, Int32, tuple[int, int]]:
    """Return the movements of packs, where each pack's decisive events stand, and unnamed records.

    Events of pack ``k`` are rows ``starts[k]`` to ``starts[k + 1]`` in canonical order. ``group``
    is by party, -1 none. The second is shape ``(packs, 5)``: rows by the columns named above. The
    third counts shipments that name no receiver and receipts that name no giver.
    """
    n, packs = len(kind), len(starts) - 1
    whole = [np.empty(n, np.int32) for _ in range(8)]
    pack, giver, receiver, shipments, receipts, times, unreceived, unshipped = whole
    way, shown = np.empty(n, np.int8), np.empty(n, np.uint8)
    first, last = np.empty(n, np.int64), np.empty(n, np.int64)
    marks = np.full((packs, 5), -1, np.int32)
    unnamed = np.zeros(2, np.int64)
    used = _movements(
        starts, kind, source, target, bill, time, group, pack, giver, receiver, way, shown,
        shipments, receipts, times, unreceived, unshipped, first, last, marks, unnamed,
    )  # fmt: skip
    columns = (pack, giver, receiver, way, shown, times, unreceived, unshipped, first, last)
    kept = np.flatnonzero(times[:used] > 0)
    found = Movements._make(column[kept] for column in columns)
    return found, marks, (int(unnamed[0]), int(unnamed[1]))


class Reach(NamedTuple):
    """Enterprises that goods can have reached, each of shape ``(r,)``, nearest first."""

    party: Int32
    hops: Int32  # fewest edges
    time: Int64  # µs: earliest arrival, or (backwards) latest departure
    drugs: Int32  # of how many drugs


@kernel
def _spread(
    start: Int64,
    target: Int32,
    first: Int64,
    last: Int64,
    queue: Int32,
    waiting: int,
    arrival: Int64,
    hops: Int32,
    most_hops: int,
) -> None:
    """Follow edges (CSR by source node) from the ``waiting`` nodes in ``queue``, hop by hop."""
    following, known = np.empty_like(queue), np.empty(len(queue), np.int64)
    queued = np.zeros(len(arrival), np.int32)
    level = 0
    while waiting > 0 and level < most_hops:
        level += 1
        more = 0
        for k in range(waiting):
            known[k] = arrival[queue[k]]  # what this level finds out is for the next
        for k in range(waiting):
            node, since = queue[k], known[k]
            for row in range(start[node], start[node + 1]):
                if last[row] < since:
                    continue
                there = max(first[row], since)
                to = target[row]
                if hops[to] < 0:
                    hops[to] = level
                elif there >= arrival[to]:
                    continue
                arrival[to] = there
                if queued[to] != level:
                    queued[to] = level
                    following[more] = to
                    more += 1
        waiting = more
        queue, following = following, queue


def reach(
    edges: Records, party: int, *, backwards: bool = False, begin: int | None = None,
    end: int | None = None, most_hops: int = 1 << 30,
) -> Reach:  # fmt: skip
    """Return whom goods of ``party`` can have reached, or (backwards) from whom they can have come.

    A way follows edges of one drug, each possibly as late as the one before. ``edges`` are records
    ``multigraph.EDGE``; an edge stands for all times between its first and last, a day without a
    time for the whole day. ``begin`` and ``end`` (µs) bound the way. The party itself is left out.
    """
    nothing = np.empty(0, np.int32)
    first, last = edges["first"].copy(), latest_moment(edges)
    source, target = edges["source"], edges["target"]
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    low, high = (lowest if begin is None else begin), (highest if end is None else end)
    inside = (last >= low) & (first <= high)
    first, last = np.maximum(first[inside], low), np.minimum(last[inside], high)
    source, target, drug = source[inside], target[inside], edges["drug"][inside]
    if backwards:
        source, target, first, last = target, source, -last, -first
    shift = np.int64(drug.max(initial=-1)) + 2
    ends = np.concatenate([source, target]).astype(np.int64) * shift
    ends += np.concatenate([drug, drug]).astype(np.int64) + 1
    keys, node = np.unique(ends, return_inverse=True)
    node = node.reshape(-1).astype(np.int32)
    from_node, to_node = node[: len(source)], node[len(source) :]
    owner = (keys // shift).astype(np.int32)
    begins = np.flatnonzero(owner == party).astype(np.int32)
    if len(begins) == 0:
        return Reach(nothing, nothing, np.empty(0, np.int64), nothing)
    order = np.argsort(from_node, kind="stable")
    start = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.bincount(from_node, minlength=len(keys)), out=start[1:])
    arrival = np.full(len(keys), highest, np.int64)
    hops = np.full(len(keys), -1, np.int32)
    arrival[begins], hops[begins] = lowest, 0
    queue = np.empty(len(keys), np.int32)
    queue[: len(begins)] = begins
    _spread(
        start, to_node[order], first[order], last[order], queue, len(begins), arrival, hops,
        most_hops,
    )  # fmt: skip
    found = np.flatnonzero((hops > 0) & (owner != party))
    parties, which = np.unique(owner[found], return_inverse=True)
    which = which.reshape(-1)
    least = np.full(len(parties), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(least, which, hops[found])
    moment = np.full(len(parties), highest, np.int64)
    np.minimum.at(moment, which, arrival[found])
    drugs = np.bincount(which, minlength=len(parties)).astype(np.int32)
    by = np.lexsort((parties, moment, least))
    return Reach(parties[by], least[by], (-moment if backwards else moment)[by], drugs[by])
