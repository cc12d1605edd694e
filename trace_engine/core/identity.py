"""One event once: duplicates and conflicting ids, by a table of the keys of recent events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel
from trace_engine.events.batch import COLUMN_TYPES, DAY, MISSING_TIME, EventBatch, Vocabulary
from trace_engine.events.encode import content_key_rows

NEW, SEEN_NOW, SEEN_BEFORE = 0, 1, 2
_BLOCK = 32
_LATE = 1 << 24  # days: added to the day of a late key while its slice is looked at

# What two rows must share to be one event: every column but the upload time and derived keys.
_CONTENT = [name for name in COLUMN_TYPES if name != "record_time"]


@kernel
def mark_seen(
    keys: npt.NDArray[np.uint64],
    time: npt.NDArray[np.int64],
    first_day: int,
    horizon: int,
    slots: npt.NDArray[np.uint64],
    days: npt.NDArray[np.int32],
    used: npt.NDArray[np.int64],
    seen: npt.NDArray[np.uint8],
) -> None:
    """Say of each key (never 0) whether it is new, seen in this slice, or on a day in reach.

    ``first_day`` is the first day that was open; rows before it are late. ``slots`` (0 = free) must
    have room; ``used[0]`` counts those taken.
    """
    mask = np.uint64(slots.shape[0] - 1)
    touched = np.uint64(0)
    late = 0
    n = keys.shape[0]
    for block in range(0, n, _BLOCK):
        stop = min(block + _BLOCK, n)
        for i in range(block, stop):  # ask for the slots first: the waits overlap
            touched ^= slots[mix(keys[i]) & mask]
        for i in range(block, stop):
            key = keys[i]
            day = time[i] // DAY
            slot = mix(key) & mask
            while slots[slot] != 0 and slots[slot] != key:
                slot = (slot + np.uint64(1)) & mask
            if slots[slot] != 0 and days[slot] >= first_day:
                seen[i] = SEEN_NOW
                continue
            if slots[slot] != 0 and day - days[slot] <= horizon:
                seen[i] = SEEN_BEFORE
                continue
            if slots[slot] == 0:
                slots[slot] = key
                used[0] += 1
            days[slot] = day
            seen[i] = NEW
            if day < first_day:
                days[slot] = day + _LATE  # or it would look as if it had come before
                late += 1
    i = 0
    while late > 0:
        if seen[i] == NEW and time[i] // DAY < first_day:
            slot = mix(keys[i]) & mask
            while slots[slot] != keys[i]:
                slot = (slot + np.uint64(1)) & mask
            days[slot] -= _LATE
            late -= 1
        i += 1
    used[1] = np.int64(touched & np.uint64(1))


@kernel
def move_recent(
    slots: npt.NDArray[np.uint64],
    days: npt.NDArray[np.int32],
    oldest: int,
    new_slots: npt.NDArray[np.uint64],
    new_days: npt.NDArray[np.int32],
) -> int:
    """Copy entries of day ``oldest`` or later to an empty table; return how many."""
    mask = np.uint64(new_slots.shape[0] - 1)
    moved = 0
    for k in range(slots.shape[0]):
        if slots[k] == 0 or days[k] < oldest:
            continue
        slot = mix(slots[k]) & mask
        while new_slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        new_slots[slot] = slots[k]
        new_days[slot] = days[k]
        moved += 1
    return moved


@dataclass(slots=True)
class Admission:
    """Which rows of a slice are events. Row numbers, ascending, of the slice."""

    kept: npt.NDArray[np.int64] | None  # None: all of them
    duplicates: npt.NDArray[np.int64]
    conflicts: npt.NDArray[np.int64]


class IdentityTable:
    """Keys of the events of the last days."""

    MAXIMUM_LOAD = 0.6

    def __init__(self) -> None:
        self.slots: npt.NDArray[np.uint64] = np.zeros(1 << 12, np.uint64)
        self.days: npt.NDArray[np.int32] = np.empty(1 << 12, np.int32)
        self.used = np.zeros(2, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.slots.nbytes + self.days.nbytes)

    def entries(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
        """Return keys and days in use."""
        taken = self.slots != 0
        return self.slots[taken], self.days[taken]

    def merge(self, other: IdentityTable) -> None:
        """Remember the keys of ``other`` too; of a key both know, the earlier day counts."""
        our_keys, our_days = self.entries()
        their_keys, their_days = other.entries()
        keys = np.concatenate([our_keys, their_keys])
        days = np.concatenate([our_days, their_days])
        order = np.lexsort((days, keys))
        keys, days = keys[order], days[order]
        first = np.ones(len(keys), np.bool_)
        first[1:] = keys[1:] != keys[:-1]
        self.replace(keys[first], days[first])

    def replace(self, keys: npt.NDArray[np.uint64], days: npt.NDArray[np.int32]) -> None:
        """Hold exactly these keys (different ones) and days."""
        size = 1 << 12
        while len(keys) > self.MAXIMUM_LOAD * size:
            size *= 2
        self.slots, self.days = np.zeros(size, np.uint64), np.empty(size, np.int32)
        kept = np.ascontiguousarray(keys, np.uint64), np.ascontiguousarray(days, np.int32)
        self.used[0] = move_recent(*kept, -(2**31), self.slots, self.days)

    def reserve(self, events: int, oldest_day: int) -> None:
        """Make room for ``events`` keys, forgetting days before ``oldest_day`` if it is tight."""
        if self.used[0] + events <= self.MAXIMUM_LOAD * len(self.slots):
            return
        kept = int(np.count_nonzero((self.slots != 0) & (self.days >= oldest_day)))
        size = len(self.slots)
        while (kept + events) > 0.75 * self.MAXIMUM_LOAD * size:
            size *= 2
        slots, days = np.zeros(size, np.uint64), np.empty(size, np.int32)
        self.used[0] = move_recent(self.slots, self.days, oldest_day, slots, days)
        self.slots, self.days = slots, days

    def admit(
        self, batch: EventBatch, first_day: int, horizon: int, vocabulary: Vocabulary
    ) -> Admission:
        """Sort the rows of a slice of whole days into events, duplicates and conflicts.

        ``first_day`` is the first day that was open: rows before it are late, and none of them is
        an event sent again (``core.retold``).

        Of rows with one key and equal content one is the event (that uploaded first); of rows with
        one key and unequal content the one with the smallest (time, content) is; a key used on an
        earlier day is a conflict.
        """
        n = len(batch)
        nothing = np.empty(0, np.int64)
        self.reserve(n, first_day - horizon)
        seen = np.empty(n, np.uint8)
        keys = np.where(batch.event_key == 0, np.uint64(1), batch.event_key)
        mark_seen(keys, batch.time, first_day, horizon, self.slots, self.days, self.used, seen)
        again = np.flatnonzero(seen)
        if len(again) == 0:
            return Admission(None, nothing, nothing)
        before = np.unique(keys[seen == SEEN_BEFORE])
        suspects = np.flatnonzero(np.isin(keys, np.unique(keys[again])))
        upload = np.where(
            batch.record_time[suspects] == MISSING_TIME,
            np.iinfo(np.int64).max,
            batch.record_time[suspects],
        )
        suspects = suspects[np.lexsort((upload, batch.time[suspects], keys[suspects]))]
        old = np.isin(keys[suspects], before)
        conflicts = [suspects[old]]
        suspects = suspects[~old]
        same_key = keys[suspects[1:]] == keys[suspects[:-1]]
        same = same_key.copy()
        for name in _CONTENT:
            column = getattr(batch, name)[suspects]
            same &= column[1:] == column[:-1]
        duplicates = [suspects[1:][same]]
        for key in np.unique(keys[suspects[1:]][same_key & ~same]):
            rows = suspects[keys[suspects] == key]
            extra, unequal = _settle(batch, rows, vocabulary)
            duplicates[0] = np.setdiff1d(duplicates[0], rows)
            duplicates.append(extra)
            conflicts.append(unequal)
        all_duplicates = np.sort(np.concatenate(duplicates))
        all_conflicts = np.sort(np.concatenate(conflicts))
        keep = np.ones(n, np.bool_)
        keep[all_duplicates] = False
        keep[all_conflicts] = False
        return Admission(np.flatnonzero(keep), all_duplicates, all_conflicts)


def _settle(
    batch: EventBatch, rows: npt.NDArray[np.int64], vocabulary: Vocabulary
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (duplicates, conflicts) among rows of one key with more than one content."""
    keys = content_key_rows(batch, rows, vocabulary)
    ranked = sorted(
        ((int(batch.time[row]), int(key)), int(batch.record_time[row]), int(row))
        for row, key in zip(rows, keys, strict=True)
    )
    kept = ranked[0][0]
    duplicates = [row for content, _, row in ranked[1:] if content == kept]
    conflicts = [row for content, _, row in ranked if content != kept]
    return np.array(duplicates, np.int64), np.array(conflicts, np.int64)
