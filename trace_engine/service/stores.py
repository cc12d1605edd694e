"""What the service keeps on disk, opened together: journal, database, log of events, checkpoints."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_engine.core.archive import Archive
from trace_engine.events.privacy import KEY_VARIABLE
from trace_engine.store.archive import FolderUnits
from trace_engine.store.checkpoint import CheckpointError, other_reference
from trace_engine.store.checkpoints import Checkpoint, CheckpointFolder
from trace_engine.store.database import Database
from trace_engine.store.eventlog import FolderLog
from trace_engine.store.findings_table import FindingStore
from trace_engine.store.journal import Journal
from trace_engine.store.migrate import StoreError
from trace_engine.store.outcomes import OutcomeStore
from trace_engine.store.place import note_place, place_of
from trace_engine.store.rejects import RejectStore
from trace_engine.store.room import WaitsForRoom
from trace_engine.store.syncing import fsync_path

if TYPE_CHECKING:
    from trace_engine.cluster.shard import Shard
    from trace_engine.engine import Engine
    from trace_engine.service.settings import ServiceSettings

_logger = logging.getLogger(__name__)

JOURNAL, HASH_KEY = "journal.sqlite3", "hash.key"
COVERED = "covered offset"  # all findings up to this record are in the database
LOG, CHECKPOINTS, ARCHIVE = "log", "checkpoints", "archive"
KEY_BYTES = 32
_KEY_PURPOSE = b"trace-engine mark of a key 1"


@dataclass
class Stores:
    """The stores of one service. Offsets are those of ``journal``."""

    journal: Journal
    database: Database
    findings: FindingStore
    rejects: RejectStore
    outcomes: OutcomeStore
    checkpoints: CheckpointFolder
    log: FolderLog
    archive: Archive
    hash_key: bytes
    checkpoint_time: float | None = None
    _forget: int = 0  # offset of the checkpoint before the last one

    @classmethod
    def open(cls, settings: ServiceSettings) -> Stores:
        """Open the stores of ``settings.data``, making those there are not.

        Raises ``JournalError``, ``StoreError`` or ``CheckpointError``, each with one line.
        """
        data = Path(settings.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = Journal(
            data / JOURNAL,
            most_waiting_bytes=settings.most_waiting_bytes,
            most_waiting_rows=settings.most_waiting_rows,
        )
        try:
            database = Database.open(settings.database_url)
        except BaseException:
            journal.close()
            raise
        try:
            database.bind("journal", journal.identity)
            note_place(data, place_of(settings.database_url, data))
            return cls(
                journal,
                database,
                FindingStore(database),
                RejectStore(database),
                OutcomeStore(database),
                CheckpointFolder(data / CHECKPOINTS),
                FolderLog(data / LOG, lasting=True),
                Archive(FolderUnits(data / ARCHIVE)),
                hash_key(settings, may_make=journal.last_offset == 0),
            )
        except BaseException:
            database.close()
            journal.close()
            raise

    def latest(self) -> Checkpoint | None:
        """Return the last whole checkpoint, checked against the journal; None before the first.

        Raises ``CheckpointError`` if it belongs to another journal, or if the journal no longer has
        what comes after it.
        """
        latest, where = self.checkpoints.latest(), self.checkpoints.path
        if latest is not None and latest.values.get("journal") != self.journal.identity:
            raise CheckpointError(f"{latest.folder}: made with another journal")
        after = 0 if latest is None else latest.number
        if after > self.journal.last_offset:
            raise CheckpointError(
                f"{where}: knows record {after}, the journal ends with "
                f"{self.journal.last_offset}: it is not the one that belongs to this state"
            )
        if after + 1 < self.journal.first_offset:
            raise CheckpointError(
                f"{where}: holds up to record {after}, the journal begins with "
                f"{self.journal.first_offset}: restore the checkpoint that belongs to it"
            )
        covered = int(self.database.setting(COVERED) or 0)
        if covered < after:
            raise CheckpointError(
                f"{where}: knows record {after}, the database has findings up to record {covered} "
                "only: restore the database that belongs to this state"
            )
        return latest

    def restore(self, checkpoint: Checkpoint | None, engine: Engine, shard: Shard) -> int:
        """Load a checkpoint, if there is one, and return its offset.

        Registry, policy and the rules by which days close may be others than before, but not while
        records wait that were accepted under the old ones: some of them may have been judged
        already, and by others they could give other findings, or the same ones a second time.
        """
        if checkpoint is None:
            return 0
        reference = other_reference(engine, checkpoint.folder)
        changed = [*reference, *shard.other_rules(checkpoint.values["shard"])]
        waiting = self.journal.last_offset - checkpoint.number
        if changed and waiting:
            raise CheckpointError(
                f"{checkpoint.folder}: made with another {' and '.join(changed)}, and {waiting} "
                "records came after it: start once with what was used before, stop the service "
                "orderly, then start it with the new one"
            )
        if checkpoint.values.get("key", self._key_mark()) != self._key_mark():
            changed.append("key of pseudonyms")
        for name in changed:
            _logger.warning("another %s than before: it holds from now on", name)
        checkpoint.load(engine, any_reference=bool(reference))
        shard.restore(checkpoint.values["shard"])
        self.checkpoint_time = checkpoint.folder.stat().st_mtime
        self._forget = checkpoint.number
        return checkpoint.number

    def save(self, engine: Engine, offset: int, values: dict[str, Any]) -> int:
        """Save the state as of ``offset``; return the offset up to which records are not needed.

        That is the checkpoint before this one, to which a damaged one falls back.
        """
        # First, so that no state is ahead of the database that belongs to it.
        self.database.keep(COVERED, str(offset))
        kept = {"journal": self.journal.identity, "shard": values, "key": self._key_mark()}
        self.checkpoints.save(engine, offset, kept)
        forget, self._forget = self._forget, offset
        return forget

    def wait_for_room(self, waits: WaitsForRoom) -> None:
        """Have ``waits`` asked where the engine finds the disk full while it judges a day."""
        self.log.waits_for_room = waits
        if isinstance(self.archive.units, FolderUnits):
            self.archive.units.waits_for_room = waits

    def _key_mark(self) -> str:
        """Return what tells one key of pseudonyms from another, and nothing else of it."""
        return hmac.digest(self.hash_key, _KEY_PURPOSE, "sha256")[:8].hex()

    def close(self) -> None:
        """Close journal and database."""
        self.journal.close()
        self.database.close()


def hash_key(settings: ServiceSettings, *, may_make: bool = True) -> bytes:
    """Return the key that hashes personal numbers; make one where none was ever given.

    In order: the file of the settings, the environment, a file in the data folder that only its
    owner can read. It must stay the same for as long as pseudonyms are to be compared: unless
    ``may_make``, that file must be there. Raises ``StoreError`` if it cannot be read or is too
    short.
    """
    given = settings.hash_key_file
    if given is None and os.environ.get(KEY_VARIABLE):
        return _long_enough(os.environ[KEY_VARIABLE].encode(), KEY_VARIABLE)
    path = Path(given) if given is not None else Path(settings.data) / HASH_KEY
    if given is None and not path.exists():
        if not may_make:
            raise StoreError(
                f"{path}: missing, and there are events whose pseudonyms were made with it: put it "
                f"back, or name another key with hash_key_file or {KEY_VARIABLE}"
            )
        _make_key(path)
    try:
        key = path.read_text("ascii").strip().encode()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as a key: {error}") from error
    return _long_enough(key, path)


def _long_enough(key: bytes, where: object) -> bytes:
    """Return ``key``. A short one could be guessed, and with it the numbers behind pseudonyms."""
    if len(key) < KEY_BYTES:
        raise StoreError(f"{where}: a key of at least {KEY_BYTES} characters is needed")
    return key


def _make_key(path: Path) -> None:
    """Write a new key: whole and on the disk before it has its name."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(secrets.token_hex(KEY_BYTES) + "\n")
        out.flush()
        os.fsync(out.fileno())
    partial.rename(path)
    fsync_path(path.parent)
