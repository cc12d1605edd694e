"""EventBatch: a run of accepted events as fixed-width columns, and the vocabulary behind it.

Strings become small integers once, here at the door; what detectors see is numbers. Times are
microseconds of the Asia/Shanghai wall clock since 1970-01-01 (so a bill that carries only a date
has ``time % DAY == 0``), days are counted from 1970-01-01, prices are fen (0.01 CNY).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
DAY = 24 * HOUR

MISSING = -1  # for every integer column but the two below
MISSING_TIME = np.iinfo(np.int64).min
MISSING_DAY = np.iinfo(np.int32).min

# Bits of EventBatch.flags
SPLIT_SALE = 1
GIFT = 2
ONLINE = 4  # a platform or a shop is named
DATE_ONLY = 8  # event_time is a day without a time: an interval of 24 hours
PRESCRIPTION = 16  # a prescription number is present
EXPIRY_MONTH_ONLY = 32
DRUG_DECLARED = 64  # drug_id was stated in the row (else it is the code's identifier)
QUANTITY_STATED = 128

# Bits of EventBatch.code_problem
CODE_STRUCTURE = 1  # not a national code, a GS1 element string nor a plausible other code
CODE_CHECK_DIGIT = 2  # GTIN check digit is wrong
CODE_HEADER = 4  # 20 digits, but the first is not 8

# National codes (20 digits beginning with 8) pack into [0, NATIONAL_LIMIT); any other code gets
# NATIONAL_LIMIT + its index in Vocabulary.codes. Two codes never share a key.
NATIONAL_LIMIT = 10**19

STRING_COLUMNS = ("event_id", "bill_code", "order_code", "buyer_id")

COLUMN_TYPES: dict[str, type[np.generic]] = {
    "time": np.int64,  # event_time, µs of Shanghai wall clock
    "record_time": np.int64,  # upload time, µs, or MISSING_TIME
    "kind": np.int8,  # EventKind
    "flags": np.uint8,  # bits above
    "code_problem": np.uint8,  # bits above
    "code": np.uint64,  # key of the code
    "actor": np.int32,  # Vocabulary.parties
    "source": np.int32,  # giver: from_id, or the actor of an outgoing event; -1 unknown
    "target": np.int32,  # receiver: to_id, or the actor of an incoming event; -1 unknown or person
    "source_region": np.int16,  # index into registry.regions.REGIONS as stated in the row; -1
    "target_region": np.int16,
    "drug": np.int32,  # Vocabulary.drugs: drug_id, or the code's identifier
    "code_drug": np.int32,  # Vocabulary.drugs: identifier in the code; -1 if it holds none
    "batch_no": np.int32,  # Vocabulary.batches
    "production": np.int32,  # day, or MISSING_DAY
    "expiry": np.int32,  # last day of use (month-only: last day of that month), or MISSING_DAY
    "quantity": np.int32,  # smallest packs, default 1
    "price": np.int32,  # fen per smallest pack, or -1
    "bill": np.uint64,  # hash of (actor, bill_code); 0 none
    "order": np.uint64,  # hash of order_code; 0 none
    "buyer": np.uint64,  # hash of buyer_id; 0 none
    "platform": np.int32,  # Vocabulary.platforms
    "shop": np.int32,  # Vocabulary.shops
    "voids": np.uint64,  # hash of voids_event_id (comparable with event_key); 0 none
    "event_key": np.uint64,  # hash of event_id, or of the whole content where there is none
    "content_key": np.uint64,  # hash of content no column here holds (rx_no, device_id, ...); 0 none
}


# The key of no code, in columns of codes that may be empty.
NO_CODE = np.uint64(0xFFFFFFFFFFFFFFFF)


class OptionalColumn(NamedTuple):
    """A column that many sources lack: held only where some row of a batch states it."""

    dtype: type[np.generic]
    missing: Any


OPTIONAL_COLUMNS: dict[str, OptionalColumn] = {
    "parent": OptionalColumn(np.uint64, NO_CODE),  # key of parent_code
    "pack_level": OptionalColumn(np.int8, MISSING),  # 1 = smallest pack
    "device": OptionalColumn(np.int32, MISSING),  # Vocabulary.devices
    "operator": OptionalColumn(np.int32, MISSING),  # Vocabulary.operators
    "pharmacist": OptionalColumn(np.int32, MISSING),  # Vocabulary.pharmacists
    "doctor": OptionalColumn(np.int32, MISSING),  # Vocabulary.doctors
    "prescription": OptionalColumn(np.uint64, np.uint64(0)),  # hash of rx_no
    "receivable": OptionalColumn(np.int32, MISSING),  # packs due by the bill
    "temperature": OptionalColumn(np.int32, MISSING_DAY),  # thousandths of °C
    # Hash of (from_id, from_bill_code): the ``bill`` of the supplier's own upload of that bill.
    "source_bill": OptionalColumn(np.uint64, np.uint64(0)),
    "invoice": OptionalColumn(np.uint64, np.uint64(0)),  # hash of invoice_no
    "contact": OptionalColumn(np.uint64, np.uint64(0)),  # hash of contact_id
    "address": OptionalColumn(np.uint64, np.uint64(0)),  # hash of address_id
    "buyer_device": OptionalColumn(np.uint64, np.uint64(0)),  # hash of buyer_device_id
}

Optional = dict[str, npt.NDArray[Any]]

_ALIGNED = 64  # bytes of a cache line


def new_columns(rows: int) -> dict[str, npt.NDArray[Any]]:
    """Return uninitialised columns of ``rows`` rows, by name, as views of one piece of memory.

    numpy asks the system for large pages where a piece is large enough (4 MiB). Memory that comes
    in pages of 4 KiB costs more to get than its columns to fill.
    """
    starts, size = _layout(rows)
    piece = np.empty(size, np.uint8)
    return {
        name: np.ndarray(rows, dtype, piece, start)
        for (name, dtype), start in zip(COLUMN_TYPES.items(), starts, strict=True)
    }


@lru_cache(maxsize=64)
def _layout(rows: int) -> tuple[tuple[int, ...], int]:
    """Return where each column begins in the memory that all of them share, and its size."""
    starts, size = [], 0
    for dtype in COLUMN_TYPES.values():
        starts.append(size)
        size += -(-np.dtype(dtype).itemsize * rows // _ALIGNED) * _ALIGNED
    return tuple(starts), size


_NEW = -2  # what a text without an id answers while ids are given


class Interner:
    """Strings to dense ``int32`` ids and back. Thread-safe; ids are given in order of arrival."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: list[str] = []
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()
        for value in values:
            self.id(value)

    def __len__(self) -> int:
        return len(self.values)

    def id(self, value: str) -> int:
        """Return the id of ``value``, giving it a new one if it has none."""
        found = self._ids.get(value)
        if found is not None:
            return found
        with self._lock:
            found = self._ids.get(value)
            if found is None:
                found = len(self.values)
                self.values.append(value)
                self._ids[value] = found
            return found

    def ids(self, values: Sequence[str | None]) -> npt.NDArray[np.int32]:
        """Return ids of ``values`` (``None`` and empty text give -1), shape ``(len(values),)``."""
        get = self._ids.get
        found = (get(value, _NEW) if value else MISSING for value in values)
        out = np.fromiter(found, np.int32, len(values))
        new = np.flatnonzero(out == _NEW)
        if len(new):
            # One lock for all, and another look: some may be there by now, or twice in ``values``.
            with self._lock:
                for i in new.tolist():
                    value = values[i]
                    assert value is not None
                    number = get(value)
                    if number is None:
                        number = len(self.values)
                        self.values.append(value)
                        self._ids[value] = number
                    out[i] = number
        return out

    def find(self, value: str) -> int:
        """Return the id of ``value`` or -1, never adding it."""
        return self._ids.get(value, -1)

    def text(self, index: int) -> str:
        """Return the string behind ``index``; empty for -1."""
        return "" if index < 0 else self.values[index]


