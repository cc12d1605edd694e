"""The event log: accepted events in the order they were judged, linked code by code.

Each event has a number (``seq``); ``previous`` is the number of the code's event before it. From any
finding the log gives the whole path of a pack, with the event ids a court wants to see. Numeric
columns and strings of a slice form one chunk; where chunks are kept is the log's own affair
(in memory here, on disk in ``trace_engine.store``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.batch import EventBatch, texts_at

LOG_COLUMNS: dict[str, Any] = {
    "time": np.int64,
    "kind": np.int8,
    "flags": np.uint8,
    "actor": np.int32,
    "source": np.int32,
    "target": np.int32,
    "source_region": np.int16,
    "target_region": np.int16,
    "drug": np.int32,
    "batch_no": np.int32,
    "quantity": np.int32,
    "price": np.int32,
    "bill": np.uint64,
    "code": np.uint64,
    "event_key": np.uint64,
    "previous": np.int64,
}

LARGEST_LOG = 0xFFFFFFFE  # event numbers are kept in 32 bits per code
LONGEST_PATH = 200  # events of one code shown as its path (the latest ones)

Int64 = npt.NDArray[np.int64]


class Chunk(Protocol):
    """One slice of the log."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a numeric column of ``LOG_COLUMNS``."""
        ...

    def text(self, name: str, rows: Int64) -> list[str | None]:
        """Return strings of a column of ``STRING_COLUMNS`` at ``rows``."""
        ...


class MemoryChunk:
    """A chunk that holds on to the columns of its batch."""

    def __init__(
        self,
        columns: dict[str, npt.NDArray[Any]],
        batch: EventBatch | None,
        strings: pa.Table | None = None,
    ) -> None:
        self._columns = columns
        self._batch = batch
        self._strings = strings

    def __len__(self) -> int:
        return len(self._columns["time"])

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a numeric column of ``LOG_COLUMNS``."""
        return self._columns[name]

    def text(self, name: str, rows: Int64) -> list[str | None]:
        """Return strings of a column of ``STRING_COLUMNS`` at ``rows``."""
        if self._batch is not None:
            return self._batch.text(name, rows)
        assert self._strings is not None
        return texts_at(self._strings[name], rows)


class EventLog:
    """Accepted events by number. Subclasses say how a chunk is kept (:meth:`_keep`)."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._ends = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def append(self, batch: EventBatch, previous: Int64) -> int:
        """Add the events of ``batch`` and return the number of the first.

        Raises
        ------
        OverflowError
            After 2³² − 2 events: split the input by code over several engines and merge them.
        """
        base = len(self)
        if base + len(batch) > LARGEST_LOG:
            raise OverflowError(
                f"one engine takes at most {LARGEST_LOG:,} events; split the input by code over "
                "several engines and merge them"
            )
        columns = {name: getattr(batch, name) for name in LOG_COLUMNS if name != "previous"}
        columns["previous"] = previous
        self.add_chunk(self._keep(columns, batch))
        return base

    def add_chunk(self, chunk: Chunk) -> None:
        """Add a chunk whose columns already hold this log's numbers."""
        self.chunks.append(chunk)
        self._ends = np.append(self._ends, len(self) + len(chunk))

    def _keep(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> Chunk:
        return MemoryChunk(columns, batch)

    def _by_chunk(self, seqs: Int64) -> list[tuple[int, Int64, Int64]]:
        """Split numbers into (chunk, positions in ``seqs``, rows of the chunk)."""
        if len(seqs) == 0:
            return []
        where = np.searchsorted(self._ends, seqs, side="right")
        if where[0] == where[-1] and (where == where[0]).all():
            chunk = int(where[0])
            start = int(self._ends[chunk - 1]) if chunk else 0
            return [(chunk, np.arange(len(seqs)), seqs - start)]
        order = np.argsort(where, kind="stable")
        cuts = np.flatnonzero(np.diff(where[order])) + 1
        parts = []
        for positions in np.split(order, cuts):
            chunk = int(where[positions[0]])
            start = int(self._ends[chunk - 1]) if chunk else 0
            parts.append((chunk, positions, seqs[positions] - start))
        return parts

    def column(self, name: str, seqs: Int64) -> npt.NDArray[Any]:
        """Return a numeric column at the numbers ``seqs`` (shape ``(m,)``)."""
        out = np.empty(len(seqs), LOG_COLUMNS[name])
        for chunk, positions, rows in self._by_chunk(seqs):
            out[positions] = self.chunks[chunk].column(name)[rows]
        return out

    def columns(self, names: Iterable[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return several numeric columns at ``seqs``."""
        parts = self._by_chunk(seqs)
        out = {name: np.empty(len(seqs), LOG_COLUMNS[name]) for name in names}
        for chunk, positions, rows in parts:
            for name, values in out.items():
                values[positions] = self.chunks[chunk].column(name)[rows]
        return out

    def text(self, name: str, seqs: Int64) -> list[str | None]:
        """Return strings at the numbers ``seqs``."""
        out: list[str | None] = [None] * len(seqs)
        for chunk, positions, rows in self._by_chunk(seqs):
            found = self.chunks[chunk].text(name, rows)
            for position, value in zip(positions.tolist(), found, strict=True):
                out[position] = value
        return out

    def paths(self, seqs: Int64, longest: int | None = LONGEST_PATH) -> tuple[Int64, Int64]:
        """Return the events of each code up to and with each number: (offsets (m+1,), numbers).

        Oldest first; at most ``longest`` latest ones (None: all).
        """
        frontier = np.asarray(seqs, np.int64)
        owner = np.arange(len(frontier))
        found = [frontier]
        owners = [owner]
        while longest is None or len(found) < longest:
            before = self.column("previous", frontier)
            alive = before >= 0
            if not alive.any():
                break
            frontier, owner = before[alive], owner[alive]
            found.append(frontier)
            owners.append(owner)
        numbers = np.concatenate(found[::-1])
        belongs = np.concatenate(owners[::-1])
        order = np.argsort(belongs, kind="stable")
        offsets = np.zeros(len(seqs) + 1, np.int64)
        np.cumsum(np.bincount(belongs, minlength=len(seqs)), out=offsets[1:])
        return offsets, numbers[order]
