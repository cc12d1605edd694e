"""The door: loose Arrow rows in, :class:`EventBatch` out, and what does not fit as rejects.

Nothing is lost on the way: every row ends in the batch or in the rejects, with a reason. Columns
are read one at a time by compiled kernels; only rows that are refused are touched one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.events.assemble import Assembly
from trace_engine.events.batch import EventBatch, Vocabulary
from trace_engine.events.hashing import ContentHasher
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import (
    PERSONAL_COLUMNS,
    RAW_ROWS,
    InputError,
    RawBatch,
    RejectList,
    raw_row,
)
from trace_engine.events.schema import REQUIRED
from trace_engine.events.tables import Problems, Tables

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Encoded:
    """What became of the rows of one :class:`RawBatch`.

    ``batch.origin`` holds row numbers only: the file's index is for those who know all files.
    """

    batch: EventBatch
    rejects: pa.Table  # schema findings.REJECTS
    rows_in: int  # = len(batch) + rejects.num_rows
    unknown_regions: int = 0  # stated regions, of all rows, that no code book knows


class Encoder:
    """Turns raw rows into events of one vocabulary. May be shared between threads.

    ``key`` is the secret for pseudonyms (default: see ``privacy.default_key``). ``region_index``
    maps a stated region code to its index (default: the shipped table of GB/T 2260 codes).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        key: bytes | None = None,
        region_index: Callable[[str], int] | None = None,
    ) -> None:
        if region_index is None:
            from trace_engine.registry.regions import load_regions

            region_index = load_regions().index
        self.vocabulary = vocabulary
        self.pseudonyms = Pseudonyms(key)
        self._region_index = region_index
        self._local = threading.local()
        self.raw_left = RAW_ROWS  # rejects to come that keep their row

    def encode(self, raw: RawBatch) -> Encoded:
        """Return the events of ``raw`` and its rejects.

        Raises :class:`InputError` where a required column is missing or a column has a type that
        can never be right.
        """
        try:
            return self._encode(raw)
        except InputError as error:
            zh = f"{raw.path}：{error.zh}" if error.zh else None
            raise InputError(f"{raw.path}: {error}", zh) from error

    def _tables(self) -> Tables:
        tables: Tables | None = getattr(self._local, "tables", None)
        if tables is None:
            tables = Tables(self.vocabulary, self._region_index, self.pseudonyms)
            self._local.tables = tables
        return tables

    def _encode(self, raw: RawBatch) -> Encoded:
        names = raw.batch.schema.names
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise InputError(f"required column missing: {', '.join(missing)}")
        rows = len(raw)
        if rows == 0:
            nothing = EventBatch.empty()
            nothing.origin = np.empty(0, np.int64)
            return Encoded(nothing, RejectList().table(), 0)
        columns = {
            name: column
            for name, column in zip(names, raw.batch.columns, strict=True)
            if not pa.types.is_null(column.type)
        }
        tables = self._tables()
        assembly = Assembly(columns, rows, tables, self.pseudonyms, raw.texts)
        events = assembly.run()
        events.origin = raw.row_numbers()
        rejected = np.flatnonzero(assembly.problems.of_row)
        rejects = self._rejects(raw, assembly.problems, rejected)
        if len(rejected):
            kept = np.flatnonzero(assembly.problems.of_row == 0)
            events = events.take(kept)
            events.strings, events.string_rows = events.compact_strings(), None
        _name_nameless(events, tables.content)
        if len(events) + len(rejects) != rows:
            raise AssertionError(
                f"{raw.path}: {rows} rows in, {len(events)} events and {len(rejects)} rejects out"
            )
        return Encoded(events, rejects.table(), rows, assembly.unknown_regions)

    def _rejects(self, raw: RawBatch, problems: Problems, rows: Int64) -> RejectList:
        rejects = RejectList()
        # A date or an amount of 8 to 20 digits is no number of a person; a stray phone or card is.
        mask_inside = self.pseudonyms.mask_inside
        for index in rows.tolist():
            column, reason, expected = problems.kinds[problems.of_row[index]]
            detail = f"expected {expected}"
            if column in raw.batch.schema.names:
                try:
                    found = raw.batch.column(column)[index].as_py()
                except (UnicodeDecodeError, ValueError, OverflowError):
                    found = "<unreadable>"
                if found is not None:
                    mask = self.pseudonyms.mask if column in PERSONAL_COLUMNS else mask_inside
                    shown = mask(str(found)[:200])
                    detail = f"found {shown!r}, {detail}"
            text = None
            if self.raw_left > 0:
                self.raw_left -= 1
                text = raw_row(raw.batch, index, self.pseudonyms)
            rejects.add(raw.path, raw.row_number(index), column, reason, detail, text)
        return rejects


def _name_nameless(events: EventBatch, content: ContentHasher) -> None:
    """Give rows without an id one made of their content: ``content:`` and 16 hex digits."""
    nameless = events.event_key == 0
    if not nameless.any():
        return
    rows = np.flatnonzero(nameless)
    keys = content.keys(events, rows)
    events.event_key[rows] = keys
    digits = keys.astype(">u8").tobytes().hex()
    names = pa.array(
        [f"content:{digits[i : i + 16]}" for i in range(0, len(digits), 16)], pa.string()
    )
    given = events.strings.column("event_id").combine_chunks()
    named = pc.replace_with_mask(given, pa.array(nameless), names)
    events.strings = events.strings.set_column(0, "event_id", named)


def content_key_rows(events: EventBatch, rows: Int64 | None, vocabulary: Vocabulary) -> UInt64:
    """Return content keys of ``rows`` of ``events`` (all if None), see :class:`ContentHasher`."""
    return ContentHasher(vocabulary).keys(events, rows)
