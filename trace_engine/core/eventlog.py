"""The event log: accepted events in the order they were judged, linked code by code.

Each event has a number (``seq``); ``previous`` is the number of the code's event before it. From any
finding the log gives the whole path of a pack, with the event ids a court wants to see. Numeric
columns and strings of a slice form one chunk; where chunks are kept is the log's own affair
(in memory here, on disk in ``trace_engine.store``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.batch import OPTIONAL_COLUMNS, EventBatch, texts_at

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

# Kept where a slice has them (see EventBatch.optional).
LOG_OPTIONAL = ("parent",)

LARGEST_LOG = 0xFFFFFFFE  # event numbers are kept in 32 bits per code
LONGEST_PATH = 200  # events of one code shown as its path (the latest ones)

_FEW = 16
_LINK = ("previous",)

Int64 = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]
Texts = dict[str, list[str | None]]


class Chunk(Protocol):
    """One slice of the log."""

    def __len__(self) -> int: ...

    def has(self, name: str) -> bool:
        """Return whether a column of ``LOG_OPTIONAL`` is held: if not, it is missing everywhere."""
        ...

    def columns(self, names: Sequence[str], rows: Int64 | None) -> Columns:
        """Return numeric columns at ``rows`` (all for None): of ``LOG_COLUMNS``, or held ones."""
        ...

    def texts(self, names: Sequence[str], rows: Int64) -> Texts:
        """Return strings of columns of ``STRING_COLUMNS`` at ``rows``."""
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
        self.stored: Any = None  # where the chunk was written, for who wrote it

    def __len__(self) -> int:
        return len(self._columns["time"])

    def parts(self) -> tuple[Columns, pa.Table, Int64 | None]:
        """Return numeric columns, a table of strings, and this chunk's rows in it (None: all)."""
        if self._batch is not None:
            return self._columns, self._batch.strings, self._batch.string_rows
        return self._columns, self._strings, None

    def has(self, name: str) -> bool:
        """Return whether a column of ``LOG_OPTIONAL`` is held."""
        return name in self._columns

    def columns(self, names: Sequence[str], rows: Int64 | None) -> Columns:
        """Return numeric columns at ``rows`` (all for None)."""
        if rows is None:
            return {name: self._columns[name] for name in names}
        return {name: self._columns[name][rows] for name in names}

    def texts(self, names: Sequence[str], rows: Int64) -> Texts:
        """Return strings of columns of ``STRING_COLUMNS`` at ``rows``."""
        if self._batch is not None:
            return {name: self._batch.text(name, rows) for name in names}
        assert self._strings is not None
        return {name: texts_at(self._strings[name], rows) for name in names}


