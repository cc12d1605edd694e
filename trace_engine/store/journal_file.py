"""The file under the journal: its lock, its tables, its connections.

SQLite in WAL mode keeps the records; a lock file beside it keeps a second process out. The journal
must lie on a local disk: neither WAL mode nor the lock is sound on a network file system.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import uuid
from pathlib import Path

APPLICATION = 0x54454A31  # "TEJ1"
FORMAT = 1
# Payloads are tens of kilobytes; big pages keep their chains of overflow pages short.
PAGE_BYTES = 16_384
# A burst may leave a long WAL file; when it starts anew it is cut to this.
MOST_WAL_BYTES = 256 << 20

_TABLES = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    batch_id TEXT,
    payload BLOB NOT NULL
);
CREATE TABLE batch (
    batch_id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    number INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX batch_seen_at ON batch (seen_at);
CREATE TABLE state (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
"""


class JournalError(Exception):
    """The journal cannot be opened, read or written: one line that says why."""


class FileLock:
    """Keeps every other journal, in this or another process, away from one file."""

    def __init__(self, path: Path) -> None:
        lock = path.with_name(f"{path.name}.lock")
        self._file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise JournalError(
                f"{path}: the journal is in use by another process"
                + (f" (process id {holder})" if holder else "")
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others open the file. The lock file stays: deleting it would race with them."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def prepare(path: Path) -> None:
    """Make sure that ``path`` holds the tables of a journal of this format.

    A new file is readable by its owner alone. Raises :class:`JournalError` if something else lies
    there.
    """
    fresh = not path.exists()
    if fresh:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            _create_or_check(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be used as a journal: {error}") from error
    if fresh:
        _sync_folder(path.parent)


def _create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application == APPLICATION:
        if version != FORMAT:
            raise JournalError(f"{path}: journal of format {version}, expected {FORMAT}")
        return
    if tables or application or version:
        raise JournalError(f"{path}: is a database, but no journal")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    # Must be set before the first table; lets trimming give pages back a few at a time.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT INTO state VALUES ('identity', ?)", (uuid.uuid4().hex,))
    connection.execute("INSERT INTO state VALUES ('trimmed', 0)")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use."""
    # read-write also for readers: in WAL mode they take their marks in the shared index
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Writing zeros over what is trimmed would double the work; the pages are used again soon.
    connection.execute("PRAGMA secure_delete = OFF")
    # Copying the WAL into the file is done by a thread of its own, not by whoever commits.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {MOST_WAL_BYTES}")
    connection.execute("PRAGMA cache_size = -16384")  # KiB
    if not write:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
