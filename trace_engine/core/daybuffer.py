"""Events held back until their day may be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trace_engine.events.batch import DAY, EventBatch

SLICE_ROWS = 200_000  # a slice takes whole days until it has about as many rows


class DayBuffer:
    """Batches of events, each in time order, from which whole days are taken."""

    def __init__(self) -> None:
        # What waits, and what was taken until the next is asked for. Replaced as one, so that who
        # reads along sees each event in one of the two.
        self.held: tuple[list[EventBatch], list[EventBatch]] = ([], [])

    @property
    def pieces(self) -> list[EventBatch]:
        """Batches that wait."""
        return self.held[0]

    @pieces.setter
    def pieces(self, pieces: list[EventBatch]) -> None:
        self.held = (pieces, self.held[1])

    def __len__(self) -> int:
        return sum(len(p) for p in self.pieces)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(p.nbytes for p in self.pieces)

    def add(self, batch: EventBatch) -> None:
        """Hold ``batch`` back, put in order of time if it is not."""
        if len(batch) == 0:
            return
        if (batch.time[1:] < batch.time[:-1]).any():
            batch = batch.take(np.argsort(batch.time, kind="stable"))
        self.pieces.append(batch)

    def join(self, small: int) -> None:
        """Make one batch of all that have fewer than ``small`` rows.

        They stay in the order in which they came, among events of one moment.
        """
        few = [p for p in self.pieces if len(p) < small]
        if len(few) > 1:
            joined = EventBatch.concat(few)
            if (joined.time[1:] < joined.time[:-1]).any():
                joined = joined.take(np.argsort(joined.time, kind="stable"))
            joined.strings = joined.strings.combine_chunks()
            self.pieces = [*(p for p in self.pieces if len(p) >= small), joined]

    def first_day(self) -> int | None:
        """Return the earliest day held, None if empty."""
        return min((int(p.time[0]) // DAY for p in self.pieces), default=None)

    def last_day(self) -> int | None:
        """Return the latest day held, None if empty."""
        return max((int(p.time[-1]) // DAY for p in self.pieces), default=None)

    def take_days(
        self, before: int, segment: Callable[[int], int]
    ) -> Iterator[tuple[int, int, EventBatch]]:
        """Yield (first day, last day, events in time order) of all whole days before ``before``.

        A slice ends where ``segment`` of its days changes, or when it has enough rows. Days without
        events are not yielded.
        """
        while True:
            self.held = (self.pieces, [])
            first = self.first_day()
            if first is None or first >= before:
                return
            stop = first + 1
            rows = self._rows_before(stop)
            while stop < before and segment(stop) == segment(first):
                more = self._rows_before(stop + 1)
                if more > SLICE_ROWS:
                    break
                rows, stop = more, stop + 1
                if rows == len(self):
                    break
            batch = self._take_before(stop)
            yield first, min(stop, int(batch.time[-1]) // DAY + 1) - 1, batch

    def _rows_before(self, day: int) -> int:
        return sum(int(np.searchsorted(p.time, day * DAY)) for p in self.pieces)

    def _take_before(self, day: int) -> EventBatch:
        taken: list[EventBatch] = []
        left: list[EventBatch] = []
        for piece in self.pieces:
            cut = int(np.searchsorted(piece.time, day * DAY))
            if cut == len(piece):
                taken.append(piece)
            elif cut == 0:
                left.append(piece)
            else:
                taken.append(piece.slice(0, cut))
                left.append(piece.slice(cut, len(piece)))
        self.held = (left, taken)
        batch = EventBatch.concat(taken)
        if len(taken) > 1 and (batch.time[1:] < batch.time[:-1]).any():
            batch = batch.take(np.argsort(batch.time, kind="stable"))
        return batch
