"""What the journal knows of a batch by its id: where it is stored, and when its days are over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from trace_engine.readers.payload import last_day
from trace_engine.store.journal import Journal, JournalError
from trace_engine.store.journal_file import connect


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """A batch that was stored. ``rows`` and ``last_day`` are known while its record is kept.

    ``seen_at`` is in seconds since 1970 (UTC), ``last_day`` in days since 1970-01-01: None also
    where it holds no events.
    """

    offset: int
    seen_at: int
    kept: bool
    rows: int | None = None
    last_day: int | None = None


def find_batch(journal: Journal, batch_id: str) -> KnownBatch | None:
    """Return what is known of a batch; None if it was never stored or is forgotten.

    Raises :class:`JournalError` if the journal cannot be read, and ``PayloadError`` if the record
    is damaged.
    """
    try:
        with closing(connect(journal.path)) as connection:
            known = connection.execute(
                "SELECT number, seen_at FROM batch WHERE batch_id = ?", (batch_id,)
            ).fetchone()
            if known is None:
                return None
            offset, seen_at = known
            record = connection.execute(
                "SELECT rows, payload FROM record WHERE number = ?", (offset,)
            ).fetchone()
    except sqlite3.Error as error:
        raise JournalError(f"{journal.path}: cannot be read: {error}") from error
    if record is None or offset < journal.first_offset:  # forgotten, and perhaps not yet deleted
        return KnownBatch(offset, seen_at, kept=False)
    rows, payload = record
    return KnownBatch(offset, seen_at, kept=True, rows=rows, last_day=last_day(payload))
