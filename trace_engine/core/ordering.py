"""The loop that takes a shard's events in canonical order through custody (``docs/semantics.md``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import Table, find_or_add, mix
from trace_engine.core.custody import apply
from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.movements import Ints, Settings
from trace_engine.core.owners import Owners
from trace_engine.core.packing import NO_CODE
from trace_engine.core.ranks import LARGEST_GROUP, next_of_group
from trace_engine.core.records import Integer, Records
from trace_engine.events.batch import DATE_ONLY


class Late(NamedTuple):
    """Hops found still waiting: log number, day due, owner on record; ``count[0]`` are filled."""

    seq: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    on_record: npt.NDArray[np.bool_]
    count: npt.NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count


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
def _look_up(
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


@kernel
def look_up(
    rows: Ints,
    start: Integer,
    seq_base: Integer,
    table: Table,
    events: Records,
    results: Records,
    position: Ints,
) -> None:
    """Find the line of every event of a shard, whose part of the slice begins at ``start``.

    ``position`` is the whole slice's. New codes get fresh lines, after all others.
    """
    _look_up(rows, start, seq_base, table, events, results, position)


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
    seq_base: Integer,
    last_day: Integer,
    table: Table,
    events: Records,
    results: Records,
    parties: Records,
    settings: Settings,
    shipments: Records,
    shipment_bounds: Ints,
    receipts: Records,
    receipt_bounds: Ints,
    late_shipments: Late,
    late_receipts: Late,
) -> None:
    """Apply one shard's events (time ascending, looked up) and let deadlines fall due.

    ``rows``, ``events`` and ``results`` are the shard's part. Days count from 2000-01-01.
    """
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
