"""A backup of all that a service keeps in its data folder, while it runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from trace_engine.store.backup import backup_file
from trace_engine.store.checkpoint import CheckpointError
from trace_engine.store.checkpoints import CheckpointFolder
from trace_engine.store.migrate import StoreError
from trace_engine.store.place import DatabasePlace, check_place, note_place, noted_place

JOURNAL, DATABASE = "journal.sqlite3", "trace-engine.sqlite3"
LOG, CHECKPOINTS, ARCHIVE = "log", "checkpoints", "archive"
TRIES = 5


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds. ``offset`` is that of its checkpoint, 0 if there is none yet."""

    offset: int
    bytes: int
    database: DatabasePlace
    has_database: bool


def backup_service(data: Path, target: Path, database: DatabasePlace | None = None) -> BackedUp:
    """Copy the data folder of a service to the new folder ``target``.

    The order makes it hold together (``docs/store.md``): the last checkpoint, the log and the
    archive, the database if it lies in the folder, the journal. A service that saves its state
    meanwhile makes the copy begin anew, ``TRIES`` times at most. The key that hashes personal
    numbers is left out.

    ``database`` is where the service's database is; without it, where the service noted that it is,
    else the file that it has by default.

    Raises
    ------
    StoreError, CheckpointError
        With one line: ``target`` exists, ``data`` is no data folder, its database is another one,
        or a file is damaged.
    """
    if target.exists():
        raise StoreError(f"{target}: exists already; a backup never overwrites")
    if not (data / JOURNAL).is_file():
        raise StoreError(f"{data}: no journal of a service lies here")
    if database is None:
        database = noted_place(data) or DatabasePlace("sqlite", DATABASE)
    else:
        check_place(data, database)
    file = database.file(data)
    partial = target.with_name(f".{target.name}.partial")
    for _ in range(TRIES):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        try:
            offset = _copy_state(data, partial)
        except _SupersededError:
            continue
        if file is not None:
            copy = partial / file.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            backup_file(file, copy)
        backup_file(data / JOURNAL, partial / JOURNAL)
        if _trimmed(partial / JOURNAL) <= offset:
            note_place(partial, database)
            size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
            _sync(partial)
            partial.rename(target)
            return BackedUp(offset, size, database, file is not None)
    shutil.rmtree(partial, ignore_errors=True)
    raise StoreError(f"{data}: the state is saved too often to be copied: raise checkpoint_seconds")


class _SupersededError(Exception):
    """The checkpoint was removed while it was copied, as there are two newer ones."""


def _copy_state(data: Path, partial: Path) -> int:
    """Copy the last whole checkpoint and the files of the log; return the checkpoint's offset."""
    (partial / LOG).mkdir()
    (partial / ARCHIVE).mkdir()
    (partial / CHECKPOINTS).mkdir()
    if not (data / CHECKPOINTS).is_dir():
        return 0
    numbers = CheckpointFolder(data / CHECKPOINTS).numbers()
    if not numbers:
        return 0
    folders = CheckpointFolder(partial / CHECKPOINTS)
    source = CheckpointFolder(data / CHECKPOINTS).folder(numbers[-1])
    try:
        shutil.copytree(source, folders.folder(numbers[-1]))
        for name in (LOG, ARCHIVE):  # they only grow: what is newer than the state is left out
            for path in sorted((data / name).glob("[!.]*")):
                shutil.copy2(path, partial / name / path.name)
    except OSError as error:  # copytree tells of a file that is gone by an error of its own
        if isinstance(error, FileNotFoundError) or not source.exists():
            raise _SupersededError from error
        raise StoreError(f"{source}: could not be copied: {error}") from error
    try:
        latest = folders.latest()  # checks every file of it
    except CheckpointError as error:
        if source.exists():
            raise
        raise _SupersededError from error  # and written over
    if latest is None:
        raise CheckpointError(f"{source}: could not be copied")
    return latest.number


def _trimmed(journal: Path) -> int:
    """Return the offset up to which a journal has forgotten its records."""
    connection = sqlite3.connect(journal)
    try:
        row = connection.execute("SELECT value FROM state WHERE name = 'trimmed'").fetchone()
        return int(row[0])
    except sqlite3.Error as error:
        raise StoreError(f"{journal}: is no journal: {error}") from error
    finally:
        connection.close()


def _sync(folder: Path) -> None:
    """Have every file of a folder on the disk."""
    for path in [*folder.rglob("*"), folder]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
