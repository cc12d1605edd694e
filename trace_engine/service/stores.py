"""What the service keeps on disk, opened together: journal, database, log of events, checkpoints."""

from __future__ import annotations

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
from trace_engine.store.rejects import RejectStore

if TYPE_CHECKING:
    from trace_engine.cluster.shard import Shard
    from trace_engine.engine import Engine
    from trace_engine.service.settings import ServiceSettings

_logger = logging.getLogger(__name__)

JOURNAL, HASH_KEY = "journal.sqlite3", "hash.key"
LOG, CHECKPOINTS, ARCHIVE = "log", "checkpoints", "archive"
KEY_BYTES = 32


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
            return cls(
                journal,
                database,
                FindingStore(database),
                RejectStore(database),
                OutcomeStore(database),
                CheckpointFolder(data / CHECKPOINTS),
                FolderLog(data / LOG, lasting=True),
                Archive(FolderUnits(data / ARCHIVE)),
                hash_key(settings),
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
        return latest

    def restore(self, checkpoint: Checkpoint | None, engine: Engine, shard: Shard) -> int:
        """Load a checkpoint, if there is one, and return its offset.

        Registry and policy may be newer than the state, but not while records wait that were
        accepted under the old ones: judged by others, they could give other findings than before.
        """
        if checkpoint is None:
            return 0
        changed = other_reference(engine, checkpoint.folder)
        waiting = self.journal.last_offset - checkpoint.number
        if changed and waiting:
            raise CheckpointError(
                f"{checkpoint.folder}: made with another {' and '.join(changed)}, and {waiting} "
                "records came after it: start once with what was used before, stop the service "
                "orderly, then start it with the new one"
            )
        for name in changed:
            _logger.warning("another %s than before: it holds from now on", name)
        checkpoint.load(engine, any_reference=bool(changed))
        shard.restore(checkpoint.values["shard"])
        self.checkpoint_time = checkpoint.folder.stat().st_mtime
        self._forget = checkpoint.number
        return checkpoint.number

    def save(self, engine: Engine, offset: int, values: dict[str, Any]) -> int:
        """Save the state as of ``offset``; return the offset up to which records are not needed.

        That is the checkpoint before this one, to which a damaged one falls back.
        """
        kept = {"journal": self.journal.identity, "shard": values}
        self.checkpoints.save(engine, offset, kept)
        forget, self._forget = self._forget, offset
        return forget

    def close(self) -> None:
        """Close journal and database."""
        self.journal.close()
        self.database.close()


def hash_key(settings: ServiceSettings) -> bytes:
    """Return the key that hashes personal numbers; make one where none was ever given.

    In order: the file of the settings, the environment, a file in the data folder that only its
    owner can read. It must stay the same for as long as pseudonyms are to be compared. Raises
    ``StoreError`` if it cannot be read or is too short.
    """
    given = settings.hash_key_file
    if given is None and os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE].encode()
    path = Path(given) if given is not None else Path(settings.data) / HASH_KEY
    if given is None and not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(secrets.token_hex(KEY_BYTES) + "\n")
            out.flush()
            os.fsync(out.fileno())
    try:
        key = path.read_text("ascii").strip().encode()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as a key: {error}") from error
    if len(key) < KEY_BYTES:
        raise StoreError(f"{path}: a key of at least {KEY_BYTES} characters is needed")
    return key
