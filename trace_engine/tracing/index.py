"""Which packs are of which batch, and which events are of which pack: built once from a state.

Packs are numbered as they stand in the code tables, shard after shard. A pack is of the drug and
batch of its first event that states a batch number (events made void do not count); one that states
none is of the batch of what it was in, or of what it replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import LINE, NO_SEQ, SHARDS, Table, find, mix
from trace_engine.core.eventlog import LOG_COLUMNS
from trace_engine.core.kernel import kernel
from trace_engine.core.packages import LEVELS
from trace_engine.core.records import Records
from trace_engine.core.returning import recall_all
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.shards import CodeShards
    from trace_engine.engine import Engine
    from trace_engine.tracing.packs import ToldPacks

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_VOID = int(EventKind.VOID)
FEW = 1024  # events of a chunk that are better read one by one


@kernel
def _chains(
    last: Int64,
    previous: Int64,
    left_out: npt.NDArray[np.bool_],
    starts: Int64,
    events: npt.NDArray[np.uint32],
    lacks: npt.NDArray[np.bool_],
) -> None:
    used = 0
    for k in range(len(last)):
        starts[k] = used
        at = last[k]
        while at >= 0:
            if not left_out[at]:
                events[used] = np.uint32(at)
                used += 1
            else:
                lacks[k] = True
            at = previous[at]
        low, high = starts[k], used - 1
        while low < high:
            events[low], events[high] = events[high], events[low]
            low += 1
            high -= 1
    starts[len(last)] = used


def chains(
    last: Int64, previous: Int64, left_out: npt.NDArray[np.bool_]
) -> tuple[Int64, npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """Return (starts, events, lacks) of chains that end with the events ``last`` (-1: empty).

    ``previous`` and ``left_out`` are by event. The events of chain ``k``, oldest first and without
    those left out, are ``events[starts[k]:starts[k + 1]]``; ``lacks[k]``: some were left out.
    """
    starts = np.zeros(len(last) + 1, np.int64)
    events = np.empty(len(previous), np.uint32)
    lacks = np.zeros(len(last), np.bool_)
    _chains(last, previous, left_out, starts, events, lacks)
    return starts, events[: int(starts[-1])].copy(), lacks


@kernel
def _attributes(
    starts: Int64,
    events: npt.NDArray[np.uint32],
    drug: Int32,
    batch: Int32,
    pack_drug: Int32,
    pack_batch: Int32,
    mixed: npt.NDArray[np.bool_],
    differs: npt.NDArray[np.bool_],
) -> None:
    """Write the drug and batch of each pack (-1 none stated), and whether another was stated.

    ``mixed`` says so of batches, ``differs`` of batches or drugs.
    """
    for k in range(len(starts) - 1):
        stated = np.int32(-1)
        for i in range(starts[k], starts[k + 1]):
            e = events[i]
            if drug[e] >= 0:
                differs[k] |= stated >= 0 and drug[e] != stated
                stated = drug[e]
            if batch[e] >= 0:
                if pack_batch[k] < 0:
                    pack_batch[k] = batch[e]
                    pack_drug[k] = drug[e]
                elif batch[e] != pack_batch[k]:
                    mixed[k] = True
                    differs[k] = True
            elif pack_drug[k] < 0:
                pack_drug[k] = drug[e]


@kernel
def _shards_of(codes: npt.NDArray[np.uint64], shard: npt.NDArray[np.uint8]) -> None:
    for i in range(len(codes)):
        shard[i] = np.uint8(mix(codes[i]) & np.uint64(SHARDS - 1))


@kernel
def _find_lines(table: Table, codes: npt.NDArray[np.uint64], rows: Int64) -> None:
    for i in range(len(codes)):
        rows[i] = find(table, codes[i])


def places_of(shards: CodeShards, codes: npt.NDArray[np.uint64]) -> tuple[Int64, Int64]:
    """Return the shard of each code and its line there, or -1 where the code was never seen."""
    shard, line = np.empty(len(codes), np.uint8), np.full(len(codes), -1, np.int64)
    _shards_of(codes, shard)
    for number in np.unique(shard).tolist():
        mine = np.flatnonzero(shard == number)
        rows = np.empty(len(mine), np.int64)
        _find_lines(shards.shards[number].table.view(), codes[mine], rows)
        line[mine] = rows
    return shard.astype(np.int64), line


def lines_at(shards: CodeShards, shard: Int64, line: Int64) -> Records:
    """Return the records of lines (``core.codetable.LINE``)."""
    whole = f"V{LINE.itemsize}"  # copied as one piece: field by field takes ten times as long
    out = np.empty(len(shard), whole)
    for number in range(SHARDS):
        mine = np.flatnonzero(shard == number)
        out[mine] = shards.shards[number].table.lines.view(whole)[line[mine]]
    found: Records = out.view(LINE)
    return found


def ranges(starts: Int64, which: Int64) -> tuple[Int64, Int64]:
    """Return (new starts, places) of the rows ``starts[w]`` to ``starts[w + 1]`` of each w."""
    counts = starts[which + 1] - starts[which]
    begin = np.zeros(len(which) + 1, np.int64)
    np.cumsum(counts, out=begin[1:])
    places = np.arange(begin[-1]) + np.repeat(starts[which] - begin[:-1], counts)
    return begin, places


@kernel
def _gather(
    column: npt.NDArray[Any], sorted_: Int64, first: int, stop: int, base: int,
    out: npt.NDArray[Any],
) -> None:  # fmt: skip
    for i in range(first, stop):
        out[sorted_[i] & 0xFFFFFFFF] = column[(sorted_[i] >> 32) - base]


def fetch(log: EventLog, names: Sequence[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
    """Return columns of ``LOG_COLUMNS`` at ``seqs``, in any order, read in the order of the log."""
    if len(seqs) <= FEW:
        return log.columns(names, seqs)
    joined = (seqs << 32) | np.arange(len(seqs))
    joined.sort()  # four times as fast as an argsort
    out = {name: np.empty(len(seqs), LOG_COLUMNS[name]) for name in names}
    chunks = list(log.chunks)
    ends = np.cumsum([0, *map(len, chunks)])
    cuts = np.searchsorted(joined, ends << 32).tolist()
    for number in np.flatnonzero(np.diff(cuts)).tolist():
        first, stop, base = cuts[number], cuts[number + 1], int(ends[number])
        if stop - first <= FEW:
            some = joined[first:stop]
            for name, values in chunks[number].columns(names, (some >> 32) - base).items():
                out[name][some & 0xFFFFFFFF] = values
            continue
        whole = chunks[number].columns(names, None)
        for name, column in out.items():
            bits = f"u{column.itemsize}"  # one compiled variant for each width
            _gather(whole[name].view(bits), joined, first, stop, base, column.view(bits))
    return out


class TraceIndex:
    """Packs of each batch and events of each pack, of one state of an engine."""

    def __init__(self, engine: Engine) -> None:
        recall_all(engine.shards)  # those that were archived are among the packs
        log, shards = engine.log, engine.shards.shards
        self.engine = engine
        self.events_known = len(log)
        tables = [shard.table.lines[: int(shard.table.used[0])] for shard in shards]
        self.shard_starts = np.cumsum([0, *map(len, tables)])
        last = np.concatenate([t["last_seq"].astype(np.int64) for t in tables])
        last[last == NO_SEQ] = -1

        def whole(name: str) -> npt.NDArray[Any]:
            parts = [chunk.columns([name], None)[name] for chunk in log.chunks]
            return np.concatenate(parts) if parts else np.empty(0, np.int64)

        drug, batch, void = whole("drug"), whole("batch_no"), whole("kind") == _VOID
        drug[void] = batch[void] = -1
        left_out = np.zeros(len(log), np.bool_)
        left_out[np.fromiter(engine.voided, np.int64, len(engine.voided))] = True
        self.starts, self.events, self.has_void = chains(last, whole("previous"), left_out)
        self.drug, self.batch = np.full((2, len(last)), -1, np.int32)
        self.mixed, differs = np.zeros((2, len(last)), np.bool_)
        _attributes(
            self.starts, self.events, drug, batch, self.drug, self.batch, self.mixed, differs
        )
        self.differing = np.flatnonzero(differs)

    def settle(self, told: ToldPacks) -> None:
        """Take drug and batch of packs that state several from their order as now ``told``.

        A void or what is known of a case since may have changed which comes first. Then find heirs
        and put packs in order: before, the index does not know what is of which batch.
        """
        stated = fetch(self.engine.log, ("drug", "batch_no"), told.seqs)
        for column in stated.values():
            column[~told.own] = -1
        count = len(told.numbers)
        drug, batch = np.full((2, count), -1, np.int32)
        _attributes(
            told.starts, np.arange(len(told.seqs), dtype=np.uint32), stated["drug"],
            stated["batch_no"], drug, batch, *np.zeros((2, count), np.bool_),
        )  # fmt: skip
        self.drug[told.numbers], self.batch[told.numbers] = drug, batch
        self._inherit()
        key = self._key(self.drug, self.batch)
        self._order = np.argsort(key, kind="stable").astype(np.uint32)
        self._keys = key[self._order]

    def _inherit(self) -> None:
        """Give packs that state no batch that of what they were in, or what they replace."""
        arrays = self.engine.shards.packages.arrays
        pairs = int(arrays.used[1])
        pack = self.last_of(arrays.key[: int(arrays.used[0])])
        child, parent = pack[arrays.child[:pairs]], pack[arrays.parent[:pairs]]
        known = (child >= 0) & (parent >= 0)
        child, parent = child[known], parent[known]
        for _ in range(LEVELS):
            heirs = (self.batch[child] < 0) & (self.batch[parent] >= 0)
            if not heirs.any():
                break
            # Of several the first by name: the order in which they were stated must not show.
            heir, number = child[heirs], self.batch[parent[heirs]]
            used, place = np.unique(number, return_inverse=True)
            names = [self.engine.vocabulary.batches.text(int(i)) for i in used]
            rank = np.empty(len(used), np.int64)
            rank[sorted(range(len(used)), key=names.__getitem__)] = np.arange(len(used))
            order = np.argsort(-rank[place.reshape(-1)], kind="stable")
            self.batch[heir[order]] = number[order]

    @staticmethod
    def _key(drug: Any, batch: Any) -> Any:
        return (np.asarray(batch, np.int64) << 32) | (np.asarray(drug, np.int64) + 1)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        arrays = (
            self.starts, self.events, self.drug, self.batch, self.mixed, self.has_void,
            self._order, self._keys,
        )  # fmt: skip
        return sum(a.nbytes for a in arrays)

    def drugs_of(self, batch: int) -> list[tuple[int, int]]:
        """Return (drug, packs) of all drugs that have packs of this batch number."""
        low, high = np.searchsorted(self._keys, [batch << 32, (batch + 1) << 32])
        found, counts = np.unique(self._keys[low:high], return_counts=True)
        drugs = (found & 0xFFFFFFFF) - 1
        return list(zip(drugs.tolist(), counts.tolist(), strict=True))

    def packs_of(self, drug: int, batch: int) -> Int64:
        """Return the packs of a batch, ascending."""
        key = int(self._key(drug, batch))
        low, high = np.searchsorted(self._keys, [key, key + 1])
        return self._order[low:high].astype(np.int64)

    def lines(self, packs: Int64) -> Records:
        """Return the state of packs (records ``core.codetable.LINE``)."""
        shard = np.searchsorted(self.shard_starts, packs, side="right") - 1
        return lines_at(self.engine.shards, shard, packs - self.shard_starts[shard])

    def events_of(self, packs: Int64) -> tuple[Int64, Int64]:
        """Return (starts, log numbers) of the packs' events, oldest first, without what is void.

        Events that make others void are among them: they have their place in the order.
        """
        starts, places = ranges(self.starts, packs)
        return starts, self.events[places].astype(np.int64)

    def last_of(self, codes: npt.NDArray[np.uint64]) -> Int64:
        """Return the packs with these code keys, -1 for none."""
        shard, line = places_of(self.engine.shards, codes)
        return np.where(line < 0, -1, self.shard_starts[shard] + line)

    def paths(self, seqs: Int64, longest: int | None = None) -> tuple[Int64, Int64]:
        """Return (starts, log numbers) of the events of packs, whatever ``longest``."""
        return self.events_of(seqs)

    def columns(self, names: Sequence[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return columns of the log."""
        always = [name for name in names if name in LOG_COLUMNS]
        found = fetch(self.engine.log, always, seqs)
        more = [name for name in names if name not in found]
        return found | self.engine.log.columns(more, seqs)
