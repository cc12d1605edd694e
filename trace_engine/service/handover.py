"""What passes between requests and the loop: decoded records there, outcomes back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from trace_engine.events.encode import Encoded
from trace_engine.store.journal import EVENTS, Journal, Record

DECODED_ROWS = 2_000_000  # rows kept as the door decoded them; the rest is read from the journal
REMEMBERED = 4096  # records whose outcome is kept for callers who wait
PATIENCE = 0.02  # s the loop waits for a record that is about to be handed over


class Handover:
    """Records as the door decoded them, on their way to the loop.

    It may lose some: they are read from the journal then. The loop has taken those up to ``after``;
    those up to ``stored`` were in the journal before.
    """

    def __init__(self, after: int, stored: int = 0, most_rows: int = DECODED_ROWS) -> None:
        self._through = after
        self._heard = max(after, stored)  # nothing up to here is still to come
        self._most_rows = most_rows
        self._rows = 0
        self._under_way = 0
        self._kept: dict[int, tuple[Encoded, int]] = {}
        self._changed = threading.Condition()

    def begin(self) -> None:
        """Hear that a record is about to be appended; :meth:`end` must follow."""
        with self._changed:
            self._under_way += 1

    def end(self, offset: int | None, encoded: Encoded, received_at: int = 0) -> None:
        """Take a record that is durable at ``offset``; None if it is not (or was there before).

        ``received_at`` (µs, UTC) is what the journal keeps of it.
        """
        with self._changed:
            self._under_way -= 1
            if offset is not None:
                self._heard = max(self._heard, offset)
            fits = self._rows + encoded.rows_in <= self._most_rows
            if offset is not None and offset > self._through and fits:
                self._kept[offset] = encoded, received_at
                self._rows += encoded.rows_in
            self._changed.notify_all()

    def ready(self, after: int) -> list[Record]:
        """Return the records that follow ``after`` without a hole, without what is in them.

        Each of them is kept until :meth:`take` asks for it.
        """
        found: list[Record] = []
        with self._changed:
            self._await(after + 1)
            while (kept := self._kept.get(after + 1 + len(found))) is not None:
                encoded, received_at = kept
                offset = after + 1 + len(found)
                found.append(Record(offset, EVENTS, received_at, encoded.rows_in, None, b""))
        return found

    def take(self, offset: int) -> Encoded | None:
        """Return the record at ``offset`` if it is here, or about to come. Offsets must rise."""
        with self._changed:
            self._await(offset)
            self._through = offset
            encoded, _ = self._kept.pop(offset, (None, 0))
            if encoded is not None:
                self._rows -= encoded.rows_in
            return encoded

    def _await(self, offset: int) -> None:
        # A commit wakes the loop a moment before its request hears of it.
        self._changed.wait_for(
            lambda: offset <= self._heard or self._under_way == 0, timeout=PATIENCE
        )


class HandedOver:
    """The journal as the loop's source, not read for records that were handed over."""

    def __init__(self, journal: Journal, handover: Handover) -> None:
        self._journal = journal
        self._handover = handover

    def read(self, after: int) -> list[Record]:
        """Return records after an offset, in order."""
        if self._journal.last_offset > after and (found := self._handover.ready(after)):
            return found
        return self._journal.read(after)

    def wait(self, after: int, timeout: float) -> bool:
        """Wait for a record after an offset; say if there is one."""
        return self._journal.wait(after, timeout)

    def taken(self, offset: int) -> None:
        """Hear up to where records were taken."""
        self._journal.taken(offset)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a record: ids of the findings that closing days with it raised."""

    findings: list[str]
    late: int


class Outcomes:
    """What became of the records taken last, for those who wait."""

    def __init__(self, after: int) -> None:
        self._through = after
        self._found: dict[int, list[str]] = {}
        self._taken: OrderedDict[int, Taken] = OrderedDict()
        self._waiting: dict[int, list[Future[Taken]]] = {}
        self._failed = False
        self._lock = threading.Lock()

    def found(self, offset: int, findings: list[str]) -> None:
        """Note the findings that the record raised, before it counts as taken."""
        with self._lock:
            self._found[offset] = findings

    def took(self, offset: int, late: int) -> None:
        """Note that the record was taken."""
        with self._lock:
            taken = Taken(self._found.pop(offset, []), late)
            self._through = offset
            if taken.findings or taken.late:
                self._taken[offset] = taken
                if len(self._taken) > REMEMBERED:
                    self._taken.popitem(last=False)
            waiting = self._waiting.pop(offset, ())
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(taken)

    def fail(self) -> None:
        """Let nobody wait any longer: no further record will be taken."""
        with self._lock:
            self._failed = True
            waiting = [future for some in self._waiting.values() for future in some]
            self._waiting.clear()
        for future in waiting:
            future.cancel()

    def future(self, offset: int) -> Future[Taken]:
        """Return a future of the outcome; cancelled if the loop fails before."""
        future: Future[Taken] = Future()
        with self._lock:
            if offset <= self._through:
                future.set_result(self._taken.get(offset, Taken([], 0)))
            elif self._failed:
                future.cancel()
            else:
                self._waiting.setdefault(offset, []).append(future)
        return future

    def wait(self, offset: int, timeout: float) -> Taken | None:
        """Return the outcome; None if it is not known within ``timeout`` s."""
        future = self.future(offset)
        try:
            return None if future.cancelled() else future.result(timeout)
        except (TimeoutError, CancelledError):
            self._forget(offset, future)
            return None

    def _forget(self, offset: int, future: Future[Taken]) -> None:
        with self._lock:
            some = self._waiting.get(offset, [])
            if future in some:
                some.remove(future)
            if not some:
                self._waiting.pop(offset, None)
