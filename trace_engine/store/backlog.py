"""Back-pressure of the journal: what waits for the loop, and when to come again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# Over how long the rate is taken at which records leave. Closing a day may hold the loop for tens
# of seconds, so a shorter window would see nothing leave, or everything.
RATE_SECONDS = 60.0
SHORTEST_RETRY = 0.1
LONGEST_RETRY = 60.0


class JournalFull(Exception):  # noqa: N818 - says what is the case
    """Too much waits for the engine already: nothing was stored, the caller may come again.

    ``retry_after`` is in seconds: how long it should take, at the rate at which records were taken
    lately, until there is room for what was refused.
    """

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Backlog:
    """Counts bytes and rows that were let in and not yet taken. Not locked: its user does that."""

    def __init__(
        self, most_bytes: int, most_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.waiting_bytes = 0
        self.waiting_rows = 0
        self._most_bytes = most_bytes
        self._most_rows = most_rows
        self._clock = clock
        self._stored: deque[tuple[int, int, int]] = deque()  # offset, bytes, rows
        self._taken_bytes = 0
        self._taken_rows = 0
        self._samples: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def admit(self, size: int, rows: int) -> None:
        """Count a record of ``size`` bytes in; raise :class:`JournalFull` if there is no room.

        A record bigger than the limit is let in when nothing else waits, or it never could be.
        """
        over_bytes = self.waiting_bytes + size - self._most_bytes
        over_rows = self.waiting_rows + rows - self._most_rows
        waits = self.waiting_bytes > 0 or self.waiting_rows > 0
        if waits and (over_bytes > 0 or over_rows > 0):
            raise JournalFull(
                f"{self.waiting_rows} rows ({self.waiting_bytes} bytes) wait for the engine; "
                f"at most {self._most_rows} rows and {self._most_bytes} bytes may",
                self._seconds_until_room(max(over_bytes, 0), max(over_rows, 0)),
            )
        self.waiting_bytes += size
        self.waiting_rows += rows

    def release(self, size: int, rows: int) -> None:
        """Count a record out that was let in but not stored."""
        self.waiting_bytes -= size
        self.waiting_rows -= rows

    def stored(self, offset: int, size: int, rows: int) -> None:
        """Remember under which offset a record was stored that was let in. Offsets rise."""
        self._stored.append((offset, size, rows))

    def restore(self, offset: int, size: int, rows: int) -> None:
        """Count a record in that was found on opening, whatever the limits say."""
        self.waiting_bytes += size
        self.waiting_rows += rows
        self._stored.append((offset, size, rows))

    def taken(self, offset: int) -> None:
        """Count all records up to ``offset`` out."""
        while self._stored and self._stored[0][0] <= offset:
            _, size, rows = self._stored.popleft()
            self.release(size, rows)
            self._taken_bytes += size
            self._taken_rows += rows
        now = self._clock()
        self._samples.append((now, self._taken_bytes, self._taken_rows))
        self._forget_samples(now)

    def _forget_samples(self, now: float) -> None:
        # One sample older than the window stays: the rate is measured from it.
        while len(self._samples) > 1 and self._samples[1][0] < now - RATE_SECONDS:
            self._samples.popleft()

    def _seconds_until_room(self, over_bytes: int, over_rows: int) -> float:
        now = self._clock()
        self._forget_samples(now)
        since, bytes_then, rows_then = self._samples[0]
        elapsed = max(now - since, 1e-6)
        seconds = SHORTEST_RETRY
        for over, gone in (
            (over_bytes, self._taken_bytes - bytes_then),
            (over_rows, self._taken_rows - rows_then),
        ):
            if over > 0:
                seconds = max(seconds, over * elapsed / gone if gone else LONGEST_RETRY)
        return min(seconds, LONGEST_RETRY)
