"""The engine behind the service: its stores, its loop, and how it is.

One process, few threads. Requests put records into the journal; the loop thread takes them in order,
judges the days that close and stores what was found; a third thread renews the ranking. What callers
may ask of it stands in :mod:`trace_engine.service.questions`.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trace_engine.cluster.loop import Pace, ShardLoop
from trace_engine.cluster.shard import Closed, Shard
from trace_engine.core.kernel import is_warm
from trace_engine.engine import Engine
from trace_engine.events.encode import Encoded
from trace_engine.policy import Policy
from trace_engine.readers.payload import replay
from trace_engine.registry import Registry
from trace_engine.service.handover import HandedOver, Handover, Outcomes, Taken
from trace_engine.service.questions import EPOCH, Questions, date_of
from trace_engine.service.stores import Stores
from trace_engine.service.turns import Room
from trace_engine.store.checkpoint import read_vocabulary
from trace_engine.store.checkpoints import Checkpoint
from trace_engine.store.finding_tally import FindingTally
from trace_engine.store.journal import ADVANCE, Appended, JournalError, Record
from trace_engine.warmup import compile_kernels

if TYPE_CHECKING:
    from trace_engine.service.settings import ServiceSettings

_logger = logging.getLogger(__name__)

NICENESS = 10  # of the engine's thread; those it starts have the same


@dataclass(frozen=True)
class HostStatus:
    """How the engine is. Days are of the Shanghai calendar; ``None`` before there are any."""

    ready: bool
    replaying: bool
    error: str | None
    problem: str | None
    last_offset: int
    taken_offset: int
    checkpoint_offset: int
    checkpoint_at: float | None
    checkpoint_seconds: float | None
    watermark: dt.date | None
    closed_through: dt.date | None
    counts: dict[str, int]
    pending_events: int
    live_codes: int
    archived_codes: int
    state_bytes: int
    findings: int
    waiting_rows: int
    waiting_bytes: int
    started_at: float


class EngineHost(Questions):
    """Runs the engine for the service. Thread-safe; see the module's docstring.

    Make one with :meth:`open`, then :meth:`start` it.
    """

    def __init__(
        self,
        engine: Engine,
        stores: Stores,
        settings: ServiceSettings,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        super().__init__(
            engine, Shard(engine, settings.lateness_days, settings.future_days), stores
        )
        self.settings = settings
        self.encoder = engine.encoder
        self.journal = stores.journal
        self.database = stores.database
        after = stores.restore(checkpoint, engine, self.shard)
        self._handover = Handover(after, self.journal.last_offset)
        self._outcomes = Outcomes(after)
        self.loop = ShardLoop(
            HandedOver(self.journal, self._handover),
            self.shard,
            self,
            self._decoded,
            self._save,
            after=after,
            pace=Pace(settings.checkpoint_seconds, settings.checkpoint_rows),
        )
        stores.wait_for_room(Room(self.loop, self.turns))
        self.journal.taken(after)
        self._replay_to = self.journal.last_offset
        self._listeners: list[Callable[[list[int]], None]] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._checkpoint_at: float | None = stores.checkpoint_time
        self._checkpoint_seconds: float | None = None
        self.after_save: Callable[[], None] | None = None  # called in the loop's thread
        self.tally = FindingTally(self.findings)
        self.started_at = time.time()
        self.failed = threading.Event()
        self.error: str | None = None

    @classmethod
    def open(cls, settings: ServiceSettings) -> EngineHost:
        """Open the stores, load the last state and return the host, not yet started.

        Raises ``RegistryError``, ``PolicyError``, ``JournalError``, ``DatabaseError`` and
        ``CheckpointError``, each with one line.
        """
        registry = Registry.load(settings.registry)
        policy = Policy.load(settings.policy)
        stores = Stores.open(settings)
        try:
            checkpoint = stores.latest()
            engine = Engine(
                registry,
                policy,
                threads=settings.threads,
                lateness_days=None,
                log=stores.log,
                keep_hits=False,
                hits_at_once=0,
                hash_key=stores.hash_key,
                close_after_days=settings.close_after_days,
                archive=stores.archive,
                vocabulary=None if checkpoint is None else read_vocabulary(checkpoint.folder),
            )
            engine.files = ["journal"]
            host = cls(engine, stores, settings, checkpoint)
            if checkpoint is None and host.journal.last_offset == 0:
                host._save(0)  # says by which registry, policy and rules the first records go
            return host
        except BaseException:
            stores.close()
            raise

    # ---- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop and the ranking; the host is ready when the journal is replayed."""
        threads = (
            (self._run, "engine"),
            (partial(self._rank_until, self._stop), "ranking"),
            (partial(self._index_until, self._stop), "index of held events"),
        )
        for target, name in threads:
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self, timeout: float = 60.0) -> None:
        """Take what is in the journal, save the state, close the stores.

        Records not taken in half of ``timeout`` (s) stay in the journal for the next start.
        """
        deadline = time.monotonic() + timeout
        if self._threads and self.loop.started.is_set():
            self.wait_taken(self.journal.last_offset, timeout / 2)
        self._stop.set()
        self.loop.stop()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            # What is in the journal is safe: the next start takes it from there.
            _logger.warning("the engine did not stop in time; its state was not saved")
        elif self._threads and self.error is None:
            try:
                self.loop.save_state()
            except Exception:  # the next start takes it from the journal
                _logger.exception("the state could not be saved")
        self.stores.close()

    def _run(self) -> None:
        # Requests first: on Linux a thread has a priority of its own. Measured on two processors,
        # the 99th percentile of requests fell from 58 ms to 26 ms (niceness 5) and 18 ms (19); with
        # 10 as many events were judged under full load as with 0, with 19 only half.
        with suppress(OSError):  # a sandbox may deny it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            if not is_warm():
                compile_kernels()
            self.loop.run()
        except BaseException as error:
            self.error = f"the engine stopped: {type(error).__name__}"
            if isinstance(error, OSError) and self._stop.is_set():
                _logger.warning("stopped while it waited; the next start goes on from the journal")
            else:
                _logger.critical("the engine stopped", exc_info=True)
            self.failed.set()
            self.turns.go_on()  # whatever it waited for when it ended
            self._outcomes.fail()
            if not isinstance(error, Exception):
                raise

    # ---- what the loop calls -------------------------------------------------------------------

    def _decoded(self, record: Record) -> Encoded:
        encoded = self._handover.take(record.offset)
        return encoded if encoded is not None else replay(record.payload, self.encoder)

    def accept(self, offset: int, closed: Closed | None, rejects: pa.Table) -> None:
        """Store what a record brought (see ``cluster.loop.Sink``)."""
        if rejects.num_rows:
            self.stores.rejects.add(rejects, offset)
        if closed is None or closed.findings.num_rows == 0:
            return
        numbers = self.findings.add(closed.findings, offset, closed.late)
        self._outcomes.found(offset, closed.findings["finding_id"].to_pylist())
        if numbers:
            for listener in list(self._listeners):
                try:
                    listener(numbers)
                except Exception:  # what was found is stored; who listens must not stop the loop
                    _logger.exception("a listener failed")
            self.tally.update()  # last: were it to fail, the next try would find nothing new to tell

    def took(self, offset: int, late: int) -> None:
        """Answer those who wait for a record (see ``cluster.loop.Sink``)."""
        self._outcomes.took(offset, late)

    def _save(self, offset: int) -> None:
        start = time.monotonic()
        forgotten = self.stores.save(self.engine, offset, self.shard.values())
        self._checkpoint_seconds = time.monotonic() - start
        self._checkpoint_at = time.time()
        self.journal.trim(forgotten)
        if self.after_save is not None:
            self.after_save()

    # ---- events in -----------------------------------------------------------------------------

    def submit(
        self,
        encoded: Encoded,
        payload: bytes,
        *,
        batch_id: str | None = None,
        digest: str | None = None,
    ) -> Future[Appended]:
        """Put a record into the journal; the future is done when it is on disk.

        Raises ``JournalFull``; the future may raise ``BatchConflict`` and ``JournalError``.
        """
        return self._append(
            encoded, payload, rows=encoded.rows_in, batch_id=batch_id, digest=digest
        )

    def _append(self, encoded: Encoded, payload: bytes, **options: Any) -> Future[Appended]:
        received_at = time.time_ns() // 1000
        self._handover.begin()
        try:
            future = self.journal.append(payload, received_at=received_at, **options)
        except JournalError as error:
            self._handover.end(None, encoded)
            refused: Future[Appended] = Future()
            refused.set_exception(error)
            return refused
        except BaseException:
            self._handover.end(None, encoded)
            raise

        def done(future: Future[Appended]) -> None:
            known = future.cancelled() or future.exception() is not None
            offset = None if known or future.result().repeated else future.result().offset
            self._handover.end(offset, encoded, received_at)

        future.add_done_callback(done)
        return future

    def wait_taken(self, offset: int, timeout: float) -> Taken | None:
        """Wait until the record at ``offset`` was taken; None if it was not in ``timeout`` s.

        Of records taken long ago nothing is remembered: they are answered without findings.
        """
        return self._outcomes.wait(offset, timeout)

    def when_taken(self, offset: int) -> Future[Taken]:
        """Return a future of what :meth:`wait_taken` waits for."""
        return self._outcomes.future(offset)

    def advance(self, day: dt.date) -> Future[Appended]:
        """Put the order into the journal to close all days up to and with ``day``."""
        before = (day - EPOCH).days + 1
        return self.journal.append(
            str(before).encode(), kind=ADVANCE, received_at=time.time_ns() // 1000
        )

    def listen(self, callback: Callable[[list[int]], None]) -> Callable[[], None]:
        """Have ``callback`` called with the numbers of findings just stored, in the loop's thread.

        Returns what ends it.
        """
        self._listeners.append(callback)

        def end() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return end

    # ---- how it is -----------------------------------------------------------------------------

    def status(self) -> HostStatus:
        """Return how the engine is, without waiting for it."""
        engine, loop, shard = self.engine, self.loop, self.shard
        archive = engine.shards.archive
        running = bool(self._threads) and self.error is None and not self._stop.is_set()
        replaying = running and loop.taken_offset < self._replay_to
        ready = running and not replaying and loop.started.is_set()
        return HostStatus(
            ready=ready,
            replaying=running and not ready,
            error=self.error,
            problem=loop.problem or loop.save_problem,
            last_offset=self.journal.last_offset,
            taken_offset=loop.taken_offset,
            checkpoint_offset=loop.saved_offset,
            checkpoint_at=self._checkpoint_at,
            checkpoint_seconds=self._checkpoint_seconds,
            watermark=date_of(shard.latest_day),
            closed_through=date_of(shard.closed_through),
            counts=dict(engine.counts),
            pending_events=sum(map(len, list(engine.buffer.pieces))),
            live_codes=len(engine.shards),
            archived_codes=0 if archive is None else len(archive),
            state_bytes=engine.shards.nbytes + engine.identity.nbytes + engine.multigraph.nbytes,
            findings=self.tally.count,
            waiting_rows=self.journal.waiting_rows,
            waiting_bytes=self.journal.waiting_bytes,
            started_at=self.started_at,
        )

    def checkpoint_now(self, timeout: float = 600.0) -> int:
        """Have the state saved and return its offset. Raises ``TimeoutError``."""
        return self.loop.save_now(timeout)