INTERNERS = (
    "parties", "drugs", "batches", "platforms", "shops", "devices", "operators", "pharmacists",
    "doctors", "codes",
)  # fmt: skip
"""Names of the interners of a :class:`Vocabulary`."""


@dataclass
class Vocabulary:
    """All interners of one engine."""

    parties: Interner = field(default_factory=Interner)
    drugs: Interner = field(default_factory=Interner)
    batches: Interner = field(default_factory=Interner)
    platforms: Interner = field(default_factory=Interner)
    shops: Interner = field(default_factory=Interner)
    devices: Interner = field(default_factory=Interner)
    operators: Interner = field(default_factory=Interner)
    pharmacists: Interner = field(default_factory=Interner)
    doctors: Interner = field(default_factory=Interner)
    codes: Interner = field(default_factory=Interner)

    def code_text(self, key: int) -> str:
        """Return the printed form of a code key."""
        if key < NATIONAL_LIMIT:
            return f"8{key:019d}"
        return self.codes.text(key - NATIONAL_LIMIT)

    def code_key(self, text: str) -> int | None:
        """Return the key of a normalised code, or None if this vocabulary has never seen it."""
        if len(text) == 20 and text.isascii() and text.isdigit() and text[0] == "8":
            return int(text[1:])
        found = self.codes.find(text)
        return None if found < 0 else NATIONAL_LIMIT + found


