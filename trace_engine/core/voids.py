"""Voids: a cancelled event is taken out by telling the code's story again without it.

Few codes are touched, so they leave the fast path: their events so far come back from the log, and
a small set of shards replays them. Each void needs one more replay, in which its target is missing;
an event takes its results from the replay that lacks exactly what was voided before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.codetable import NO_SEQ, SHARDS, Table, find, find_or_add, mix
from trace_engine.core.kernel import kernel
from trace_engine.core.movements import Settings
from trace_engine.core.packing import Columns, Reference
from trace_engine.core.records import Records
from trace_engine.core.shards import SPREAD, CodeShards, Runner, columns_of
from trace_engine.core.signals import Custody, Overdue
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.events.batch import EventBatch

Int64 = npt.NDArray[np.int64]
_VOID = int(EventKind.VOID)


@kernel
def find_lines(table: Table, codes: npt.NDArray[np.uint64], rows: Int64) -> None:
    """Write the line of each code (or -1) to ``rows``."""
    for i in range(codes.shape[0]):
        rows[i] = find(table, codes[i])


@kernel
def adopt_lines(
    theirs: Table, ours: Table, codes: npt.NDArray[np.uint64], rows: Int64, their_rows: Int64
) -> None:
    """Copy the lines of ``codes`` from one table to another, with their deeper owners."""
    for i in range(codes.shape[0]):
        their_row = find(theirs, codes[i])
        row = find_or_add(ours, codes[i])
        rows[i] = row
        their_rows[i] = their_row
        ours.lines[row] = theirs.lines[their_row]
        line = ours.lines[row]
        tail = line.tail
        below = np.int64(-1)
        while tail < -1:
            node = -np.int64(tail) - 2
            copy = ours.used[1]
            ours.used[1] = copy + 1
            ours.nodes[copy, 0] = theirs.nodes[node, 0]
            ours.nodes[copy, 1] = -1
            if below < 0:
                line.tail = np.int32(-(copy + 2))
            else:
                ours.nodes[below, 1] = np.int32(-(copy + 2))
            below = copy
            tail = theirs.nodes[node, 1]


def step_with_voids(
    shards: CodeShards,
    batch: EventBatch,
    seq_base: int,
    last_day: int,
    reference: Reference,
    parties: Records,
    settings: Settings,
    run: Runner,
    log: EventLog,
    voided: set[int],
    clock_day: int | None = None,
) -> Custody:
    """Take a slice through custody; ``voided`` (log numbers) is added to. See ``CodeShards.step``.

    ``clock_day`` is the last day judged before: deadlines up to it have been reported.
    """
    arrays = reference
    if not (batch.kind == _VOID).any():
        return shards.step(batch, seq_base, last_day, arrays, parties, settings, run)
    codes = np.unique(batch.code[batch.kind == _VOID])
    involved = np.isin(batch.code, codes)
    rows = np.flatnonzero(involved)
    last_seq = _withdraw(shards, codes)
    custody = shards.step(batch, seq_base, last_day, arrays, parties, settings, run, ~involved)
    story = _Story(log, batch, rows, last_seq[last_seq >= 0], seq_base)
    replay = _Replay(story, voided, dict(zip(codes.tolist(), last_seq.tolist(), strict=True)))
    first = story.run(replay.left_out, arrays, parties, settings, last_day, run)
    targets = replay.find_targets(first, batch, rows)
    results = [first]
    for number in range(replay.most_voids):
        replay.void(targets, number)
        results.append(story.run(replay.left_out, arrays, parties, settings, last_day, run))
    voided.update(int(s) for s in story.seq[[t for t, _, _ in targets]])
    final = results[-1]
    replay.put_in_order(results)
    _adopt(shards, final.shards, codes, story, replay.last_of(codes), last_seq)
    return replay.join(custody, results, rows, targets, clock_day)


def _withdraw(shards: CodeShards, codes: npt.NDArray[np.uint64]) -> Int64:
    """Take the codes' waiting hops off the queues; return the codes' last log numbers (or -1)."""
    last = np.full(len(codes), -1, np.int64)
    of_shard = shard_of(codes)
    for k, shard in enumerate(shards.shards):
        mine = np.flatnonzero(of_shard == k)
        if len(mine) == 0:
            continue
        lines = np.empty(len(mine), np.int64)
        find_lines(shard.table.view(), codes[mine], lines)
        known = lines >= 0
        seqs = shard.table.lines["last_seq"][lines[known]]
        last[mine[known]] = np.where(seqs == NO_SEQ, -1, seqs.astype(np.int64))
        for queue in (shard.shipments, shard.receipts):
            waiting = queue.waiting()
            gone = np.isin(waiting["row"], lines[known].astype(np.uint32))
            if gone.any():
                queue.replace(waiting[~gone])
    return last


def shard_of(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Return the shard of each code."""
    return _shard_of(np.ascontiguousarray(codes))


