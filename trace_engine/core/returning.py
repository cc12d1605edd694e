"""Codes on their way to the archive, and back (``core.archive``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.core.archive import Archive, taken
from trace_engine.core.codetable import DEAD, LINE, NO_SEQ, Table, find_or_add
from trace_engine.core.kernel import kernel
from trace_engine.core.past import find_lines, shard_of
from trace_engine.core.records import Records

if TYPE_CHECKING:
    from trace_engine.core.shards import CodeShards, Runner, Shard

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@kernel
def _link(results: Records, known: int, before: npt.NDArray[np.uint32]) -> None:
    """Give the first event of codes that came back the number of their latest one before it.

    ``before[i]`` is that of line ``known + i``, NO_SEQ where it is new indeed.
    """
    for k in range(results.shape[0]):
        r = results[k]
        if r.row == np.uint32(0xFFFFFFFF) or r.previous != np.uint32(0xFFFFFFFF):
            continue
        new = np.int64(r.row) - known
        if new >= 0:
            r.previous = before[new]


def come_back(archive: Archive, k: int, shard: Shard, known: int, results: Records) -> None:
    """Fill lines of shard ``k`` from ``known`` on, new since a look-up, that were archived."""
    table = shard.table
    new = len(table) - known
    if new == 0 or archive.away[k].count == 0:
        return
    keys = np.ascontiguousarray(table.lines["key"][known : known + new])
    which, slots, numbers, units = archive.find(k, keys)
    if len(which) == 0:
        return
    rows = known + which
    marks = table.lines["last_seq"][rows].copy()  # the look-up left the last event of the slice
    archive.put_back(k, shard, rows, slots, numbers, units)
    table.reserve_nodes(2 * len(results))  # what the events of the slice may need
    before = np.full(new, NO_SEQ, np.uint32)
    before[which] = table.lines["last_seq"][rows]
    table.lines["last_seq"][rows] = marks
    _link(results, known, before)


@kernel
def _add_lines(table: Table, keys: Keys, rows: Int64) -> None:
    for i in range(keys.shape[0]):
        rows[i] = find_or_add(table, keys[i])


def recall(shards: CodeShards, codes: Keys) -> None:
    """Have the lines of those of ``codes`` (each once) that are archived come back."""
    archive = shards.archive
    if archive is None or len(archive) == 0:
        return
    of_shard = shard_of(codes)
    for k, shard in enumerate(shards.shards):
        keys = codes[of_shard == k]
        lines = np.empty(len(keys), np.int64)
        find_lines(shard.table.view(), keys, lines)
        _recall(archive, k, shard, keys[lines < 0])


def recall_all(shards: CodeShards) -> None:
    """Have all archived lines come back: for what takes all codes there are, one by one."""
    archive = shards.archive
    if archive is None or len(archive) == 0:
        return
    for keys in archive.units.codes():
        of_shard = shard_of(keys)
        for k, shard in enumerate(shards.shards):
            _recall(archive, k, shard, np.unique(keys[of_shard == k]))


def _recall(archive: Archive, k: int, shard: Shard, keys: Keys) -> None:
    which, slots, numbers, units = archive.find(k, keys)
    if len(which) == 0:
        return
    shard.table.reserve(len(which))
    rows = np.empty(len(which), np.int64)
    _add_lines(shard.table.view(), keys[which], rows)
    archive.put_back(k, shard, rows, slots, numbers, units)


def find_line(shards: CodeShards, key: int) -> Records | None:
    """Return the line of a code (shape (1,), records ``LINE``), live or archived, None if unknown.

    Another thread may judge meanwhile: the line is then as it was before or after an event.
    """
    codes = np.array([key], np.uint64)
    k = int(shard_of(codes)[0])
    rows = np.empty(1, np.int64)
    for _ in range(3):  # a code on its way between table and archive is in one of them
        table = shards.shards[k].table.view()
        find_lines(table, codes, rows)
        if rows[0] >= 0:
            found: Records = np.empty(1, LINE)
            found[:] = table.lines[rows]
            if found[0]["key"] == codes[0]:
                return found
        elif shards.archive is not None:
            away = shards.archive.line_of(key)
            if away is not None:
                return away
    return None


@kernel
def _closed(lines: Records, before: int, out: Bools) -> int:
    """Say which lines are of codes that were sold or died and have no event from ``before`` on."""
    count = 0
    for row in range(lines.shape[0]):
        line = lines[row]
        done = line.sales > 0 or (line.flags & DEAD) != 0
        out[row] = done and np.int64(line.last_seq) < before  # (NO_SEQ is larger than any)
        count += out[row]
    return count


def send_away(shards: CodeShards, before: int, share: float, run: Runner) -> int:
    """Archive codes that are done with and have no event with a log number from ``before`` on.

    Those whose hops still wait for their other half stay. A shard is left alone where fewer than
    ``share`` of its lines would go: rewriting its table is not worth it. Returns how many went.
    """
    archive = shards.archive
    assert archive is not None
    going: list[Bools] = [np.empty(0, np.bool_)] * len(shards.shards)

    def choose(k: int) -> None:
        shard = shards.shards[k]
        lines = shard.table.lines[: len(shard.table)]
        going[k] = np.empty(len(lines), np.bool_)
        if _closed(lines, before, going[k]) == 0:
            return
        for queue in (shard.shipments, shard.receipts):
            going[k][queue.waiting()["row"]] = False

    run(choose, range(len(shards.shards)))
    sent = 0
    leaving = []
    for k, shard in enumerate(shards.shards):
        rows = np.flatnonzero(going[k])
        if len(rows) and len(rows) >= share * len(going[k]):
            archive.add(shard, rows)
            leaving.append(k)
            sent += len(rows)
    run(lambda k: _leave(shards.shards[k], ~going[k]), leaving)
    return sent


def _leave(shard: Shard, stay: Bools) -> None:
    """Drop lines that do not stay, and number what refers to the others anew."""
    shard.firsts.reserve(len(stay))
    firsts = taken(shard.firsts.records, np.flatnonzero(stay))
    new_row = shard.table.keep(stay)
    shard.firsts.restore(firsts)
    for queue in (shard.shipments, shard.receipts):
        waiting = queue.waiting()
        waiting["row"] = new_row[waiting["row"]]
