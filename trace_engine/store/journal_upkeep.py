"""Upkeep of the journal: copying the WAL into the file, trimming, giving space back.

All of it in small steps, so that no commit waits long for it. None of it may fail an append: what
goes wrong here is logged and tried again later.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trace_engine.store.journal_file import PAGE_BYTES, connect

_log = logging.getLogger(__name__)

# The WAL is copied into the file when so much was written, or after so long. Beyond the third
# figure the writer itself copies what is left, so that the WAL begins anew under a load without
# pauses (it can only do so when nothing was written since the last copy).
CHECKPOINT_BYTES = 8 << 20
CHECKPOINT_SECONDS = 1.0
LONG_WAL_BYTES = 64 << 20
LONG_WAL_SECONDS = 0.05
TRIM_STEP_BYTES = 4 << 20
VACUUM_STEP_PAGES = 64
SPACE_CHECK_SECONDS = 600.0
BATCH_STEP = 500
BATCH_CHECK_SECONDS = 3600.0
AFTER_TROUBLE_SECONDS = 5.0
TELL_SECONDS = 60.0  # between notes on the same trouble
ROW_OVERHEAD_BYTES = 2 * PAGE_BYTES  # pages of the trees that a transaction touches besides


class Checkpointer:
    """A thread that copies the WAL into the file, on a connection of its own."""

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        self._writer = writer
        self._connection = connect(path, write=True)
        self._uncopied = 0
        self._copied_at = time.monotonic()
        self._long = False
        self._tried_at = 0.0
        self._told_at, self._told = 0.0, ""
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal-checkpoint", daemon=True)
        self._thread.start()

    def written(self, size: int) -> None:
        """Told by the writer after a transaction of ``size`` bytes, outside of any."""
        self._uncopied += size + ROW_OVERHEAD_BYTES
        now = time.monotonic()
        if self._long and now >= self._tried_at + LONG_WAL_SECONDS:
            self._tried_at = now
            self._long = not self._copy(self._writer)
        elif self._uncopied >= CHECKPOINT_BYTES or now >= self._copied_at + CHECKPOINT_SECONDS:
            self._wanted.set()

    def _run(self) -> None:
        while True:
            # Nobody calls after the last record of a burst, so look from time to time.
            asked = self._wanted.wait(CHECKPOINT_SECONDS)
            if self._closing:
                return
            if asked or self._uncopied:
                self._wanted.clear()
                self._uncopied = 0
                self._copied_at = time.monotonic()
                self._copy(self._connection)

    def _copy(self, connection: sqlite3.Connection) -> bool:
        """Copy what no reader still needs; return whether all of the WAL is in the file."""
        try:
            busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            now = time.monotonic()
            if str(error) != self._told or now >= self._told_at + TELL_SECONDS:
                self._told_at, self._told = now, str(error)
                _log.warning("journal: the WAL could not be copied into the file: %s", error)
            return False
        if pages * PAGE_BYTES >= LONG_WAL_BYTES:
            self._long = True
        return not busy and pages == copied

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wanted.set()
        self._thread.join()
        self._connection.close()


class Housekeeping:
    """Deletes what was trimmed and old ids of batches, and gives unused pages back.

    Used by the writer between transactions, but for :meth:`trim_to`.
    """

    def __init__(
        self, writer: sqlite3.Connection, trimmed: int, batch_seconds: float, spare_bytes: int
    ) -> None:
        self._writer = writer
        self._trimmed = self._trim_to = self._noted = trimmed
        oldest = writer.execute("SELECT min(number) FROM record").fetchone()[0]
        if oldest is not None:
            self._trimmed = min(trimmed, oldest - 1)  # what a stop left undeleted
        self._batch_seconds = batch_seconds
        self._spare_bytes = spare_bytes
        self._surplus = 0  # pages to give back
        self._appended = 0
        self._space_due = 0.0
        self._batches_due = 0.0
        self._resume = 0.0  # after trouble

    def trim_to(self, through: int) -> None:
        """Have the records up to ``through`` deleted."""
        self._trim_to = through
        self._space_due = min(self._space_due, time.monotonic() + SPACE_CHECK_SECONDS)

    def appended(self, size: int) -> None:
        """Told by the writer how much it stored: as much free space is likely needed again."""
        self._appended += size

    def pause(self) -> float:
        """Return for how many seconds nothing is to do; 0 if something is."""
        now = time.monotonic()
        due = min(self._space_due, self._batches_due)
        if self._trimmed < self._trim_to or self._surplus:
            due = now
        return max(due, self._resume, now) - now

    def step(self) -> int:
        """Do one small piece of what is due; return about how many bytes were written."""
        now = time.monotonic()
        if self.pause() > 0.0:
            return 0
        try:
            if self._trimmed < self._trim_to:
                return self._delete_records()
            if self._surplus:
                return self._give_back()
            if self._batches_due <= now:
                return self._delete_batches(now)
            return self._find_surplus(now)
        except sqlite3.Error as error:
            _log.warning("journal: space could not be freed, trying again later: %s", error)
            self._resume = now + AFTER_TROUBLE_SECONDS
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            return 0

    @contextmanager
    def _lazily(self) -> Iterator[None]:
        """Do without fsync: what is tidied need not be on disk before the next record is."""
        self._writer.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._writer.execute("PRAGMA synchronous = FULL")

    def _delete_records(self) -> int:
        execute = self._writer.execute
        through, size = self._trimmed, 0
        for number, length in execute(
            "SELECT number, length(payload) FROM record WHERE number <= ? ORDER BY number LIMIT ?",
            (self._trim_to, 1024),
        ):
            through, size = number, size + length
            if size >= TRIM_STEP_BYTES:
                break
        with self._lazily():
            execute("BEGIN IMMEDIATE")
            execute("DELETE FROM record WHERE number <= ?", (through,))
            noted = self._note_trimmed()
            execute("COMMIT")
        self._trimmed = through
        self._noted = noted
        return PAGE_BYTES

    def _note_trimmed(self) -> int:
        through = self._trim_to
        self._writer.execute("UPDATE state SET value = ? WHERE name = 'trimmed'", (through,))
        return through

    def finish(self) -> None:
        """Note up to where records are forgotten; what is not deleted yet is after a restart."""
        if self._noted == self._trim_to:
            return
        try:
            self._note_trimmed()
        except sqlite3.Error as error:
            _log.warning("journal: records that were trimmed come back at the restart: %s", error)

    def _find_surplus(self, now: float) -> int:
        self._space_due = now + SPACE_CHECK_SECONDS
        free = int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])
        # What came in since the last look will come again until the next one.
        keep = max(self._spare_bytes, self._appended) // PAGE_BYTES
        self._appended = 0
        self._surplus = max(free - keep, 0)
        return 0

    def _give_back(self) -> int:
        pages = min(self._surplus, VACUUM_STEP_PAGES)
        with self._lazily():
            # As a script: execute() would stop after the first page.
            self._writer.executescript(f"PRAGMA incremental_vacuum({pages})")
        self._surplus -= pages
        return pages * PAGE_BYTES

    def _delete_batches(self, now: float) -> int:
        before = int(time.time() - self._batch_seconds)
        deleted = self._writer.execute(
            "DELETE FROM batch WHERE batch_id IN "
            "(SELECT batch_id FROM batch WHERE seen_at < ? ORDER BY seen_at LIMIT ?)",
            (before, BATCH_STEP),
        ).rowcount
        if deleted < BATCH_STEP:
            self._batches_due = now + BATCH_CHECK_SECONDS
        return deleted * PAGE_BYTES
