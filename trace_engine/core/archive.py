"""Lines of codes that are done with, out of the tables of live codes and ready to come back.

A code that was sold or has died and was not heard of for long leaves its shard's table: its line, what
it first carried and its deeper owners go to the archive as one *unit* of 80 bytes (and more for many
owners). In memory there stays an entry of 8 bytes in an index at most four fifths full: some ten to
thirteen bytes a code. The entry holds 32 bits of the key's hash and the unit's number; the key itself
is looked up in the unit, which only a code that is not live ever asks for.

Nothing depends on where a line is. When an event names an archived code, the line comes back first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from trace_engine.core.attributes import FIRST
from trace_engine.core.codetable import LINE, SHARDS, mix
from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.owners import owners_below, push_below
from trace_engine.core.past import shard_of
from trace_engine.core.records import Integer, Records
from trace_engine.events.batch import NO_CODE

if TYPE_CHECKING:
    from trace_engine.core.shards import Shard

Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.uint64]

UNIT = np.dtype([("line", LINE), ("first", FIRST), ("owners", np.uint32)])
"""A line, what the code first carried, and how many owners below the third stand in next units."""
assert UNIT.itemsize == 80

PARTIES = UNIT.itemsize // 4  # owners in a unit of owners
_LINE_WORDS = LINE.itemsize // 4
MOST_UNITS = 0xFFFFFFFE

_GONE = np.uint64(0xFFFFFFFF00000000)  # an entry that was taken out: never empty, never asked for
_MARK = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)


def taken(records: Records, rows: Int64) -> Records:
    """Return records at ``rows``, copied as one piece each: field by field takes ten times as long."""
    return records.view(f"V{records.dtype.itemsize}")[rows].view(records.dtype)


def put(records: Records, rows: Int64 | slice, values: Records) -> None:
    """Set records at ``rows``, copied as one piece each."""
    whole = f"V{records.dtype.itemsize}"
    records.view(whole)[rows] = np.ascontiguousarray(values).view(whole)


class Units(Protocol):
    """Where units are kept: they are added at the end and never change."""

    def __len__(self) -> int: ...

    def append(self, units: Records, keys: Keys) -> None:
        """Add units (``UNIT``) and the keys of their codes (``NO_CODE``: a unit of owners)."""
        ...

    def read(self, numbers: Int64) -> Records:
        """Return units by number."""
        ...

    def codes(self) -> Iterator[Keys]:
        """Yield the keys of all units in order, some at a time."""
        ...


class MemoryUnits:
    """Units in memory."""

    def __init__(self) -> None:
        self.units: Records = np.empty(0, UNIT)
        self._keys: Keys = np.empty(0, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, units: Records, keys: Keys) -> None:
        """Add units and the keys of their codes."""
        end = self._used + len(units)
        if end > len(self.units):
            room = max(end, 2 * len(self.units))
            kept, keys_kept = self.units[: self._used], self._keys[: self._used]
            self.units, self._keys = np.empty(room, UNIT), np.empty(room, np.uint64)
            put(self.units, slice(0, self._used), kept)
            self._keys[: self._used] = keys_kept
        put(self.units, slice(self._used, end), units)
        self._keys[self._used : end] = keys
        self._used = end

    def read(self, numbers: Int64) -> Records:
        """Return units by number."""
        return taken(self.units, numbers)

    def codes(self) -> Iterator[Keys]:
        """Yield the keys of all units."""
        yield self._keys[: self._used]


@leaf
def _slot_of(h: np.uint64, slots: Integer) -> np.int64:
    """Return where to begin to look for a key of hash ``h``: by the bits that an entry holds."""
    return np.int64(((h >> np.uint64(32)) * np.uint64(slots)) >> np.uint64(32))


@kernel
def _insert(slots: Slots, keys: Keys, numbers: Int64) -> None:
    size = slots.shape[0]
    for i in range(keys.shape[0]):
        h = mix(keys[i])
        slot: Integer = _slot_of(h, size)
        while slots[slot] != np.uint64(0):
            slot = slot + 1 if slot + 1 < size else 0
        slots[slot] = (h & _MARK) | np.uint64(numbers[i] + 1)


@kernel
def _move(old: Slots, slots: Slots) -> None:
    """Enter what stands in ``old`` into larger ``slots``."""
    size = slots.shape[0]
    for i in range(old.shape[0]):
        if (old[i] & _LOW) == np.uint64(0):
            continue
        slot: Integer = _slot_of(old[i], size)
        while slots[slot] != np.uint64(0):
            slot = slot + 1 if slot + 1 < size else 0
        slots[slot] = old[i]


@kernel
def _matches(slots: Slots, keys: Keys, which: Int64, places: Int64) -> int:
    """Write (key, slot) of entries that may be those of keys; return how many there are.

    There may be more than there was room for: then room must be made and the question put again.
    """
    size = slots.shape[0]
    count = 0
    for i in range(keys.shape[0]):
        h = mix(keys[i])
        slot: Integer = _slot_of(h, size)
        while slots[slot] != np.uint64(0):
            if (slots[slot] & _MARK) == (h & _MARK) and (slots[slot] & _LOW) != np.uint64(0):
                if count < which.shape[0]:
                    which[count] = i
                    places[count] = slot
                count += 1
            slot = slot + 1 if slot + 1 < size else 0
    return count


def _lines_of(units: Records) -> Records:
    words = units.view(np.int32).reshape(len(units), PARTIES)[:, :_LINE_WORDS]
    return np.ascontiguousarray(words).reshape(-1).view(LINE)


class Away:
    """Which codes of one shard are archived, and where."""

    MAXIMUM_LOAD = 0.8
    GROWTH = 1.25

    def __init__(self) -> None:
        self.slots: Slots = np.zeros(64, np.uint64)
        self.taken = 0  # entries, those of codes that came back included
        self.count = 0
        self.returned: list[int] = []  # units of codes that came back

    def add(self, keys: Keys, numbers: Int64) -> None:
        """Enter codes that are not in it, by their units."""
        if self.taken + len(keys) > self.MAXIMUM_LOAD * len(self.slots):
            wanted = int((self.count + len(keys)) / self.MAXIMUM_LOAD * self.GROWTH) + 64
            slots = np.zeros(wanted, np.uint64)
            _move(self.slots, slots)
            self.slots, self.taken = slots, self.count
        _insert(self.slots, keys, numbers)
        self.taken += len(keys)
        self.count += len(keys)

    def matches(self, keys: Keys) -> tuple[Int64, Int64, Int64]:
        """Return (which of ``keys``, slot, unit) of entries that may be theirs.

        Another thread may enter codes and take some out meanwhile.
        """
        entries = self.slots  # one table all the way: it is replaced when it grows
        room = 64
        while True:
            which, places = np.empty(room, np.int64), np.empty(room, np.int64)
            found = _matches(entries, keys, which, places)
            if found <= room:
                break
            room = found
        which, slots = which[:found], places[:found]
        numbers = (entries[slots] & _LOW).astype(np.int64) - 1
        there = numbers >= 0  # others were taken out since they were found
        return which[there], slots[there], numbers[there]

    def take_out(self, slots: Int64, numbers: Int64) -> None:
        """Forget entries: their codes are live again."""
        self.slots[slots] = _GONE
        self.count -= len(slots)
        self.returned += numbers.tolist()


class Archive:
    """The archived codes of all shards."""

    def __init__(self, units: Units | None = None) -> None:
        self.units: Units = units if units is not None else MemoryUnits()
        self.away = [Away() for _ in range(SHARDS)]

    def __len__(self) -> int:
        return sum(away.count for away in self.away)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory (units in memory not counted)."""
        return sum(away.slots.nbytes + 8 * len(away.returned) for away in self.away)

    def returned(self) -> Int64:
        """Return the units of codes that came back, ascending."""
        return np.sort(np.array([n for away in self.away for n in away.returned], np.int64))

    def restore(self, returned: Int64) -> None:
        """Index the units that are there anew; codes of ``returned`` are live."""
        self.away = [Away() for _ in range(SHARDS)]
        begin = 0
        for keys in self.units.codes():
            numbers = np.arange(begin, begin + len(keys))
            begin += len(keys)
            here = (keys != NO_CODE) & ~np.isin(numbers, returned)
            self._enter(keys[here], numbers[here])
        of_shard = shard_of(np.ascontiguousarray(self.units.read(returned)["line"]["key"]))
        for k, away in enumerate(self.away):
            away.returned = returned[of_shard == k].tolist()

    def _enter(self, keys: Keys, numbers: Int64) -> None:
        of_shard = shard_of(keys)
        for k, away in enumerate(self.away):
            mine = np.flatnonzero(of_shard == k)
            if len(mine):
                away.add(keys[mine], numbers[mine])

    def add(self, shard: Shard, rows: Int64) -> None:
        """Archive the lines ``rows`` of a shard, which still has them afterwards.

        Raises
        ------
        OverflowError
            After 2³² − 2 units.
        """
        table = shard.table
        lines = taken(table.lines, rows)
        counts = np.zeros(len(rows), np.int64)
        parties = owners_below(lines, table.nodes, counts)
        more = -(-counts // PARTIES)
        place = np.cumsum(1 + more) - (1 + more)
        total = len(rows) + int(more.sum())
        begin = len(self.units)
        if begin + total > MOST_UNITS:
            raise OverflowError(f"an archive takes at most {MOST_UNITS:,} units")
        units: Records = np.zeros(total, UNIT)
        lines["tail"][counts > 0] = -1
        shard.firsts.reserve(len(table))
        firsts = taken(shard.firsts.records, rows)
        words = units.view(np.int32).reshape(total, PARTIES)
        words[place, :_LINE_WORDS] = lines.view(np.int32).reshape(-1, _LINE_WORDS)
        words[place, _LINE_WORDS:-1] = firsts.view(np.int32).reshape(len(rows), -1)
        words[place, -1] = counts
        at = np.repeat(place + 1, counts) * PARTIES
        within = np.arange(len(parties)) - np.repeat(np.cumsum(counts) - counts, counts)
        words.reshape(-1)[at + within] = parties
        keys = np.full(total, NO_CODE)
        keys[place] = lines["key"]
        self.units.append(units, keys)
        self._enter(np.ascontiguousarray(lines["key"]), begin + place)

    def find(self, k: int, keys: Keys) -> tuple[Int64, Int64, Int64, Records]:
        """Return (which of ``keys``, slot, number, unit) of codes of shard ``k`` archived now."""
        away = self.away[k]
        if away.count == 0 or len(keys) == 0:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, nothing, np.empty(0, UNIT)
        which, slots, numbers = away.matches(np.ascontiguousarray(keys))
        units = self.units.read(numbers)
        right = np.flatnonzero(units["line"]["key"] == keys[which])
        return which[right], slots[right], numbers[right], taken(units, right)

    def last_of(self, codes: Keys) -> Int64:
        """Return the latest log number of each code that is archived, -1 for others."""
        last = np.full(len(codes), -1, np.int64)
        of_shard = shard_of(codes)
        for k in range(SHARDS):
            mine = np.flatnonzero(of_shard == k)
            which, _, _, units = self.find(k, codes[mine])
            last[mine[which]] = units["line"]["last_seq"]
        return last

    def line_of(self, key: int) -> Records | None:
        """Return the line of an archived code (shape (1,)), whose deeper owners are left out."""
        codes = np.array([key], np.uint64)
        _, _, _, units = self.find(int(shard_of(codes)[0]), codes)
        return _lines_of(units) if len(units) else None

    def put_back(
        self, k: int, shard: Shard, rows: Int64, slots: Int64, numbers: Int64, units: Records
    ) -> None:
        """Make ``rows`` of shard ``k`` (lines of these codes) what they were when archived."""
        table = shard.table
        lines = _lines_of(units)
        counts = units["owners"].astype(np.int64)
        total = int(counts.sum())
        table.reserve_nodes(total)
        if total:
            deep = np.flatnonzero(counts)
            more = -(-counts[deep] // PARTIES)
            place = np.repeat(numbers[deep] + 1, more)
            place += np.arange(len(place)) - np.repeat(np.cumsum(more) - more, more)
            words = self.units.read(place).view(np.int32)
            begin = (np.cumsum(more) - more) * PARTIES
            push_below(lines, deep, counts, words, begin, table.nodes, table.used)
        put(table.lines, rows, lines)
        shard.firsts.reserve(len(table))
        shard.firsts.records[rows] = units["first"]
        self.away[k].take_out(slots, numbers)
