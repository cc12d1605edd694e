"""Which packs are of which batch, and which events are of which pack: built once from a state.

Packs are numbered as they stand in the code tables, shard after shard. A pack is of the drug and
batch of its first event that states a batch number (events made void do not count); one that states
none is of the batch of what it was in, or of what it replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import LINE, SHARDS, Table, find, mix
from trace_engine.core.kernel import kernel
from trace_engine.core.packages import LEVELS
from trace_engine.core.records import Records
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.core.shards import CodeShards
    from trace_engine.engine import Engine

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_VOID = int(EventKind.VOID)


@kernel
def _chains(
    last: npt.NDArray[np.uint32],
    previous: Int64,
    left_out: npt.NDArray[np.bool_],
    starts: Int64,
    events: npt.NDArray[np.uint32],
    has_void: npt.NDArray[np.bool_],
) -> None:
    """Write the events of each pack, oldest first, one pack after the other."""
    used = 0
    for k in range(len(last)):
        starts[k] = used
        at = np.int64(-1) if last[k] == np.uint32(0xFFFFFFFF) else np.int64(last[k])
        while at >= 0:
            if not left_out[at]:
                events[used] = np.uint32(at)
                used += 1
            else:
                has_void[k] = True
            at = previous[at]
        low, high = starts[k], used - 1
        while low < high:
            events[low], events[high] = events[high], events[low]
            low += 1
            high -= 1
    starts[len(last)] = used


@kernel
def _attributes(
    starts: Int64,
    events: npt.NDArray[np.uint32],
    drug: Int32,
    batch: Int32,
    pack_drug: Int32,
    pack_batch: Int32,
    mixed: npt.NDArray[np.bool_],
) -> None:
    """Write the drug and batch of each pack (-1 none stated), and whether another was stated."""
    for k in range(len(starts) - 1):
        for i in range(starts[k], starts[k + 1]):
            e = events[i]
            if batch[e] >= 0:
                if pack_batch[k] < 0:
                    pack_batch[k] = batch[e]
                    pack_drug[k] = drug[e]
                elif batch[e] != pack_batch[k]:
                    mixed[k] = True
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


class TraceIndex:
    """Packs of each batch and events of each pack, of one state of an engine."""

    def __init__(self, engine: Engine) -> None:
        log, shards = engine.log, engine.shards.shards
        self.engine = engine
        self.events_known = len(log)
        tables = [shard.table.lines[: int(shard.table.used[0])] for shard in shards]
        self.shard_starts = np.cumsum([0, *map(len, tables)])
        last = np.concatenate([np.ascontiguousarray(t["last_seq"]) for t in tables])

        def whole(name: str) -> npt.NDArray[Any]:
            parts = [chunk.columns([name], None)[name] for chunk in log.chunks]
            return np.concatenate(parts) if parts else np.empty(0, np.int64)

        left_out = whole("kind") == _VOID
        left_out[np.fromiter(engine.voided, np.int64, len(engine.voided))] = True
        self.starts = np.zeros(len(last) + 1, np.int64)
        self.events = np.empty(len(log), np.uint32)
        self.has_void = np.zeros(len(last), np.bool_)
        _chains(
            last, whole("previous").astype(np.int64), left_out, self.starts, self.events,
            self.has_void,
        )  # fmt: skip
        self.events = self.events[: int(self.starts[-1])].copy()
        self.drug = np.full(len(last), -1, np.int32)
        self.batch = np.full(len(last), -1, np.int32)
        self.mixed = np.zeros(len(last), np.bool_)
        _attributes(
            self.starts, self.events, whole("drug").astype(np.int32),
            whole("batch_no").astype(np.int32), self.drug, self.batch, self.mixed,
        )  # fmt: skip
        self._inherit()
        key = self._key(self.drug, self.batch)
        self._order = np.argsort(key, kind="stable").astype(np.uint32)
        self._keys = key[self._order]

    def _inherit(self) -> None:
        """Give packs that state no batch that of what they were in, or what they replace."""
        arrays = self.engine.shards.packages.arrays
        pairs = int(arrays.used[1])
        shard, line = places_of(self.engine.shards, arrays.key[: int(arrays.used[0])])
        pack = np.where(line >= 0, self.shard_starts[shard] + line, -1)
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
        """Return (starts, log numbers) of the packs' events, oldest first."""
        starts, places = ranges(self.starts, packs)
        return starts, self.events[places].astype(np.int64)

    def pack_of_code(self, key: int) -> int:
        """Return the number of the pack with this code key, or -1."""
        shard, line = places_of(self.engine.shards, np.array([key], np.uint64))
        return -1 if line[0] < 0 else int(self.shard_starts[shard[0]] + line[0])
