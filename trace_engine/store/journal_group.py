"""Records that are stored together: one group is one transaction of the journal."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_engine.store.journal_records import Appended, BatchConflict, JournalUnwritable

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(slots=True)
class Entry:
    """A record that waits to be stored: ``size`` in bytes, ``received_at`` in µs UTC."""

    payload: Buffer
    size: int
    kind: int
    rows: int
    batch_id: str | None
    digest: str  # of the batch's body; "" without an id
    received_at: int
    future: Future[Appended]


def write_group(
    writer: sqlite3.Connection, group: Sequence[Entry], last: int
) -> list[Appended | BatchConflict]:
    """Store a group behind offset ``last`` and return what to answer each of it.

    All of it is on disk when this returns. A batch that is known is not stored again. Where it
    raises, the transaction may still be open: :func:`roll_back`.
    """
    answers: list[Appended | BatchConflict] = []
    offset = last
    now = int(time.time())
    execute = writer.execute
    execute("BEGIN IMMEDIATE")
    for entry in group:
        if entry.batch_id is not None:
            known = execute(
                "SELECT digest, number FROM batch WHERE batch_id = ?", (entry.batch_id,)
            ).fetchone()
            if known is not None:
                answers.append(
                    Appended(known[1], repeated=True)
                    if known[0] == entry.digest
                    else BatchConflict(
                        f"batch {entry.batch_id!r} was stored at offset {known[1]} with "
                        "another content"
                    )
                )
                continue
        offset += 1
        execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)",
            (offset, entry.kind, entry.received_at, entry.rows, entry.batch_id, entry.payload),
        )
        if entry.batch_id is not None:
            execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?)",
                (entry.batch_id, entry.digest, offset, now),
            )
        answers.append(Appended(offset, repeated=False))
    execute("COMMIT")
    return answers


def roll_back(writer: sqlite3.Connection, path: Path, error: Exception) -> JournalUnwritable:
    """Undo what a failed transaction did; say whether the journal can go on."""
    # Known to leave all before it sound: a full disk, another who held the file for too long,
    # and what never came to SQLite.
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        sound = not isinstance(error, MemoryError)
    else:
        sound = code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
    try:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
    except sqlite3.Error as another:
        return JournalUnwritable(f"{path}: {error}, then {another}", permanent=True)
    return JournalUnwritable(f"{path}: {error}; nothing was stored", permanent=not sound)
