"""The ingest journal: what was acknowledged is on disk, in one order, until it is trimmed.

A record holds the events of one request. One thread writes: it takes all records that wait, stores
them in one transaction of SQLite (WAL mode, ``synchronous=FULL``: the commit returns after fsync)
and then answers all of them, so that many requests share one fsync. Offsets begin with 1 and have
no holes. The id of a batch and the digest of its body are stored in the same transaction as its
record: a batch that is sent again is answered with the offset it has.

Readers have connections of their own and never wait for the writer. The loop says up to where it
has *taken* records; what is after counts as waiting, and too much of it refuses new records
(:class:`JournalFull`). What checkpoints made needless is *trimmed*: forgotten at once, deleted a
few megabytes at a time between commits.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections import deque
from concurrent.futures import Future
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from trace_engine.store.backlog import Backlog, JournalFull
from trace_engine.store.journal_file import FileLock, JournalError, connect, prepare
from trace_engine.store.journal_group import Entry, roll_back, write_group
from trace_engine.store.journal_records import (
    ADVANCE,
    EVENTS,
    MOST_PAYLOAD_BYTES,
    Appended,
    BatchConflict,
    JournalUnwritable,
    Record,
    read_records,
)
from trace_engine.store.journal_upkeep import Checkpointer, Housekeeping

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "ADVANCE",
    "EVENTS",
    "MOST_PAYLOAD_BYTES",
    "Appended",
    "BatchConflict",
    "Journal",
    "JournalError",
    "JournalFull",
    "JournalUnwritable",
    "Record",
]

# A group is one transaction: bounded, so that the first of it does not wait for too many others.
MOST_GROUP_BYTES = 32 << 20
MOST_GROUP = 1024


class Journal:
    """Opens or creates the journal at ``path`` (a file on a local disk) and starts its threads.

    ``batch_days``: how long ids of batches are remembered. ``spare_bytes``: free space the file
    keeps for records to come, whatever is trimmed. Raises :class:`JournalError` if another process
    has it open, or the file is no journal. All methods may be called from any thread.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        most_waiting_bytes: int = 1 << 30,
        most_waiting_rows: int = 20_000_000,
        batch_days: float = 62.0,
        spare_bytes: int = 64 << 20,
    ) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file_lock = FileLock(self.path)
        self._opened: sqlite3.Connection | None = None
        try:
            self._open(Backlog(most_waiting_bytes, most_waiting_rows), batch_days, spare_bytes)
        except sqlite3.Error as error:
            self._abandon()
            raise JournalError(f"{self.path}: cannot be used as a journal: {error}") from error
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._file_lock.release()

    def _open(self, backlog: Backlog, batch_days: float, spare_bytes: int) -> None:
        prepare(self.path)
        self._opened = self._writer = connect(self.path, write=True)
        state = dict(self._writer.execute("SELECT name, value FROM state"))
        self.identity = str(state["identity"])  # a checkpoint belongs to one journal
        self._trimmed = int(state["trimmed"])
        self._last = self._trimmed
        for number, rows, size in self._writer.execute(
            "SELECT number, rows, length(payload) FROM record WHERE number > ? ORDER BY number",
            (self._trimmed,),
        ):
            if number != self._last + 1:
                raise JournalError(f"{self.path}: damaged: record {self._last + 1} is missing")
            backlog.restore(number, size, rows)
            self._last = number
        self._backlog = backlog
        self._queue: deque[Entry] = deque()
        self._closing = False
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._durable = threading.Condition(self._lock)
        self._readers: list[sqlite3.Connection] = []
        self._checkpointer = Checkpointer(self.path, self._writer)
        self._housekeeping = Housekeeping(
            self._writer, self._trimmed, batch_days * 86_400, spare_bytes
        )
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    # -- writing

    def append(
        self,
        payload: Buffer,
        *,
        kind: int = EVENTS,
        rows: int = 0,
        batch_id: str | None = None,
        digest: str | bytes | None = None,
        received_at: int = 0,
    ) -> Future[Appended]:
        """Store a record; the future is done when it is on disk.

        ``digest`` identifies the body of the batch (default: SHA-256 of ``payload``), and
        ``received_at`` is in µs UTC (0: now). ``payload`` must not change until the future is done.
        Cancelling the future before its turn leaves nothing stored.

        Raises :class:`JournalFull` if too much waits, ``ValueError`` if the payload is larger than
        ``MOST_PAYLOAD_BYTES``, :class:`JournalError` if the journal is closed or failed. The future
        raises :class:`BatchConflict` and :class:`JournalUnwritable`.
        """
        size = memoryview(payload).nbytes
        if size > MOST_PAYLOAD_BYTES:
            raise ValueError(f"payload of {size} bytes, at most {MOST_PAYLOAD_BYTES} are stored")
        text = ""
        if batch_id is not None:
            if digest is None:
                digest = hashlib.sha256(payload).digest()
            text = digest.hex() if isinstance(digest, bytes) else digest
        future: Future[Appended] = Future()
        received_at = received_at or time.time_ns() // 1000
        entry = Entry(payload, size, kind, rows, batch_id, text, received_at, future)
        with self._lock:
            self._refuse_unusable()
            self._backlog.admit(size, rows)
            self._queue.append(entry)
            self._work.notify()
        return future

    def _refuse_unusable(self) -> None:
        if self._closing:
            raise JournalError(f"{self.path}: the journal is closed")
        if self._failure is not None:
            raise JournalUnwritable(self._failure, permanent=True)

    def _run(self) -> None:
        try:
            while True:
                group = self._next_group()
                if group is None:
                    break
                if group:
                    self._store(group)
                    self._checkpointer.written(sum(entry.size for entry in group))
                if written := self._housekeeping.step():
                    self._checkpointer.written(written)
            if self.failure is None:
                self._housekeeping.finish()
        except BaseException as error:
            self._fail(f"{self.path}: the journal's writer ended: {error!r}")
            raise

    def _next_group(self) -> list[Entry] | None:
        """Return what to store next; empty if there is only upkeep to do; None to end."""
        with self._lock:
            while not self._queue:
                if self._closing or self._failure is not None:
                    return None
                pause = self._housekeeping.pause()
                if pause == 0.0:
                    return []
                self._work.wait(pause)
            group: list[Entry] = []
            size = 0
            while self._queue and len(group) < MOST_GROUP:
                entry = self._queue[0]
                if group and size + entry.size > MOST_GROUP_BYTES:
                    break
                self._queue.popleft()
                if entry.future.set_running_or_notify_cancel():
                    group.append(entry)
                    size += entry.size
                else:
                    self._backlog.release(entry.size, entry.rows)
            return group

    def _store(self, group: list[Entry]) -> None:
        try:
            answers = write_group(self._writer, group, self._last)
        except (sqlite3.Error, MemoryError, ValueError, OverflowError) as error:
            failure = roll_back(self._writer, self.path, error)
            with self._lock:
                for entry in group:
                    self._backlog.release(entry.size, entry.rows)
            for entry in group:
                entry.future.set_exception(failure)
            if failure.permanent:
                self._fail(str(failure))
            return
        with self._lock:
            for entry, answer in zip(group, answers, strict=True):
                if isinstance(answer, Appended) and not answer.repeated:
                    self._backlog.stored(answer.offset, entry.size, entry.rows)
                    self._last = answer.offset
                    self._housekeeping.appended(entry.size)
                else:
                    self._backlog.release(entry.size, entry.rows)
            self._durable.notify_all()
        for entry, answer in zip(group, answers, strict=True):
            if isinstance(answer, Appended):
                entry.future.set_result(answer)
            else:
                entry.future.set_exception(answer)

    def _fail(self, why: str) -> None:
        with self._lock:
            self._failure = why
            left = list(self._queue)
            self._queue.clear()
            for entry in left:
                self._backlog.release(entry.size, entry.rows)
            self._durable.notify_all()
        for entry in left:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(JournalUnwritable(why, permanent=True))

    # -- reading

    def read(self, after: int, most_bytes: int = 32 << 20) -> list[Record]:
        """Return records after offset ``after``, in order: about ``most_bytes``, one at least.

        Empty if there are none. Raises :class:`JournalError` if some of them were trimmed already,
        or the file cannot be read.
        """
        with self._lock:
            if after < self._trimmed:
                raise JournalError(
                    f"{self.path}: records up to {self._trimmed} were forgotten, asked for what is "
                    f"after {after}"
                )
            through = self._last
            connection = self._readers.pop() if self._readers else None
        if after >= through:
            records: list[Record] = []
            connection = connection or connect(self.path)
        else:
            try:
                connection = connection or connect(self.path)
                records = read_records(connection, after, through, most_bytes)
            except sqlite3.Error as error:
                if connection is not None:
                    connection.close()
                raise JournalError(f"{self.path}: cannot be read: {error}") from error
        with self._lock:
            if not self._closing:
                self._readers.append(connection)
                return records
        connection.close()
        return records

    def wait(self, after: int, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a durable record after ``after``; say if there is one.

        Returns early when the journal is closed or fails.
        """
        with self._lock:
            self._durable.wait_for(
                lambda: self._last > after or self._closing or self._failure is not None, timeout
            )
            return self._last > after

    def taken(self, offset: int) -> None:
        """Say that the loop has the records up to ``offset``: they no longer count as waiting."""
        with self._lock:
            self._backlog.taken(offset)

    def trim(self, through: int) -> int:
        """Forget the records up to ``through`` and return how many; their batch ids stay.

        Returns at once; the space is freed bit by bit between commits. What is forgotten counts as
        taken. Raises ``ValueError`` beyond the last record.
        """
        with self._lock:
            if self._closing:
                raise JournalError(f"{self.path}: the journal is closed")
            if through > self._last:
                raise ValueError(f"cannot forget up to {through}: the last record is {self._last}")
            count = max(through - self._trimmed, 0)
            if count:
                self._backlog.taken(through)
                self._trimmed = through
                self._housekeeping.trim_to(through)
                self._work.notify()
            return count

    # -- state

    @property
    def first_offset(self) -> int:
        """Offset of the first record that is kept, or of the next one if none is."""
        with self._lock:
            return self._trimmed + 1

    @property
    def last_offset(self) -> int:
        """Offset of the last durable record; 0 before the first."""
        with self._lock:
            return self._last

    @property
    def waiting_rows(self) -> int:
        """Rows that were let in and not yet taken."""
        with self._lock:
            return self._backlog.waiting_rows

    @property
    def waiting_bytes(self) -> int:
        """Bytes of payload that were let in and not yet taken."""
        with self._lock:
            return self._backlog.waiting_bytes

    @property
    def failure(self) -> str | None:
        """Why the journal takes no more records until it is opened anew; None while it does."""
        with self._lock:
            return self._failure

    def close(self) -> None:
        """Store what was let in, stop the threads and let go of the file. Safe to call twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._work.notify()
            self._durable.notify_all()
        self._thread.join()
        self._checkpointer.close()
        with self._lock:
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()
        self._writer.close()  # the last connection copies the WAL into the file
        self._file_lock.release()
