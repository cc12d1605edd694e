"""A consistent copy of a SQLite file that is in use: the database, or the journal.

By SQLite's online backup. The copy is one read transaction: writers go on meanwhile (the WAL grows
until it ends), and the copy is the file as of its beginning. Copy checkpoints first, then the
database, then the journal (``docs/store.md``).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from trace_engine.store.migrate import StoreError


def backup_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Copy the SQLite file ``source`` to the new file ``target`` and return its size in bytes.

    The copy is checked and on disk before it gets its name, readable by its owner alone. Raises
    :class:`StoreError` if ``target`` exists, or either cannot be used.
    """
    origin, final = Path(source), Path(target)
    if final.exists():
        raise StoreError(f"{final}: exists already; a backup never overwrites")
    if not origin.is_file():
        raise StoreError(f"{origin}: no such file")
    partial = final.with_name(f".{final.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            _copy(origin, partial)
            _put_in_place(partial, final)
        finally:
            partial.unlink(missing_ok=True)
    except sqlite3.Error as error:
        raise StoreError(f"{origin}: cannot be copied: {error}") from error
    except OSError as error:
        raise StoreError(f"{final}: {error.strerror}") from error
    return final.stat().st_size


def _copy(origin: Path, partial: Path) -> None:
    reading = sqlite3.connect(origin, timeout=30, isolation_level=None)
    writing = sqlite3.connect(partial, isolation_level=None)
    try:
        reading.execute("PRAGMA query_only = ON")
        reading.backup(writing, pages=-1)
        # The copy is one file: without this it would open as one with a WAL beside it.
        writing.execute("PRAGMA journal_mode = DELETE")
        found = writing.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"{origin}: the copy is damaged: {found}")
    finally:
        writing.close()
        reading.close()


def _put_in_place(partial: Path, final: Path) -> None:
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    # A link fails where a rename would overwrite what somebody else put there meanwhile.
    os.link(partial, final)
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
