"""What stands in the journal: records, what was said of them, and reading them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from trace_engine.store.journal_file import JournalError

EVENTS, ADVANCE = 1, 2
MOST_PAYLOAD_BYTES = 64 << 20


class BatchConflict(Exception):  # noqa: N818 - says what is the case, as JournalFull does
    """The id of the batch is known, with another body."""


class JournalUnwritable(JournalError):  # noqa: N818 - a kind of JournalError
    """A record could not be stored, and nothing of it was.

    ``permanent`` says whether the journal takes records again by itself (as after a full disk) or
    must be opened anew (after an I/O error: nobody knows what the disk did with earlier writes).
    """

    def __init__(self, text: str, *, permanent: bool) -> None:
        super().__init__(text)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it was stored; ``received_at`` in µs UTC."""

    offset: int
    kind: int
    received_at: int
    rows: int
    batch_id: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a record is; ``repeated`` if it was there before, under the same batch id."""

    offset: int
    repeated: bool


def read_records(
    connection: sqlite3.Connection, after: int, through: int, most_bytes: int
) -> list[Record]:
    """Return the records after ``after`` up to ``through``, in order: about ``most_bytes``.

    Raises :class:`JournalError` unless the first of them is there.
    """
    records: list[Record] = []
    size = 0
    # read to the end of the range or closed at once: an open statement would keep the WAL growing
    cursor = connection.execute(
        "SELECT number, kind, received_at, rows, batch_id, payload FROM record "
        "WHERE number > ? AND number <= ? ORDER BY number",
        (after, through),
    )
    try:
        for row in cursor:
            records.append(Record(*row))
            size += len(records[-1].payload)
            if size >= most_bytes:
                break
    finally:
        cursor.close()
    if not records or records[0].offset != after + 1:
        raise JournalError(f"record {after + 1} of the journal is missing")
    return records
