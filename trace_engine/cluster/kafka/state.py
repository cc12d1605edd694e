"""The folder of one partition's state: checkpoints named by the next offset, behind a lock.

::

    STATE/<topic>-<partition>/lock                held by the member that owns the partition
                             /committed.json      the offset committed last, as far as is known here
                             /checkpoints/<next>/ states (``store.checkpoints``), at most two
                             /log/                the engine's log of events, shared by the states
                             /archive/            codes long closed, shared by the states

A checkpoint is written before the group's offset is committed, so the newest may be of a
transaction that never was. The committed offset decides which one is in force.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trace_engine.cluster.kafka.errors import StreamError
from trace_engine.cluster.shard import Shard
from trace_engine.core.archive import Archive
from trace_engine.core.eventlog import EventLog
from trace_engine.store.archive import FolderUnits
from trace_engine.store.checkpoint import CheckpointError
from trace_engine.store.checkpoints import CheckpointFolder
from trace_engine.store.eventlog import FolderLog

MakeShard = Callable[[EventLog, Archive], Shard]


class PartitionFolder:
    """State of one partition on a file system that all members share.

    ``key`` is the secret of pseudonyms: a state made with another one is refused.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder = folder
        self._key = hmac.digest(key, b"trace-engine state of a stream", hashlib.sha256).hex()[:16]
        self._lock: BinaryIO | None = None
        self._units: FolderUnits | None = None

    # ---- lock ----------------------------------------------------------------------------------

    def acquire(self) -> bool:
        """Take the lock if nobody holds it; return whether it is ours.

        The lock of the operating system ends with its process. It also keeps out a member that lost
        the partition while it was asleep and now wakes up in the middle of a checkpoint.
        """
        if self._lock is not None:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / "lock").open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except BaseException:
            file.close()
            raise
        file.truncate(0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": int(time.time())}
        file.write(json.dumps(holder).encode())
        file.flush()
        self._lock = file
        return True

    def release(self) -> None:
        """Give the lock back; shards made here are of no use from now on."""
        self._close_archive()
        if self._lock is not None:
            self._lock.close()  # ends the lock too
            self._lock = None

    def holder(self) -> str:
        """Return who holds the lock, as far as the file says."""
        try:
            found = json.loads((self.folder / "lock").read_bytes())
            return f"process {found['pid']} of {found['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    # ---- checkpoints ---------------------------------------------------------------------------

    def committed(self) -> int | None:
        """Return the offset that was committed last with a state of this folder, None: none yet."""
        path = self.folder / "committed.json"
        try:
            return int(json.loads(path.read_bytes())["offset"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StreamError(f"{path}: damaged: {error}") from error

    def fresh(self, make: MakeShard) -> Shard:
        """Return a shard without a past; states that are here were never in force."""
        self._forget_after(-1)
        return make(self._log(), self._archive())

    def load(self, at_most: int, make: MakeShard) -> tuple[Shard, int] | None:
        """Return a shard with the newest state up to offset ``at_most``, and its next offset.

        Newer ones are removed: their transactions were not committed. A damaged one is passed over
        for the one before it. None if there is no state; raises :class:`StreamError` where there
        are some and none can be used.
        """
        self._forget_after(at_most)
        try:
            latest = self._checkpoints().latest()
            if latest is None:
                return None
            if latest.values.get("key") != self._key:
                raise CheckpointError(f"{latest.folder}: made with another TRACE_ENGINE_HASH_KEY")
            shard = make(self._log(), self._archive())
            latest.load(shard.engine)
            shard.restore(latest.values["shard"])
        except CheckpointError as error:
            raise StreamError(str(error)) from error
        return shard, latest.number

    def save(self, shard: Shard, offset: int, reference: dict[str, str | None]) -> None:
        """Write the state as of all messages before ``offset``; it is on disk on return."""
        values = {"shard": shard.values(), "key": self._key}
        self._checkpoints().save(shard.engine, offset, values, reference)

    def settle(self, offset: int) -> None:
        """Note that ``offset`` is committed."""
        path = self.folder / "committed.json"
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"offset": offset}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)

    def _checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.folder / "checkpoints")

    def _log(self) -> FolderLog:
        return FolderLog(self.folder / "log", lasting=True)

    def _archive(self) -> Archive:
        """Return an empty archive: what lies in the folder counts once a state names it."""
        self._close_archive()
        self._units = FolderUnits(self.folder / "archive")
        return Archive(self._units)

    def _close_archive(self) -> None:
        if self._units is not None:
            self._units.close()
            self._units = None

    def _forget_after(self, offset: int) -> None:
        checkpoints = self._checkpoints()
        for number in checkpoints.numbers():
            if number > offset:
                path = checkpoints.folder(number)
                gone = path.with_name(f".{path.name}.partial")  # never half a state under its name
                shutil.rmtree(gone, ignore_errors=True)
                path.rename(gone)
                shutil.rmtree(gone)