def texts_at(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> list[str | None]:
    """Return the strings of ``column`` at ``rows``, taken chunk by chunk.

    Arrow's own take on several chunks joins them first, which costs more than the few rows asked.
    """
    chunks = column.chunks
    if len(chunks) == 1:
        one: list[str | None] = chunks[0].take(pa.array(rows)).to_pylist()
        return one
    ends = np.cumsum([len(chunk) for chunk in chunks])
    which = np.searchsorted(ends, rows, side="right")
    out: list[str | None] = [None] * len(rows)
    for number in np.unique(which).tolist():
        places = np.flatnonzero(which == number)
        begin = int(ends[number]) - len(chunks[number])
        found = chunks[number].take(pa.array(rows[places] - begin)).to_pylist()
        for place, text in zip(places.tolist(), found, strict=True):
            out[place] = text
    return out


@dataclass(slots=True)
class EventBatch:
    """Accepted events as columns of equal length (dtypes in ``COLUMN_TYPES``), C-contiguous.

    ``strings`` holds the columns of ``STRING_COLUMNS`` as Arrow strings for evidence only; no
    detector reads them. ``event_id`` is never null there: a row without one carries
    ``content:<16 hex digits>``. ``optional`` holds those of ``OPTIONAL_COLUMNS`` that some row
    states: a column that is not there is missing in every row.
    """

    time: npt.NDArray[np.int64]
    record_time: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]
    flags: npt.NDArray[np.uint8]
    code_problem: npt.NDArray[np.uint8]
    code: npt.NDArray[np.uint64]
    actor: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    source_region: npt.NDArray[np.int16]
    target_region: npt.NDArray[np.int16]
    drug: npt.NDArray[np.int32]
    code_drug: npt.NDArray[np.int32]
    batch_no: npt.NDArray[np.int32]
    production: npt.NDArray[np.int32]
    expiry: npt.NDArray[np.int32]
    quantity: npt.NDArray[np.int32]
    price: npt.NDArray[np.int32]
    bill: npt.NDArray[np.uint64]
    order: npt.NDArray[np.uint64]
    buyer: npt.NDArray[np.uint64]
    platform: npt.NDArray[np.int32]
    shop: npt.NDArray[np.int32]
    voids: npt.NDArray[np.uint64]
    event_key: npt.NDArray[np.uint64]
    content_key: npt.NDArray[np.uint64]
    strings: pa.Table
    # Rows of ``strings`` that belong to this batch, in order; None: all of them, in order. Taking
    # rows of strings is dear and few are ever read, so it is put off until they are.
    string_rows: npt.NDArray[np.int64] | None = None
    # Where each row came from: index of its file << 40 | row number in it (1-based); None unknown.
    origin: npt.NDArray[np.int64] | None = None
    optional: Optional = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    @property
    def nbytes(self) -> int:
        """Bytes held by numeric columns and strings."""
        total = sum(getattr(self, name).nbytes for name in COLUMN_TYPES)
        total += sum(column.nbytes for column in self.optional.values())
        return int(total + self.strings.nbytes)

    def text(self, name: str, rows: npt.NDArray[np.int64]) -> list[str | None]:
        """Return the strings of column ``name`` at ``rows``."""
        where = rows if self.string_rows is None else self.string_rows[rows]
        return texts_at(self.strings[name], where)

    def take(self, index: npt.NDArray[np.int64]) -> EventBatch:
        """Return the rows of ``index`` (shape ``(m,)``) as a new batch."""
        columns = new_columns(len(index))
        for name, column in columns.items():
            # Without a check of each index ("raise") numpy writes to ``out`` directly.
            getattr(self, name).take(index, None, column, "wrap")
        rows = index if self.string_rows is None else self.string_rows[index]
        origin = None if self.origin is None else self.origin[index]
        optional = {name: column[index] for name, column in self.optional.items()}
        return EventBatch(
            **columns, strings=self.strings, string_rows=rows, origin=origin, optional=optional
        )

    def slice(self, start: int, stop: int) -> EventBatch:
        """Return rows ``start`` to ``stop`` without copying."""
        columns = {name: getattr(self, name)[start:stop] for name in COLUMN_TYPES}
        origin = None if self.origin is None else self.origin[start:stop]
        optional = {name: column[start:stop] for name, column in self.optional.items()}
        if self.string_rows is None:
            strings = self.strings.slice(start, stop - start)
            return EventBatch(**columns, strings=strings, origin=origin, optional=optional)
        rows = self.string_rows[start:stop]
        return EventBatch(
            **columns, strings=self.strings, string_rows=rows, origin=origin, optional=optional
        )

    def compact_strings(self) -> pa.Table:
        """Return the strings of exactly these rows, in order."""
        if self.string_rows is None:
            return self.strings
        return self.strings.take(pa.array(self.string_rows))

    @staticmethod
    def concat(batches: Sequence[EventBatch]) -> EventBatch:
        """Return all rows of ``batches`` in order."""
        if len(batches) == 1:
            return batches[0]
        columns = new_columns(sum(map(len, batches)))
        for name, column in columns.items():
            np.concatenate([getattr(b, name) for b in batches], out=column)
        origins = [b.origin for b in batches if b.origin is not None]
        origin = np.concatenate(origins) if len(origins) == len(batches) else None
        optional = _joined_optional(batches)
        if all(b.string_rows is None for b in batches):
            strings = pa.concat_tables([b.strings for b in batches])
            return EventBatch(**columns, strings=strings, origin=origin, optional=optional)
        offsets = np.cumsum([0, *(b.strings.num_rows for b in batches)])
        rows = np.concatenate(
            [
                (np.arange(len(b)) if b.string_rows is None else b.string_rows) + offset
                for b, offset in zip(batches, offsets[:-1], strict=True)
            ]
        )
        strings = pa.concat_tables([b.strings for b in batches])
        return EventBatch(
            **columns, strings=strings, string_rows=rows, origin=origin, optional=optional
        )

    @staticmethod
    def empty() -> EventBatch:
        """Return a batch without rows."""
        strings = pa.table({name: pa.array([], pa.string()) for name in STRING_COLUMNS})
        columns: dict[str, Any] = new_columns(0)
        return EventBatch(**columns, strings=strings)


def _joined_optional(batches: Sequence[EventBatch]) -> Optional:
    """Return the optional columns of all rows of ``batches``; those none of them has are left out."""
    joined: Optional = {}
    for name, (dtype, missing) in OPTIONAL_COLUMNS.items():
        if any(name in batch.optional for batch in batches):
            joined[name] = np.concatenate(
                [
                    found
                    if (found := batch.optional.get(name)) is not None
                    else np.full(len(batch), missing, dtype)
                    for batch in batches
                ]
            )
    return joined


assert [f.name for f in fields(EventBatch)][: len(COLUMN_TYPES)] == list(COLUMN_TYPES)
