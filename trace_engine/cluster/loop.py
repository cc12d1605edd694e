"""``run_shard``: pull records, feed a shard, hand its findings on, keep its state. One loop.

Pull, never push: the loop asks for what comes after the last record it took, so a record is taken
once and in order, whatever happened to the process before. What leaves the loop carries the offset
of the record that caused it; a sink that has seen an offset before takes nothing twice. The state
and the offset up to which it holds are saved in one step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from trace_engine.cluster.shard import Closed, Shard
from trace_engine.events.encode import Encoded
from trace_engine.store.journal import ADVANCE, Record

_logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5  # how long the loop waits for a record before it looks at the clock
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # s between tries to hand findings on
SAVE_PAUSE = 30.0  # s between tries to save the state
ROOM_PAUSE = 5.0  # s between tries to write to a full disk


class Source(Protocol):
    """Records in order of offset (``store.journal.Journal``)."""

    def read(self, after: int) -> list[Record]:
        """Return records after an offset, in order."""
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Wait for a record after an offset; say if there is one."""
        ...

    def taken(self, offset: int) -> None:
        """Hear up to where records were taken."""
        ...


class Sink(Protocol):
    """Where findings and rejects of a shard go. Safe to call again with the same offset."""

    def accept(self, offset: int, closed: Closed | None, rejects: pa.Table) -> None:
        """Keep what the record at ``offset`` brought. Raises if it could not be kept."""
        ...

    def took(self, offset: int, late: int) -> None:
        """Hear that the record was taken, with ``late`` events of days closed before."""
        ...


@dataclass(frozen=True)
class Pace:
    """When the state is saved: after so much time or so many rows, whichever comes first."""

    seconds: float = 300.0
    rows: int = 20_000_000


class ShardLoop:
    """Runs a shard until it is told to stop.

    ``decode`` turns a record of events into what the door made of it; ``save`` writes the state as
    of an offset. Both are called from the thread that calls :meth:`run`.
    """

    def __init__(
        self,
        source: Source,
        shard: Shard,
        sink: Sink,
        decode: Callable[[Record], Encoded],
        save: Callable[[int], None],
        *,
        after: int = 0,
        pace: Pace | None = None,
    ) -> None:
        self.source = source
        self.shard = shard
        self.sink = sink
        self.decode = decode
        self.save = save
        self.pace = pace or Pace()
        self.taken_offset = after
        self.saved_offset = after
        self.saved_rows = shard.rows
        self.saved_at = time.monotonic()
        self.started = threading.Event()  # :meth:`run` has asked for records
        self.problem: str | None = None  # why nothing goes on at the moment
        self.save_problem: str | None = None  # why the state could not be saved the last time
        self._save_again = 0.0
        self._stop = threading.Event()
        self._save_now = threading.Event()
        self._saved = threading.Condition()

    def stop(self) -> None:
        """Ask the loop to end after the record it is at."""
        self._stop.set()

    def run(self) -> None:
        """Take records until :meth:`stop`. Raises whatever the engine or the source raises.

        A state that cannot be saved is tried again later: nothing is lost by it, as the source
        keeps what came after the last one.
        """
        while not self._stop.is_set():
            records = self.source.read(self.taken_offset)
            self.started.set()
            if not records:
                self._idle()
            for record in records:
                self._take(record)
                if self._stop.is_set():
                    break
            self._save_if_due()

    def _idle(self) -> None:
        begun = time.monotonic()
        if self.source.wait(self.taken_offset, IDLE_SECONDS):
            return
        left = IDLE_SECONDS - (time.monotonic() - begun)
        if left > IDLE_SECONDS / 2:  # a source that failed does not wait
            self._stop.wait(left)

    def _take(self, record: Record) -> None:
        shard, engine = self.shard, self.shard.engine
        late = 0
        if record.kind == ADVANCE:
            closed = shard.advance(int(record.payload))
        else:
            encoded = self.decode(record)
            late = shard.late_rows(encoded.batch)
            closed = shard.take(encoded, record.received_at)
        rejects = engine.reject_table
        if closed is not None or rejects.num_rows:
            self._hand_on(record.offset, closed, rejects)
        engine.forget_output()
        self.taken_offset = record.offset
        self.source.taken(record.offset)
        self.sink.took(record.offset, late)

    def _hand_on(self, offset: int, closed: Closed | None, rejects: pa.Table) -> None:
        """Give what was found to the sink, again and again: it must not be lost."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.sink.accept(offset, closed, rejects)
                self.problem = None
                return
            except Exception as error:  # whatever it is, the findings must get out
                self.problem = f"findings cannot be stored: {type(error).__name__}"
                _logger.exception(
                    "findings of record %d cannot be stored; next try in %.1f s", offset, pause
                )
                if self._stop.wait(pause):
                    raise
                pause = min(2 * pause, LONGEST_PAUSE)

    def wait_for_room(self, error: OSError) -> None:
        """Pause after a write in the middle of a day that ended with ``error``, a full disk.

        The engine cannot go back to before that day, so the write is tried again. Raises ``error``
        when the loop shall end.
        """
        if self.problem is None:
            _logger.error("%s; waiting for room", error)
        self.problem = "the disk is full"
        if self._stop.wait(ROOM_PAUSE):
            raise error

    def found_room(self) -> None:
        """Hear that the write succeeded."""
        self.problem = None
        _logger.warning("there is room again; going on")

    # ---- state ---------------------------------------------------------------------------------

    def save_now(self, timeout: float) -> int:
        """Have the state saved and return its offset; raises ``TimeoutError``."""
        with self._saved:
            wanted = self.taken_offset
            self._save_now.set()
            if not self._saved.wait_for(lambda: self.saved_offset >= wanted, timeout):
                raise TimeoutError("the state was not saved in time")
            return self.saved_offset

    def save_state(self) -> None:
        """Save the state as of the last record taken, if it is not saved yet."""
        self._save_now.clear()
        if self.taken_offset > self.saved_offset:
            self.save(self.taken_offset)
        with self._saved:
            self.saved_offset = self.taken_offset
            self.saved_rows = self.shard.rows
            self.saved_at = time.monotonic()
            self._saved.notify_all()

    def _save_if_due(self) -> None:
        old = time.monotonic() - self.saved_at >= self.pace.seconds
        many = self.shard.rows - self.saved_rows >= self.pace.rows
        asked = self._save_now.is_set()
        if asked or ((old or many) and time.monotonic() >= self._save_again):
            try:
                self.save_state()
                self.save_problem = None
            except Exception as error:  # such as a full disk
                self._save_again = time.monotonic() + SAVE_PAUSE
                self.save_problem = f"the state cannot be saved: {type(error).__name__}"
                _logger.exception("the state cannot be saved; next try in %g s", SAVE_PAUSE)
