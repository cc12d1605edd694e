"""What readers hand to the encoder, and the rows that go no further."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.findings import REJECTS
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.texts import TextColumn

RAW_LIMIT = 2000  # characters of a row kept in rejects
_PACKED_ROWS = 16_384  # rejects held as Python objects, several times as big as in Arrow
RAW_ROWS = 100_000  # rejects of one source that keep their row; the others keep file, row, reason


class InputError(Exception):
    """Input that cannot be used at all: one line that names it, what was found and expected."""

    def __init__(self, message: str, zh: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.zh = " ".join(zh.split()) if zh else None


@dataclass(slots=True)
class RawBatch:
    """Rows as a reader found them: canonical column names, any Arrow types.

    ``first_row`` is the 1-based number of the first row in its file. ``rows`` (shape ``(n,)``)
    gives the number of each row where they do not follow each other, as after a malformed line.
    ``texts`` holds columns of ``batch`` as kernels read them, by name, where that was needed before
    and they are known to hold no numbers of persons (see ``events.masking``).
    """

    batch: pa.RecordBatch
    path: str
    first_row: int = 1
    rows: npt.NDArray[np.int64] | None = None
    texts: Mapping[str, TextColumn] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def row_number(self, index: int) -> int:
        """Return the 1-based number in the file of row ``index`` of this batch."""
        return self.first_row + index if self.rows is None else int(self.rows[index])

    def row_numbers(self) -> npt.NDArray[np.int64]:
        """Return the 1-based numbers in the file of all rows, shape ``(n,)``, as a new array."""
        if self.rows is not None:
            return np.array(self.rows, np.int64)
        return np.arange(self.first_row, self.first_row + len(self), dtype=np.int64)

    def slice(self, start: int, stop: int) -> RawBatch:
        """Return rows ``start`` to ``stop`` without copying."""
        rows = None if self.rows is None else self.rows[start:stop]
        batch = self.batch.slice(start, stop - start)
        return RawBatch(batch, self.path, self.first_row + start, rows)


_NO_REJECTS = REJECTS.empty_table()


@dataclass(slots=True)
class RejectList:
    """Rows not taken, in the schema ``REJECTS``. Not shared between threads."""

    file: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    column: list[str] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    detail: list[str] = field(default_factory=list)
    raw: list[str | None] = field(default_factory=list)
    _full: list[pa.Table] = field(default_factory=list)  # rows before those in the lists
    _before: int = 0  # rows in ``_full``

    def __len__(self) -> int:
        return self._before + len(self.row)

    def add(
        self, file: str, row: int, column: str, reason: str, detail: str, raw: str | None
    ) -> None:
        """Append one row; ``raw`` must be free of personal values (see :func:`raw_text`).

        Beyond ``RAW_ROWS`` rows ``raw`` is dropped: a dump that is wrong throughout must not fill
        the memory.
        """
        self.file.append(file)
        self.row.append(row)
        self.column.append(column)
        self.reason.append(reason)
        self.detail.append(" ".join(detail.split())[:RAW_LIMIT])
        keeps = raw is not None and len(self) <= RAW_ROWS
        self.raw.append(raw[:RAW_LIMIT] if raw is not None and keeps else None)
        if len(self.row) >= _PACKED_ROWS:
            self._full.append(self._packed())
            self._before += len(self.row)
            for values in self._lists():
                values.clear()

    def table(self) -> pa.Table:
        """Return all rows as a table with schema ``REJECTS``."""
        if len(self) == 0:
            return _NO_REJECTS
        return pa.concat_tables([*self._full, self._packed()])

    def _packed(self) -> pa.Table:
        return pa.table(
            [pa.array(values, f.type) for values, f in zip(self._lists(), REJECTS, strict=True)],
            schema=REJECTS,
        )

    def _lists(self) -> list[list[Any]]:
        return [self.file, self.row, self.column, self.reason, self.detail, self.raw]


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def raw_text(text: str, pseudonyms: Pseudonyms) -> str:
    """Return a line of text as rejects may keep it: personal numbers hashed, no control bytes."""
    return pseudonyms.mask(_CONTROL.sub(" ", text[: 2 * RAW_LIMIT]))[:RAW_LIMIT]


def raw_row(batch: pa.RecordBatch, index: int, pseudonyms: Pseudonyms) -> str:
    """Return row ``index`` as JSON without its empty values, personal values hashed."""
    row: dict[str, object] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            value = column[index].as_py()
        except (UnicodeDecodeError, ValueError, OverflowError):
            value = "<unreadable>"
        if value is None or value == "":
            continue
        if isinstance(value, (bool, float)):
            row[name] = value
        elif name in PERSONAL_COLUMNS:
            row[name] = pseudonyms.mask(str(value))
        else:
            row[name] = pseudonyms.mask_identity_cards(str(value))
    return json.dumps(row, ensure_ascii=False)[:RAW_LIMIT]


PERSONAL_COLUMNS = frozenset(
    {
        "buyer_id", "pharmacist_id", "doctor_id", "operator_id", "contact_id", "address_id",
        "buyer_device_id",
    }
)  # fmt: skip


def concat_rejects(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all ``tables`` in order; an empty table for none."""
    return pa.concat_tables(tables) if tables else REJECTS.empty_table()
