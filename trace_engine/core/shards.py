"""All shards of custody: tables, waiting hops, and the step that takes one slice through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.archive import Archive
from trace_engine.core.attributes import Firsts
from trace_engine.core.codetable import EPOCH_2000, SHARDS, CodeTable, place_in_shards
from trace_engine.core.movements import WAITING, Settings
from trace_engine.core.ordering import Late, look_up, run_shard
from trace_engine.core.packagetable import PackageTable
from trace_engine.core.packing import EVENT, RESULT, Columns, Reference, pack, unpack
from trace_engine.core.records import Records
from trace_engine.core.returning import come_back
from trace_engine.core.signals import Custody, Overdue

if TYPE_CHECKING:
    from trace_engine.events.batch import EventBatch

Runner = Callable[[Callable[[int], None], Iterable[int]], None]

PACK_ROWS = 1 << 16

SPREAD: dict[str, Any] = {
    "signal": np.uint32,
    "hops": np.uint8,
    "crossings": np.uint8,
    "run": np.uint8,
    "sales": np.uint8,
    "owner_before": np.int32,
    "cost": np.int32,
    "previous": np.int64,
}

DAY_2000 = EPOCH_2000 // 86400  # days from 1970-01-01 to 2000-01-01


class WaitingHops:
    """Hops waiting for their other half, in order of their day: a growing queue of records."""

    def __init__(self) -> None:
        self.bounds = np.zeros(2, np.int64)
        self.records: Records = np.empty(1 << 10, WAITING)

    def __len__(self) -> int:
        return int(self.bounds[1] - self.bounds[0])

    def reserve(self, more: int) -> None:
        """Make room for ``more`` entries, dropping what has been taken."""
        head, tail = (int(x) for x in self.bounds)
        if tail + more <= len(self.records):
            return
        waiting = tail - head
        grown = np.empty(max(len(self.records), 2 * (waiting + more)), WAITING)
        grown[:waiting] = self.records[head:tail]
        self.records = grown
        self.bounds[:] = (0, waiting)

    def waiting(self) -> Records:
        """Return the entries still waiting (a view)."""
        return self.records[int(self.bounds[0]) : int(self.bounds[1])]

    def replace(self, entries: Records) -> None:
        """Hold exactly ``entries``, ordered by day."""
        ordered = entries[np.argsort(entries["day"], kind="stable")]
        self.records = np.concatenate([ordered, np.empty(1 << 10, WAITING)])
        self.bounds[:] = (0, len(ordered))


@dataclass(slots=True)
class Shard:
    """State of one shard of codes."""

    table: CodeTable = field(default_factory=CodeTable)
    shipments: WaitingHops = field(default_factory=WaitingHops)
    receipts: WaitingHops = field(default_factory=WaitingHops)
    firsts: Firsts = field(default_factory=Firsts)


def columns_of(batch: EventBatch) -> Columns:
    """Return the columns custody reads."""
    return Columns(**{name: getattr(batch, name) for name in Columns._fields})


def _late(capacity: int) -> Late:
    return Late(
        seq=np.empty(capacity, np.int64),
        day=np.empty(capacity, np.int64),
        on_record=np.empty(capacity, np.bool_),
        count=np.zeros(1, np.int64),
    )


def _overdue(parts: list[Late]) -> Overdue:
    counts = [int(p.count[0]) for p in parts]
    seq = np.concatenate([p.seq[:k] for p, k in zip(parts, counts, strict=True)])
    day = np.concatenate([p.day[:k] for p, k in zip(parts, counts, strict=True)])
    on_record = np.concatenate([p.on_record[:k] for p, k in zip(parts, counts, strict=True)])
    order = np.lexsort((seq, day))
    return Overdue(seq=seq[order], deadline=day[order] + DAY_2000, owner_on_record=on_record[order])


class CodeShards:
    """State of all codes, in a fixed number of shards."""

    def __init__(self) -> None:
        self.shards = [Shard() for _ in range(SHARDS)]
        self.packages = PackageTable()  # which code was ever in which other
        self.archive: Archive | None = None  # codes that are done with, if any may leave

    def __len__(self) -> int:
        return sum(len(s.table) for s in self.shards)

    @property
    def nbytes(self) -> int:
        """Bytes in use by tables and queues."""
        waiting = sum(len(s.shipments) + len(s.receipts) for s in self.shards)
        tables = sum(s.table.nbytes for s in self.shards) + self.packages.nbytes
        away = 0 if self.archive is None else self.archive.nbytes
        return tables + WAITING.itemsize * waiting + away

    def step(
        self,
        batch: EventBatch,
        seq_base: int,
        last_day: int,
        reference: Reference,
        parties: Records,
        settings: Settings,
        run: Runner,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> Custody:
        """Take a slice (time ascending, whole days, up to ``last_day``) through custody.

        ``wanted`` (n,) leaves rows out; ``run`` calls a function for each shard, in threads or not.
        """
        return self.step_columns(
            columns_of(batch), seq_base, last_day, reference, parties, settings, run, wanted
        )

    def step_columns(
        self,
        columns: Columns,
        seq_base: int,
        last_day: int,
        reference: Reference,
        parties: Records,
        settings: Settings,
        run: Runner,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> Custody:
        """Like :meth:`step`, for columns that are no batch."""
        n = len(columns.time)
        rows = np.empty(n, np.int64)
        position = np.empty(n, np.int64)
        bounds = np.zeros(SHARDS + 1, np.int64)
        if wanted is None:
            wanted = np.ones(n, np.bool_)
        place_in_shards(columns.code, wanted, rows, position, bounds)
        events = np.empty(n, EVENT)
        results = np.empty(n, RESULT)

        def pack_some(at: int) -> None:
            pack(columns, reference, position, at, min(at + PACK_ROWS, n), events)

        run(pack_some, range(0, n, PACK_ROWS))
        late_shipments: list[Late] = []
        late_receipts: list[Late] = []
        for k, shard in enumerate(self.shards):
            share = int(bounds[k + 1] - bounds[k])
            shard.table.reserve(share)
            shard.shipments.reserve(share)
            shard.receipts.reserve(share)
            late_shipments.append(_late(len(shard.shipments) + share))
            late_receipts.append(_late(len(shard.receipts) + share))

        def step_one(k: int) -> None:
            shard = self.shards[k]
            mine = slice(int(bounds[k]), int(bounds[k + 1]))
            known = len(shard.table)
            look_up(
                rows[mine],
                mine.start,
                seq_base,
                shard.table.view(),
                events[mine],
                results[mine],
                position,
            )
            if self.archive is not None:
                come_back(self.archive, k, shard, known, results[mine])
            run_shard(
                rows[mine],
                seq_base,
                last_day - DAY_2000,
                shard.table.view(),
                events[mine],
                results[mine],
                parties,
                settings,
                shard.shipments.records,
                shard.shipments.bounds,
                shard.receipts.records,
                shard.receipts.bounds,
                late_shipments[k],
                late_receipts[k],
            )

        run(step_one, range(SHARDS))
        columns_out: dict[str, Any] = {name: np.empty(n, dtype) for name, dtype in SPREAD.items()}

        def unpack_some(at: int) -> None:
            unpack(results, position, at, min(at + PACK_ROWS, n), *columns_out.values())

        run(unpack_some, range(0, n, PACK_ROWS))
        return Custody(
            **columns_out,
            events=events,
            results=results,
            position=position,
            order=rows,
            bounds=bounds,
            overdue_shipments=_overdue(late_shipments),
            overdue_receipts=_overdue(late_receipts),
        )
