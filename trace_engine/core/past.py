"""The own events of some codes and of all they were ever in, fetched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import NO_SEQ, SHARDS, Table, find, mix
from trace_engine.core.kernel import kernel
from trace_engine.core.packages import LEVELS
from trace_engine.core.packing import Columns
from trace_engine.core.stories import (
    ACTS,
    REPLACES,
    STATES,
    WHOLE_DAY,
    Rows,
    Stories,
    flags_of,
    heights,
    roles_of,
    tell,
)
from trace_engine.events.batch import DAY, NO_CODE

if TYPE_CHECKING:
    from trace_engine.core.packagetable import PackageTable
    from trace_engine.core.shards import CodeShards
    from trace_engine.core.signals import Custody
    from trace_engine.events.batch import EventBatch

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

NEVER_VOID = np.iinfo(np.int32).max


@kernel
def _shard_of(codes: Keys) -> npt.NDArray[np.uint8]:
    out = np.empty(codes.shape[0], np.uint8)
    for i in range(codes.shape[0]):
        out[i] = np.uint8(mix(codes[i]) & np.uint64(SHARDS - 1))
    return out


def shard_of(codes: Keys) -> npt.NDArray[np.uint8]:
    """Return the shard of each code."""
    return _shard_of(np.ascontiguousarray(codes))


@kernel
def find_lines(table: Table, codes: Keys, rows: Int64) -> None:
    """Write the line of each code (or -1) to ``rows``."""
    for i in range(codes.shape[0]):
        rows[i] = find(table, codes[i])


def last_events(shards: CodeShards, codes: Keys) -> tuple[Int64, Int64]:
    """Return each code's line in its shard's table and its latest log number (-1: none).

    An archived code has a number and no line.
    """
    lines = np.full(len(codes), -1, np.int64)
    last = np.full(len(codes), -1, np.int64)
    of_shard = shard_of(codes)
    for k, shard in enumerate(shards.shards):
        mine = np.flatnonzero(of_shard == k)
        if len(mine) == 0:
            continue
        found = np.empty(len(mine), np.int64)
        find_lines(shard.table.view(), codes[mine], found)
        lines[mine] = found
        known = found >= 0
        seqs = shard.table.lines["last_seq"][found[known]]
        last[mine[known]] = np.where(seqs == NO_SEQ, -1, seqs.astype(np.int64))
    if shards.archive is not None and len(shards.archive):
        elsewhere = np.flatnonzero(lines < 0)
        last[elsewhere] = shards.archive.last_of(codes[elsewhere])
    return lines, last


def last_before(shards: CodeShards, custody: Custody, seq_base: int) -> Callable[[Keys], Int64]:
    """Return what gives codes' latest numbers in the log, which has not got the slice yet."""

    def last_of(keys: Keys) -> Int64:
        _, last = last_events(shards, keys)
        while len(now := np.flatnonzero(last >= seq_base)):
            last[now] = custody.previous[last[now] - seq_base]
        return last

    return last_of


def _groups(of: Int64 | Int32, count: int) -> tuple[Int64, Int64]:
    """Return (order, begin): the places of group ``k`` are ``order[begin[k]:begin[k + 1]]``."""
    order = (of.astype(np.int64) << 32) | np.arange(len(of))
    order.sort()  # ten times as fast as a stable argsort
    order &= 0xFFFFFFFF
    begin = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(of, minlength=count), out=begin[1:])
    return order, begin


def spread(begin: Int64, end: Int64) -> tuple[Int64, Int64]:
    """Return (which, place) of all places from ``begin[i]`` to ``end[i]``, run after run."""
    length = end - begin
    which = np.repeat(np.arange(len(begin)), length)
    start = np.cumsum(length) - length
    return which, np.arange(len(which)) - start[which] + begin[which]


def _by_time(time: Int64, key: Keys) -> Int64:
    """Return the order by ``(time, key)``; most times differ, so only equal ones are sorted twice."""
    order = np.argsort(time)
    ordered = time[order]
    again = np.zeros(len(time), np.bool_)
    again[1:] = ordered[1:] == ordered[:-1]
    again[:-1] |= again[1:]
    rows = np.sort(order[again])
    order[again] = rows[np.lexsort((key[rows], time[rows]))]
    return order


