"""The folder of one partition's state: checkpoints named by the next offset, behind a lock.

    STATE/<topic>-<partition>/lock                held by the member that owns the partition
                             /committed.json      the offset committed last, as far as is known here
                             /offset-<next>/      engine/ and shard.json, whole or absent

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
from typing import Any, BinaryIO

from trace_engine.cluster.kafka.errors import StreamError
from trace_engine.cluster.shard import Shard
from trace_engine.store.checkpoint import CheckpointError, load_engine, save_engine

FORMAT = 1
KEPT = 2  # committed checkpoints: the one in force and the one before
_NAME = "offset-{:020d}"
_PREFIX = "offset-"
_FORGOTTEN = ".old-"
_NEW = ".new-"


class PartitionFolder:
    """State of one partition on a file system that all members share.

    ``key`` is the secret of pseudonyms: a state made with another one is refused.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder = folder
        self._key = hmac.digest(key, b"trace-engine state of a stream", hashlib.sha256).hex()[:16]
        self._lock: BinaryIO | None = None

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
        """Give the lock back."""
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

    def offsets(self) -> list[int]:
        """Return the next offsets of all checkpoints, ascending."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            digits = path.name.removeprefix(_PREFIX)
            if path.name.startswith(_PREFIX) and digits.isdecimal():
                found.append(int(digits))
        return sorted(found)

    def committed(self) -> int | None:
        """Return the offset that was committed last with a state of this folder, None: none yet."""
        try:
            return int(json.loads((self.folder / "committed.json").read_bytes())["offset"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StreamError(f"{self.folder / 'committed.json'}: damaged: {error}") from error

    def save(self, shard: Shard, offset: int, reference: dict[str, str | None]) -> None:
        """Write the state as of all messages before ``offset``; it is on disk on return."""
        target = self._path(offset)
        partial = self.folder / (_NEW + target.name)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_engine(shard.engine, partial / "engine", reference)
        values = {
            "format": FORMAT,
            "offset": offset,
            "shard": shard.values(),
            "key": self._key,
        }
        (partial / "shard.json").write_text(json.dumps(values), "utf-8")
        _sync_tree(partial)
        self._remove(target)  # one of this offset whose transaction was not committed
        partial.rename(target)
        _sync(self.folder)

    def load(self, at_most: int, make: Callable[[], Shard]) -> tuple[Shard, int] | None:
        """Return a shard with the newest state up to offset ``at_most``, and its next offset.

        None if there is no such state. A damaged one is passed over for the one before it; raises
        :class:`StreamError` where none can be used.
        """
        first: Exception | None = None
        for offset in reversed([o for o in self.offsets() if o <= at_most]):
            shard = make()
            try:
                self._load(shard, self._path(offset), offset)
            except (CheckpointError, OSError, ValueError, KeyError) as error:
                first = first or error
                continue
            return shard, offset
        if first is not None:
            raise StreamError(f"{self.folder}: no usable state: {first}") from first
        return None

    def settle(self, offset: int) -> None:
        """Note that ``offset`` is committed; forget states of other futures and of long ago."""
        path = self.folder / "committed.json"
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"offset": offset}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync(self.folder)
        known = self.offsets()
        in_force = [o for o in known if o <= offset][-KEPT:]
        for old in known:
            if old not in in_force:
                self._remove(self._path(old))
        for path in self.folder.iterdir():
            if path.name.startswith((_NEW, _FORGOTTEN)):
                shutil.rmtree(path, ignore_errors=True)

    def forget(self) -> None:
        """Remove every checkpoint: none of them was ever in force."""
        for offset in self.offsets():
            self._remove(self._path(offset))

    def _path(self, offset: int) -> Path:
        return self.folder / _NAME.format(offset)

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            gone = self.folder / (_FORGOTTEN + path.name)
            shutil.rmtree(gone, ignore_errors=True)
            path.rename(gone)  # never half a checkpoint under its name
            shutil.rmtree(gone, ignore_errors=True)

    def _load(self, shard: Shard, path: Path, offset: int) -> None:
        values: dict[str, Any] = json.loads((path / "shard.json").read_bytes())
        if values.get("format") != FORMAT or values["offset"] != offset:
            raise CheckpointError(f"{path}: state of another format or offset")
        if values["key"] != self._key:
            raise CheckpointError(f"{path}: made with another TRACE_ENGINE_HASH_KEY")
        load_engine(shard.engine, path / "engine")
        shard.restore(values["shard"])


def _sync_tree(folder: Path) -> None:
    """Have every file and folder below ``folder`` on disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