class EventLog:
    """Accepted events by number. Subclasses say how a chunk is kept (:meth:`_keep`)."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        # Numbers after each chunk, twice: a few are found faster in a list, many in an array. Who
        # reads while another appends sees a chunk only when it is there.
        self._ends = np.zeros(0, np.int64)
        self._end_list: list[int] = []
        self._spans: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self._end_list[-1] if self._end_list else 0

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
        columns |= {name: batch.optional[name] for name in LOG_OPTIONAL if name in batch.optional}
        self.add_chunk(self._keep(columns, batch))
        return base

    def add_chunk(self, chunk: Chunk) -> None:
        """Add a chunk whose columns already hold this log's numbers."""
        end = len(self) + len(chunk)
        self.chunks.append(chunk)
        self._ends = np.append(self._ends, end)
        self._end_list.append(end)

    def first_of(self, chunk: int) -> int:
        """Return the number of the first event of a chunk."""
        return self._end_list[chunk - 1] if chunk else 0

    def spans(self) -> list[tuple[int, int]]:
        """Return the first and the last time (µs) of each chunk, whose events are in order of time.

        A chunk without events has a span without any time. Each is looked at once.
        """
        for chunk in self.chunks[len(self._spans) :]:
            if len(chunk):
                ends = chunk.columns(["time"], np.array([0, len(chunk) - 1]))["time"]
                self._spans.append((int(ends[0]), int(ends[1])))
            else:
                self._spans.append((0, -1))
        return self._spans

    def _keep(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> Chunk:
        return MemoryChunk(columns, batch)

    def _by_chunk(self, seqs: Int64) -> list[tuple[int, Int64, Int64]]:
        """Split numbers into (chunk, positions in ``seqs``, rows of the chunk)."""
        if len(seqs) == 0:
            return []
        if len(seqs) <= _FEW:
            return self._few_by_chunk(seqs.tolist())
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

    def _few_by_chunk(self, seqs: list[int]) -> list[tuple[int, Int64, Int64]]:
        places: dict[int, list[int]] = {}
        for place, seq in enumerate(seqs):
            places.setdefault(bisect_right(self._end_list, seq), []).append(place)
        parts = []
        for chunk, some in places.items():
            start = self._end_list[chunk - 1] if chunk else 0
            rows = np.array([seqs[place] - start for place in some], np.int64)
            parts.append((chunk, np.array(some, np.int64), rows))
        return parts

    def column(self, name: str, seqs: Int64) -> npt.NDArray[Any]:
        """Return a numeric column at the numbers ``seqs`` (shape ``(m,)``)."""
        return self.columns([name], seqs)[name]

    def columns(self, names: Sequence[str], seqs: Int64) -> Columns:
        """Return several numeric columns at ``seqs``. Each chunk is visited once."""
        out = {name: self._empty(name, len(seqs)) for name in names}
        sometimes = [name for name in names if name not in LOG_COLUMNS]
        for number, positions, rows in self._by_chunk(seqs):
            chunk = self.chunks[number]
            held = [n for n in names if n not in sometimes or chunk.has(n)] if sometimes else names
            for name, values in chunk.columns(held, rows).items():
                out[name][positions] = values
        return out

    @staticmethod
    def _empty(name: str, count: int) -> npt.NDArray[Any]:
        if name in LOG_COLUMNS:
            return np.empty(count, LOG_COLUMNS[name])
        kind = OPTIONAL_COLUMNS[name]
        return np.full(count, kind.missing, kind.dtype)

    def every_column(self, number: int) -> Columns:
        """Return all numeric columns that chunk ``number`` holds."""
        chunk = self.chunks[number]
        held = [name for name in LOG_OPTIONAL if chunk.has(name)]
        return chunk.columns([*LOG_COLUMNS, *held], None)

    def text(self, name: str, seqs: Int64) -> list[str | None]:
        """Return strings at the numbers ``seqs``."""
        return self.texts([name], seqs)[name]

    def texts(self, names: Sequence[str], seqs: Int64) -> Texts:
        """Return strings of several columns at ``seqs``. Each chunk is visited once."""
        out: Texts = {name: [None] * len(seqs) for name in names}
        for chunk, positions, rows in self._by_chunk(seqs):
            places = positions.tolist()
            for name, found in self.chunks[chunk].texts(names, rows).items():
                column = out[name]
                for place, value in zip(places, found, strict=True):
                    column[place] = value
        return out

    def paths(self, seqs: Int64, longest: int | None = LONGEST_PATH) -> tuple[Int64, Int64]:
        """Return the events of each code up to and with each number: (offsets (m+1,), numbers).

        Oldest first; at most ``longest`` latest ones (None: all).
        """
        if len(seqs) == 1:
            return self._path(int(seqs[0]), longest)
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

    def _path(self, seq: int, longest: int | None) -> tuple[Int64, Int64]:
        """Return what :meth:`paths` does, for one code."""
        found: list[int] = []
        while seq >= 0 and (longest is None or len(found) < longest):
            found.append(seq)
            number = bisect_right(self._end_list, seq)
            row = np.array([seq - (self._end_list[number - 1] if number else 0)])
            seq = int(self.chunks[number].columns(_LINK, row)["previous"][0])
        return np.array([0, len(found)]), np.array(found[::-1], np.int64)
