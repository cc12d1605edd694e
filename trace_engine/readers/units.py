"""A source of events: units that can be read apart from each other, in any order and thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from trace_engine.events.findings import REJECTS
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import RawBatch, RejectList, concat_rejects

BATCH_ROWS = 262_144


@dataclass
class RejectSink:
    """Rows that readers could not read, by unit: a unit read again replaces what it said before."""

    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms)
    _by_unit: dict[int, RejectList] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, unit: int) -> RejectList:
        """Return a fresh list for the unit with this number."""
        rejects = RejectList()
        with self._lock:
            self._by_unit[unit] = rejects
        return rejects

    def table(self) -> pa.Table:
        """Return all rejects so far, by unit."""
        with self._lock:
            lists = [self._by_unit[unit] for unit in sorted(self._by_unit)]
        return concat_rejects([rejects.table() for rejects in lists]) if lists else _NO_REJECTS

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._by_unit.values()))


_NO_REJECTS = REJECTS.empty_table()


class Unit(ABC):
    """A part of the input that is read from its beginning to its end: a row group, a text file.

    ``first_time`` and ``last_time`` are µs of Shanghai wall clock between which all its events lie,
    None where only reading would tell. ``rows`` is the number of rows, None where unknown.
    """

    path: str
    size_bytes: int
    first_time: int | None
    last_time: int | None
    rows: int | None

    @abstractmethod
    def batches(self) -> Iterator[RawBatch]:
        """Yield the rows in order, with canonical column names.

        Raises :class:`InputError` where the file turns out to be unreadable.
        """


@dataclass
class EventSource:
    """All units of the inputs, in the order of their paths, and the files behind them."""

    units: list[Unit]
    files: list[str]
    sink: RejectSink

    @property
    def rejects(self) -> pa.Table:
        """Rows that could not be read so far (schema ``findings.REJECTS``)."""
        return self.sink.table()

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of all units."""
        return sum(unit.size_bytes for unit in self.units)

    def batches(self) -> Iterator[RawBatch]:
        """Yield the rows of all units, one unit after the other."""
        for unit in self.units:
            yield from unit.batches()
