"""Canonical order of one code's events, and the loop that applies them (``docs/semantics.md``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import Table, find_or_add, mix
from trace_engine.core.custody import Ints, Settings, apply
from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.owners import Owners
from trace_engine.core.packing import NO_CODE
from trace_engine.core.records import Integer, Record, Records
from trace_engine.events.batch import DATE_ONLY
from trace_engine.events.kinds import Role

LARGEST_GROUP = 64
_WAIT = 8

_NONE, _ORIGIN, _SHIP, _RECEIVE = (
    int(Role.NONE),
    int(Role.ORIGIN),
    int(Role.SHIP),
    int(Role.RECEIVE),
)
_RETURN_SHIP, _RETURN_RECEIVE = int(Role.RETURN_SHIP), int(Role.RETURN_RECEIVE)
_TRANSFER_SHIP, _TRANSFER_RECEIVE = int(Role.TRANSFER_SHIP), int(Role.TRANSFER_RECEIVE)
_RECALL_SHIP, _RECALL_RECEIVE = int(Role.RECALL_SHIP), int(Role.RECALL_RECEIVE)
_PERSON_SALE, _CONSUMER_RETURN = int(Role.PERSON_SALE), int(Role.CONSUMER_RETURN)
_DESTROY, _STOCK_CHANGE, _VOID = int(Role.DESTROY), int(Role.STOCK_CHANGE), int(Role.VOID)

_OUTGOING = np.zeros(len(Role), np.bool_)
_OUTGOING[[_SHIP, _RETURN_SHIP, _TRANSFER_SHIP, _RECALL_SHIP, _PERSON_SALE]] = True
_INCOMING = np.zeros(len(Role), np.bool_)
_INCOMING[[_RECEIVE, _RETURN_RECEIVE, _TRANSFER_RECEIVE, _RECALL_RECEIVE]] = True
_BRINGS = np.ones(len(Role), np.bool_)
_BRINGS[[_NONE, _VOID, _DESTROY, _STOCK_CHANGE]] = False


class Late(NamedTuple):
    """Hops found still waiting: log number, day due, owner on record; ``count[0]`` are filled."""

    seq: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    on_record: npt.NDArray[np.bool_]
    count: npt.NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count


@leaf
def brings_to(
    group: Ints, m: Integer, but: Integer, party: np.int32, sold: bool, events: Records
) -> bool:
    """Whether a remaining event other than ``but`` brings the code to ``party``.

    No person can bring back what is not sold.
    """
    if party < 0:
        return False
    for k in range(m):
        j = group[k]
        if k == but or (events[j].role == _CONSUMER_RETURN and not sold):
            continue
        if events[j].target == party and events[j].source != party and _BRINGS[events[j].role]:
            return True
    return False


@leaf
def reached_again(group: Ints, m: Integer, but: Integer, events: Records) -> bool:
    """Whether the giver of candidate ``but`` can be reached from its receiver by the others."""
    i = group[but]
    giver = events[i].source
    if giver < 0:
        return False
    if events[i].role == _PERSON_SALE:
        for k in range(m):
            j = group[k]
            if events[j].role == _CONSUMER_RETURN and events[j].target == giver:
                return True
        return False
    if events[i].target < 0:
        return False
    reached = np.uint64(0)  # bit by place in the group, which has at most 64
    grown = True
    while grown:
        grown = False
        for k in range(m):
            j = group[k]
            if (
                k == but
                or (reached >> np.uint64(k)) & np.uint64(1) != 0
                or events[j].source < 0
                or events[j].target < 0
            ):
                continue
            if events[j].source == events[j].target:
                continue
            start = events[j].source == events[i].target
            if not start:
                for other in range(m):
                    if (reached >> np.uint64(other)) & np.uint64(1) != 0 and events[
                        group[other]
                    ].target == events[j].source:
                        start = True
                        break
            if start:
                if events[j].target == giver:
                    return True
                reached |= np.uint64(1) << np.uint64(k)
                grown = True
    return False


@leaf
def rank_of(group: Ints, m: Integer, k: Integer, line: Record, events: Records) -> Integer:
    """Rank of candidate ``k`` of a tie group: the smallest goes next."""
    i = group[k]
    role = np.int64(events[i].role)
    giver, receiver = events[i].source, events[i].target
    sold = line.sales > 0
    in_hands = np.int32(-1) if sold else line.holder
    bit = np.uint8(1 << (line.current & 7)) if line.current != 0 else np.uint8(0)
    in_transit = (line.awaits_receipt & bit) != 0
    if role == _ORIGIN:
        return 0
    if _OUTGOING[role]:
        if role == _PERSON_SALE and sold:
            for other in range(m):
                if events[group[other]].role == _CONSUMER_RETURN:
                    return _WAIT
        if giver >= 0 and in_hands == giver:
            alone = True
            for other in range(m):
                j = group[other]
                if other != k and events[j].source == giver and _OUTGOING[events[j].role]:
                    alone = False
                    break
            if alone or reached_again(group, m, k, events):
                return 2
            return 3
        if brings_to(group, m, k, giver, sold, events):
            return _WAIT
        if giver >= 0 and line.owner == giver:
            return 4
        return 5 if line.owner < 0 else 6
    if _INCOMING[role]:
        if in_transit and receiver >= 0 and line.owner == receiver:
            return 1
        for other in range(m):
            j = group[other]
            if (
                other != k
                and receiver >= 0
                and events[j].target == receiver
                and _OUTGOING[events[j].role]
                and (giver < 0 or events[j].source == giver)
            ):
                return _WAIT
        if giver >= 0:
            if in_hands != giver and brings_to(group, m, k, giver, sold, events):
                return _WAIT
            if line.owner == giver or in_hands == giver:
                return 4
        return 5 if line.owner < 0 else 6
    if role == _CONSUMER_RETURN:
        if sold:
            return 1
        for other in range(m):
            if events[group[other]].role == _PERSON_SALE:
                return _WAIT
        return 6
    if role == _DESTROY:
        return 9
    if role == _VOID:
        return 10
    return 7


@leaf
def next_of_group(group: Ints, m: Integer, line: Record, events: Records) -> Integer:
    """Position in ``group`` of the event that comes next."""
    first_timed = np.int64(2**62)
    for k in range(m):
        i = group[k]
        if (events[i].flags & DATE_ONLY) == 0 and events[i].time < first_timed:
            first_timed = events[i].time
    best: Integer = np.int64(-1)
    best_rank: Integer = np.int64(99)
    for k in range(m):
        i = group[k]
        if (events[i].flags & DATE_ONLY) == 0 and events[i].time > first_timed:
            continue
        rank = rank_of(group, m, k, line, events)
        if rank < best_rank or (
            rank == best_rank and events[i].event_key < events[group[best]].event_key
        ):
            best, best_rank = k, rank
    return best


@leaf
def due(
    queue: Records,
    bounds: Ints,
    lines: Records,
    day: Integer,
    limit: Integer,
    late: Late,
    receipts_missing: bool,
) -> None:
    """Take from the queue all that fell due by the beginning of ``day``."""
    head, tail = bounds[0], bounds[1]
    while head < tail and np.int64(queue[head].day) + limit + 1 <= day:
        entry = queue[head]
        line = lines[entry.row]
        bit = np.uint8(1 << (entry.serial & 7))
        waits = line.awaits_receipt if receipts_missing else line.awaits_shipment
        # Eight hops of a code are watched: an older one has lost its bit to a younger.
        younger = (np.int64(line.next_serial) + 255 - np.int64(entry.serial)) % 255
        if entry.serial != 0 and younger < 8 and (waits & bit) != 0:
            k = late.count[0]
            late.seq[k] = np.int64(entry.seq)
            late.day[k] = np.int64(entry.day) + limit + 1
            late.on_record[k] = entry.on_record
            late.count[0] = k + 1
        head += 1
    bounds[0] = head


# Lines are asked for in blocks before they are used, so that waits for memory overlap.
_BLOCK = 32


@leaf
def look_up(
    rows: Ints,
    start: Integer,
    seq_base: Integer,
    table: Table,
    events: Records,
    results: Records,
    position: Ints,
) -> None:
    """Find the line of every event, and the next event of the same code within the slice.

    Leaves ``last_seq`` of each line at its last event of the slice, and ``previous`` of each event.
    """
    n = rows.shape[0]
    index = table.index
    lines = table.lines
    mask = np.uint64(index.shape[0] - 1)
    touched = np.uint64(0)
    for block in range(0, n, _BLOCK):
        stop = min(block + _BLOCK, n)
        for k in range(block, stop):
            touched ^= index[(mix(events[k].code) >> np.uint64(3)) & mask]
        for k in range(block, stop):
            entry = index[(mix(events[k].code) >> np.uint64(3)) & mask]
            if entry != 0:
                touched ^= lines[np.int64(entry & np.uint64(0xFFFFFFFF)) - 1].key
        for k in range(block, stop):
            r = results[k]
            r.state = np.uint8(0)
            r.following = np.int32(-1)
            if (events[k].flags & NO_CODE) != 0:
                r.row = np.uint32(0xFFFFFFFF)
                continue
            row = find_or_add(table, events[k].code)
            line = lines[row]
            r.row = np.uint32(row)
            before = line.last_seq
            r.previous = before
            if before != np.uint32(0xFFFFFFFF) and np.int64(before) >= seq_base:
                earlier = position[np.int64(before) - seq_base] - start
                results[earlier].following = np.int32(k)
            line.last_seq = np.uint32(seq_base + rows[k])
    table.used[2] = np.int64(touched & np.uint64(1))  # keeps the reads above from being dropped


# States of an event in RESULT.state
_DAY_TIMED = 1  # not alone on its day, whose events of this code all carry a time
_DONE = 2
_DAY_MIXED = 3  # not alone on its day, on which some event of this code is date-only


@leaf
def mark_day(i: Integer, today: Integer, events: Records, results: Records) -> None:
    """Mark all events of this code on the day of ``i``, its first one that day."""
    state = np.uint8(_DAY_TIMED)
    j = i
    while j >= 0 and np.int64(events[j].seconds) // 86400 == today:
        if (events[j].flags & DATE_ONLY) != 0:
            state = np.uint8(_DAY_MIXED)
        j = np.int64(results[j].following)
    j = i
    while j >= 0 and np.int64(events[j].seconds) // 86400 == today:
        results[j].state = state
        j = np.int64(results[j].following)


@kernel
def sorted_crowd(i: Integer, m: Integer, events: Records, results: Records) -> Ints:
    """Return the ``m`` events from ``i`` on by ``(time, event_key)``: groups too large to rank."""
    crowd = np.empty(m, np.int64)
    keys = np.empty(m, np.uint64)
    times = np.empty(m, np.int64)
    j = i
    for g in range(m):
        crowd[g] = j
        keys[g] = events[j].event_key
        j = np.int64(results[j].following)
    by_key = crowd[np.argsort(keys, kind="mergesort")]
    for g in range(m):
        times[g] = events[by_key[g]].time
    return by_key[np.argsort(times, kind="mergesort")]


@kernel
def run_shard(
    rows: Ints,
    start: Integer,
    seq_base: Integer,
    last_day: Integer,
    table: Table,
    events: Records,
    results: Records,
    position: Ints,
    parties: Records,
    settings: Settings,
    shipments: Records,
    shipment_bounds: Ints,
    receipts: Records,
    receipt_bounds: Ints,
    late_shipments: Late,
    late_receipts: Late,
) -> None:
    """Apply one shard's events (time ascending) and let deadlines fall due.

    ``rows``, ``events`` and ``results`` are the shard's part, which begins at ``start`` of the
    slice's; ``position`` is the whole slice's. Days count from 2000-01-01.
    """
    look_up(rows, start, seq_base, table, events, results, position)
    lines = table.lines
    owners = Owners(table.nodes, table.used)
    group = np.empty(LARGEST_GROUP, np.int64)
    day = np.int64(-(2**62))
    touched = np.uint64(0)
    for i in range(rows.shape[0]):
        if i % _BLOCK == 0:
            for k in range(i, min(i + _BLOCK, rows.shape[0])):
                if results[k].row != np.uint32(0xFFFFFFFF):
                    touched ^= lines[results[k].row].key
        o = results[i]
        row = np.int64(o.row)
        if o.row == np.uint32(0xFFFFFFFF):
            o.signal = np.uint32(0)
            o.owner_before = np.int32(-1)
            o.cost = np.int32(-1)
            o.previous = np.uint32(0xFFFFFFFF)
            continue
        if o.state == _DONE:
            continue
        e = events[i]
        today = np.int64(e.seconds) // 86400
        if today != day:
            day = today
            due(
                shipments, shipment_bounds, lines, day, settings.shipment_days, late_shipments, True
            )
            due(receipts, receipt_bounds, lines, day, settings.receipt_days, late_receipts, False)
        line = lines[row]
        before = o.previous
        if before == np.uint32(0xFFFFFFFF) or np.int64(before) < seq_base:
            line.last_seq = before  # undo the mark of the look-up
        m = np.int64(1)
        j: Integer = np.int64(o.following)
        if j >= 0:
            if o.state == 0 and np.int64(events[j].seconds) // 86400 == today:
                mark_day(i, today, events, results)
            if o.state != 0:
                mixed = o.state == _DAY_MIXED
                while (
                    j >= 0
                    and np.int64(events[j].seconds) // 86400 == today
                    and (mixed or events[j].time == e.time)
                ):
                    m += 1
                    j = np.int64(results[j].following)
        if m == 1:
            apply(
                seq_base + rows[i],
                row,
                line,
                e,
                o,
                owners,
                parties,
                settings,
                shipments,
                shipment_bounds,
                receipts,
                receipt_bounds,
            )
            o.state = np.uint8(_DONE)
        elif m > LARGEST_GROUP:
            for j in sorted_crowd(i, m, events, results):
                apply(
                    seq_base + rows[j],
                    row,
                    line,
                    events[j],
                    results[j],
                    owners,
                    parties,
                    settings,
                    shipments,
                    shipment_bounds,
                    receipts,
                    receipt_bounds,
                )
                results[j].state = np.uint8(_DONE)
        else:
            j = i
            for g in range(m):
                group[g] = j
                j = np.int64(results[j].following)
            while m > 0:
                best = next_of_group(group, m, line, events)
                j = group[best]
                apply(
                    seq_base + rows[j],
                    row,
                    line,
                    events[j],
                    results[j],
                    owners,
                    parties,
                    settings,
                    shipments,
                    shipment_bounds,
                    receipts,
                    receipt_bounds,
                )
                results[j].state = np.uint8(_DONE)
                m -= 1
                group[best] = group[m]
    table.used[2] = np.int64(touched & np.uint64(1))
    due(shipments, shipment_bounds, lines, last_day, settings.shipment_days, late_shipments, True)
    due(receipts, receipt_bounds, lines, last_day, settings.receipt_days, late_receipts, False)
