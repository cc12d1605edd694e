"""Events on disk by day, for input that is too large to hold and not in order of time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.batch import (
    COLUMN_TYPES,
    DAY,
    OPTIONAL_COLUMNS,
    STRING_COLUMNS,
    EventBatch,
)
from trace_engine.store.eventlog import read_ipc, write_ipc


class DaySpill:
    """Batches written to disk, a file for each day and flush, and read back day by day."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[int, list[Path]] = defaultdict(list)
        self._written = 0

    def __bool__(self) -> bool:
        return bool(self._files)

    def write(self, batch: EventBatch) -> None:
        """Write a batch in order of time."""
        days = batch.time // DAY
        cuts = np.flatnonzero(np.diff(days)) + 1
        bounds = [0, *cuts.tolist(), len(batch)]
        for start, stop in pairwise(bounds):
            path = self.folder / f"{self._written:08d}.arrow"
            self._written += 1
            write_ipc(path, batch_table(batch.slice(start, stop)))
            self._files[int(days[start])].append(path)

    def days(self) -> list[int]:
        """Return the days on disk, ascending."""
        return sorted(self._files)

    def take(self, day: int) -> list[EventBatch]:
        """Return the batches of a day and remove them from disk."""
        batches = []
        for path in self._files.pop(day):
            batches.append(table_batch(read_ipc(path)))
            path.unlink()  # the mapping keeps the data until the batch is gone
        return batches


def batch_table(batch: EventBatch) -> pa.Table:
    """Return a batch as an Arrow table that :func:`table_batch` reads."""
    columns = {name: pa.array(getattr(batch, name)) for name in COLUMN_TYPES}
    strings = batch.compact_strings()
    columns |= {name: strings[name] for name in STRING_COLUMNS}
    columns |= {name: pa.array(column) for name, column in batch.optional.items()}
    if batch.origin is not None:
        columns["origin"] = pa.array(batch.origin)
    return pa.table(columns)


def table_batch(table: pa.Table) -> EventBatch:
    """Return the batch that :func:`batch_table` wrote, copied out of mapped memory."""
    table = table.combine_chunks()

    def numbers(name: str) -> npt.NDArray[Any]:
        # A copy: kernels take writable arrays only, and mapped ones are not.
        return np.array(table[name].to_numpy())

    columns = {name: numbers(name) for name in COLUMN_TYPES}
    origin = numbers("origin") if "origin" in table.schema.names else None
    optional = {name: numbers(name) for name in OPTIONAL_COLUMNS if name in table.schema.names}
    strings = table.select(STRING_COLUMNS)
    return EventBatch(**columns, strings=strings, origin=origin, optional=optional)
