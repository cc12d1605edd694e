"""When codes that are done with leave the tables: so many days after their last event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trace_engine.core.returning import send_away

if TYPE_CHECKING:
    from trace_engine.core.shards import CodeShards, Runner

SHARE = 1 / 8  # of a shard's lines must be ready to go before its table is rewritten
LOOKS = 8  # times within the days awaited that lines are looked over


class Closing:
    """Archives codes that were sold or died and had no event for ``days`` days of the clock."""

    def __init__(self, days: int, share: float = SHARE) -> None:
        if days < 1:
            raise ValueError(f"codes can be closed after 1 day or more, not after {days}")
        self.days = days
        self.share = share
        # (last day judged, events in the log by then), ascending: what has a smaller number than a
        # day's was judged by that day.
        self.marks: list[tuple[int, int]] = []
        self.looked: int | None = None  # day of the last look

    def close(self, shards: CodeShards, day: int, events: int, run: Runner) -> int:
        """Note that ``events`` were judged by ``day``; archive what may go; return how many did."""
        if self.marks and self.marks[-1][0] >= day:
            self.marks[-1] = (self.marks[-1][0], events)
        else:
            self.marks.append((day, events))
        old = [mark for mark in self.marks if mark[0] <= day - self.days]
        if not old:
            return 0
        self.marks = self.marks[len(old) - 1 :]
        if self.looked is not None and day < self.looked + max(1, self.days // LOOKS):
            return 0
        self.looked = day
        return send_away(shards, old[-1][1], self.share, run)