@kernel
def _shard_of(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    out = np.empty(codes.shape[0], np.uint8)
    for i in range(codes.shape[0]):
        out[i] = np.uint8(mix(codes[i]) & np.uint64(SHARDS - 1))
    return out


class _Run:
    """One replay: its shards and what custody said, rows as in the story."""

    def __init__(
        self, shards: CodeShards, custody: Custody, left_out: npt.NDArray[np.bool_]
    ) -> None:
        self.shards = shards
        self.custody = custody
        self.left_out = left_out

    def chains(self) -> list[list[int]]:
        """Return the places of each code's events, in the order this replay gave them."""
        previous = self.custody.previous
        follows = {int(p): i for i, p in enumerate(previous) if p >= 0 and not self.left_out[i]}
        chains = []
        for start in np.flatnonzero((previous < 0) & ~self.left_out).tolist():
            chain = [start]
            while chain[-1] in follows:
                chain.append(follows[chain[-1]])
            chains.append(chain)
        return chains


class _Story:
    """All events of some codes, logged ones and those of the slice, by time."""

    def __init__(
        self, log: EventLog, batch: EventBatch, rows: Int64, last_seq: Int64, seq_base: int
    ) -> None:
        _, logged = log.paths(last_seq, longest=None)
        now = columns_of(batch)
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.concatenate([log.column(name, logged), getattr(now, name)[rows]])
            for name in Columns._fields
        }
        seq = np.concatenate([logged, seq_base + rows])
        # Logged events stand in the order they were judged in; a stable sort keeps ties that way.
        order = np.lexsort((np.arange(len(seq)), columns["time"]))
        self.columns = Columns(**{name: column[order] for name, column in columns.items()})
        self.seq = seq[order]
        self.in_slice = self.seq >= seq_base
        self.place_of_row = np.empty(len(rows), np.int64)
        slice_places = np.flatnonzero(self.in_slice)
        self.place_of_row[np.searchsorted(rows, self.seq[slice_places] - seq_base)] = slice_places

    def run(
        self,
        left_out: npt.NDArray[np.bool_],
        arrays: Any,
        parties: Any,
        settings: Settings,
        last_day: int,
        run: Runner,
    ) -> _Run:
        """Replay all but ``left_out`` (by place in the story)."""
        shards = CodeShards()
        custody = shards.step_columns(
            self.columns, 0, last_day, arrays, parties, settings, run, ~left_out
        )
        return _Run(shards, custody, left_out.copy())