class Paths(Protocol):
    """Where a past finds its events: the event log, or what knows it better."""

    def paths(self, seqs: Int64, longest: int | None) -> tuple[Int64, Int64]:
        """Return (offsets (m+1,), numbers) of the events of each code."""
        ...

    def columns(self, names: Sequence[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return columns of the log at numbers."""
        ...


class Past:
    """Events of the codes that stories of some roots need, by ``(time, event_key)``.

    The roots are the first codes. ``void`` says from which view on an event is void (see
    :meth:`know`).
    """

    def __init__(
        self,
        table: PackageTable,
        log: Paths,
        roots: Int64,
        last_of: Callable[[Keys], Int64],
        batch: EventBatch | None = None,
        node_of_row: Int32 | None = None,
        seq_base: int = 0,
    ) -> None:
        """Fetch the events; ``last_of(keys)`` gives each code's latest number in the log (-1 none).

        That is what ``log.paths`` asks for: another ``log`` may go by other numbers.
        """
        nodes = table.closure(roots)
        try:
            self.roots = len(roots)
            self.keys: Keys = table.arrays.key[nodes]
            self.last_seq: Int64 = last_of(self.keys)
            known = np.flatnonzero(self.last_seq >= 0)
            offsets, logged = log.paths(self.last_seq[known], longest=None)
            code = np.repeat(known, np.diff(offsets)).astype(np.int32)
            names = [*Columns._fields, "parent"]
            columns = log.columns(names, logged)
            seq = logged
            if batch is not None and node_of_row is not None:
                place = np.where(node_of_row >= 0, table.arrays.place[node_of_row], -1)
                rows = np.flatnonzero(place >= 0)
                parent = batch.optional.get("parent")
                now = {name: getattr(batch, name)[rows] for name in Columns._fields}
                now["parent"] = np.full(len(rows), NO_CODE) if parent is None else parent[rows]
                columns = {name: np.concatenate([columns[name], now[name]]) for name in names}
                seq = np.concatenate([seq, seq_base + rows])
                code = np.concatenate([code, place[rows].astype(np.int32)])
            order = _by_time(columns["time"], columns["event_key"])
            columns = {name: column[order] for name, column in columns.items()}
            self.seq: Int64 = seq[order]
            self.code: Int32 = code[order]
            stated = columns.pop("parent")
            flags = flags_of(columns["kind"], columns["code"], stated, columns["time"])
            parent_place = np.full(len(flags), -1, np.int32)
            named = np.flatnonzero(stated != NO_CODE)
            stated_nodes = table.nodes_of(stated[named])
            there = stated_nodes >= 0
            parent_place[named[there]] = table.arrays.place[stated_nodes[there]]
        finally:
            table.release(nodes)
        self.seq_base = seq_base
        self.in_slice = self.seq >= seq_base if batch is not None else np.zeros(len(seq), np.bool_)
        self.columns = Columns(**columns)
        self.void = np.full(len(flags), NEVER_VOID, np.int32)
        self.rows = Rows(
            time=columns["time"],
            flags=flags,
            role=roles_of(columns["kind"]),
            source=columns["source"],
            target=columns["target"],
            bill=columns["bill"],
            code=self.code,
            parent=parent_place,
            void=self.void,
        )
        count = len(self.keys)
        self.own, self.own_begin = _groups(self.code, count)
        replacing = np.flatnonzero(((flags & REPLACES) != 0) & (parent_place >= 0))
        by_old, self.heirs_begin = _groups(parent_place[replacing], count)
        self.heirs: Int64 = replacing[by_old]
        self.height: Int64 = heights(
            self.rows, self.own, self.own_begin, self.heirs, self.heirs_begin
        )
        stating = np.flatnonzero(((flags & (STATES | REPLACES)) != 0) & (parent_place >= 0))
        self.lends = np.zeros(count, np.bool_)
        self.lends[parent_place[stating]] = True
        self.lends[self.code[self.heirs]] = True
        self.stating = stating
        self.replaces_others = np.unique(self.code[replacing])

    def know(self, voided: set[int], void_days: dict[int, int], days: list[int]) -> None:
        """Note which events are void: from the beginning (``voided``), or from a day on.

        View ``v`` is what was known when the first ``v`` of ``days`` had passed.
        """
        if voided:
            self.void[np.isin(self.seq, np.fromiter(voided, np.int64, len(voided)))] = 0
        if void_days:
            seqs = np.fromiter(void_days, np.int64, len(void_days))
            number = {day: view + 1 for view, day in enumerate(days)}
            for row in np.flatnonzero(np.isin(self.seq, seqs)).tolist():
                self.void[row] = number[void_days[int(self.seq[row])]]

    def tell(self, wanted: npt.NDArray[np.bool_], view: int) -> Stories:
        """Return links and stories of the codes ``wanted`` (and of those that lend)."""
        return tell(
            self.rows,
            self.own,
            self.own_begin,
            self.heirs,
            self.heirs_begin,
            self.height,
            self.lends,
            wanted,
            view,
        )

    def inherited(self, k: int, story: Stories, view: int, times: int = LEVELS) -> set[int]:
        """Return the rows that code ``k`` has from codes it replaced, ``times`` times back."""
        own = self.own[self.own_begin[k] : self.own_begin[k + 1]]
        own = own[self.void[own] > view]
        flags = self.rows.flags[own]
        found: set[int] = set()
        acting = own[(flags & ACTS) != 0]
        first_day = int(self.days(acting[:1])[0]) if len(acting) else NEVER_VOID
        for row in own[((flags & REPLACES) != 0) & (self.rows.parent[own] >= 0)].tolist():
            day = self.columns.time[row] // DAY
            if times == 0 or first_day < day:
                continue
            old = int(self.rows.parent[row])
            before = set(story.row[story.begin[old] : story.end[old]].tolist())
            before |= self.inherited(old, story, view, times - 1)
            whole = (self.rows.flags[row] & WHOLE_DAY) != 0
            end = int(self.columns.time[row]) + (DAY - 1 if whole else 0)
            found |= {i for i in before if self.columns.time[i] <= end and self.code[i] != k}
        return found

    def row_of(self, seqs: Int64) -> Int64:
        """Return the rows of log numbers, which must be there."""
        order = np.argsort(self.seq)
        return order[np.searchsorted(self.seq, seqs, sorter=order)]

    def days(self, rows: Int64) -> Int64:
        """Return the days of rows."""
        return self.columns.time[rows] // DAY


__all__ = ["ACTS", "NEVER_VOID", "Past", "find_lines", "last_events", "shard_of"]