class _Replay:
    """Which events of a story are left out when, and whose results count."""

    def __init__(self, story: _Story, voided: set[int], before: dict[int, int]) -> None:
        self.story = story
        self.before = before  # code -> its last log number before the slice
        self.left_out = np.isin(story.seq, np.fromiter(voided, np.int64, len(voided)))
        self.most_voids = 0
        self.round_of: Int64 = np.zeros(len(story.seq), np.int64)
        self.order: dict[int, list[int]] = {}
        self.unmatched: list[int] = []

    def find_targets(
        self, first: _Run, batch: EventBatch, rows: Int64
    ) -> list[tuple[int, int, int]]:
        """Return (place of the target, number of the void among its code's, place of the void)."""
        story = self.story
        voids_key = np.zeros(len(story.seq), np.uint64)
        voids_key[story.place_of_row] = batch.voids[rows]
        targets: list[tuple[int, int, int]] = []
        for chain in first.chains():
            self.order[int(story.columns.code[chain[0]])] = chain
            gone: set[int] = set()
            seen: dict[int, int] = {}
            count = 0
            for place in chain:
                if story.in_slice[place] and story.columns.kind[place] == _VOID:
                    target = seen.get(int(voids_key[place]), -1)
                    if target < 0 or target in gone:
                        self.unmatched.append(place)
                    else:
                        gone.add(target)
                        targets.append((target, count, place))
                        count += 1
                elif story.columns.kind[place] != _VOID:
                    seen[int(story.columns.event_key[place])] = place
                self.round_of[place] = count
            self.most_voids = max(self.most_voids, count)
        return targets

    def void(self, targets: list[tuple[int, int, int]], number: int) -> None:
        """Leave out the target of each code's void ``number``."""
        for target, count, _ in targets:
            if count == number:
                self.left_out[target] = True

    def put_in_order(self, results: list[_Run]) -> None:
        """Order each code's events between two voids as the replay that counts there did."""
        place_in: list[dict[int, int]] = [
            {place: k for chain in result.chains() for k, place in enumerate(chain)}
            for result in results
        ]
        for chain in self.order.values():
            chain.sort(
                key=lambda place: (
                    self.round_of[place],
                    place_in[int(self.round_of[place])].get(place, -1),
                )
            )

    def last_of(self, codes: npt.NDArray[np.uint64]) -> Int64:
        """Return the place of each code's latest event of the slice."""
        latest = []
        for code in codes.tolist():
            chain = self.order[code]
            latest.append(next((p for p in reversed(chain) if self.story.in_slice[p]), -1))
        return np.array(latest, np.int64)

    def join(
        self,
        custody: Custody,
        results: list[_Run],
        rows: Int64,
        targets: list[tuple[int, int, int]],
        clock_day: int | None,
    ) -> Custody:
        """Write the replayed rows' results into those of the slice."""
        story = self.story
        places = story.place_of_row
        rounds = np.minimum(self.round_of[places], len(results) - 1)
        base = len(custody.results)
        events: list[Any] = []
        records: list[Any] = []
        for number, result in enumerate(results):
            mine = rounds == number
            for name in SPREAD:
                if name == "previous":
                    continue
                getattr(custody, name)[rows[mine]] = getattr(result.custody, name)[places[mine]]
            position = result.custody.position[places[mine]]
            custody.position[rows[mine]] = np.where(position < 0, -1, base + position)
            events.append(result.custody.events)
            records.append(result.custody.results)
            base += len(result.custody.results)
        custody.replayed = np.concatenate(events), np.concatenate(records)
        row_of = dict(zip(places.tolist(), rows.tolist(), strict=True))
        for chain in self.order.values():
            # Voided events stay on the path.
            before = self.before.get(int(story.columns.code[chain[0]]), -1)
            for place in chain:
                if not story.in_slice[place]:
                    continue
                custody.previous[row_of[place]] = before
                before = int(story.seq[place])
        for place in self.unmatched:
            custody.signal[row_of[place]] |= np.uint32(sig.VOID_UNMATCHED)
        since = -(2**40) if clock_day is None else clock_day
        void_days: dict[int, list[int]] = {}  # by code: days of the voids that found their event
        for _, _, place in targets:
            code = int(story.columns.code[place])
            void_days.setdefault(code, []).append(int(story.columns.time[place]) // DAY)
        custody.overdue_shipments = self._late(
            custody.overdue_shipments,
            [result.custody.overdue_shipments for result in results],
            void_days,
            since,
        )
        custody.overdue_receipts = self._late(
            custody.overdue_receipts,
            [result.custody.overdue_receipts for result in results],
            void_days,
            since,
        )
        return custody

    def _late(
        self, ours: Overdue, theirs: list[Overdue], void_days: dict[int, list[int]], since: int
    ) -> Overdue:
        """Add what fell due after day ``since``, each from the replay that knew as much as that day.

        A deadline comes at the beginning of its day, before the voids of that day.
        """
        seq, deadline, on_record = [ours.seq], [ours.deadline], [ours.owner_on_record]
        for number, late in enumerate(theirs):
            codes = self.story.columns.code[late.seq].tolist()
            known = [
                sum(day < due for day in void_days.get(code, ()))
                for code, due in zip(codes, late.deadline.tolist(), strict=True)
            ]
            mine = (late.deadline > since) & (np.array(known, np.int64) == number)
            seq.append(self.story.seq[late.seq[mine]])
            deadline.append(late.deadline[mine])
            on_record.append(late.owner_on_record[mine])
        return Overdue(np.concatenate(seq), np.concatenate(deadline), np.concatenate(on_record))


def _adopt(
    shards: CodeShards,
    replayed: CodeShards,
    codes: npt.NDArray[np.uint64],
    story: _Story,
    last_place: Int64,
    last_seq: Int64,
) -> None:
    """Put the replayed lines and waiting hops in place of ours."""
    of_shard = shard_of(codes)
    for k, (ours, theirs) in enumerate(zip(shards.shards, replayed.shards, strict=True)):
        mine = np.flatnonzero(of_shard == k)
        if len(mine) == 0:
            continue
        ours.table.reserve(len(mine) + int(theirs.table.used[1]))
        rows, their_rows = np.empty(len(mine), np.int64), np.empty(len(mine), np.int64)
        # A code all of whose events were voided has no line there: find_or_add makes a fresh one.
        theirs.table.reserve(len(mine))
        add_lines(theirs.table.view(), codes[mine])
        adopt_lines(theirs.table.view(), ours.table.view(), codes[mine], rows, their_rows)
        places = last_place[mine]
        ours.table.lines["last_seq"][rows] = np.where(
            places >= 0, story.seq[places], last_seq[mine]
        ).astype(np.uint32)
        renumber = np.zeros(len(theirs.table), np.uint32)
        renumber[their_rows] = rows
        for queue, their_queue in (
            (ours.shipments, theirs.shipments),
            (ours.receipts, theirs.receipts),
        ):
            entries = their_queue.waiting().copy()
            entries["row"] = renumber[entries["row"]]
            entries["seq"] = story.seq[entries["seq"]].astype(np.uint32)
            queue.replace(np.concatenate([queue.waiting(), entries]))


@kernel
def add_lines(table: Table, codes: npt.NDArray[np.uint64]) -> None:
    """Make sure that every code has a line."""
    for i in range(codes.shape[0]):
        find_or_add(table, codes[i])
