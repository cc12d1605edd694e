"""Key spaces: exact keys of two 64-bit words to dense ids 0, 1, 2, ... in order of arrival.

A detector's state is arrays indexed by these ids. Two words hold any key of the catalogue exactly
(seller and drug in one, batch in the other), so two keys never share state, whatever the hash.
The table is flat with linear probing, never more than half full: a look-up is one cache miss or two.

Ids depend on the order in which keys arrive. They are for indexing only and must never show in a
finding, in its order or in its id.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel, leaf


@leaf
def pair(high: np.int64, low: np.int64) -> np.uint64:
    """Pack two ids of at least -1 and below 2³² - 1 into one word."""
    return (np.uint64(high + 1) << np.uint64(32)) | np.uint64(low + 1)


def pair_all(high: npt.NDArray[Any], low: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Pack two columns of ids as :func:`pair` does, shape ``(n,)``."""
    upper = (high.astype(np.int64) + 1).astype(np.uint64) << np.uint64(32)
    packed: npt.NDArray[np.uint64] = upper | (low.astype(np.int64) + 1).astype(np.uint64)
    return packed


@leaf
def find_key(
    slots: npt.NDArray[np.int32],
    words: npt.NDArray[np.uint64],
    first: np.uint64,
    second: np.uint64,
) -> np.int64:
    """Return the id of the key ``(first, second)``, or ``-(slot + 1)`` of the free slot for it.

    ``slots`` (power of two,) holds id + 1 or 0 for free; ``words`` (capacity, 2) the keys by id.
    """
    mask = np.uint64(slots.shape[0] - 1)
    slot = mix(first ^ mix(second)) & mask
    while True:
        entry = slots[slot]
        if entry == 0:
            return -np.int64(slot) - 1
        if words[entry - 1, 0] == first and words[entry - 1, 1] == second:
            return np.int64(entry) - 1
        slot = (slot + np.uint64(1)) & mask


@leaf
def add_key(
    slots: npt.NDArray[np.int32],
    words: npt.NDArray[np.uint64],
    used: npt.NDArray[np.int64],
    first: np.uint64,
    second: np.uint64,
) -> np.int64:
    """Return the id of the key, giving it the next one if it is new; -1 if there is no room."""
    found = find_key(slots, words, first, second)
    if found >= 0:
        return found
    key = used[0]
    if key >= words.shape[0]:
        return np.int64(-1)
    words[key, 0] = first
    words[key, 1] = second
    slots[-found - 1] = np.int32(key + 1)
    used[0] = key + 1
    return np.int64(key)


@kernel
def _add_all(
    slots: npt.NDArray[np.int32],
    words: npt.NDArray[np.uint64],
    used: npt.NDArray[np.int64],
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.int32],
    begin: int,
) -> int:
    """Fill ``ids`` from row ``begin``; return the row that found no room, or the length."""
    n = len(first)
    for i in range(begin, n):
        # Rows of one bill follow each other: look up again only when the key changes.
        if i > begin and first[i] == first[i - 1] and second[i] == second[i - 1]:
            ids[i] = ids[i - 1]
            continue
        key = add_key(slots, words, used, first[i], second[i])
        if key < 0:
            return i
        ids[i] = np.int32(key)
    return n


@kernel
def _rehash(
    slots: npt.NDArray[np.int32], words: npt.NDArray[np.uint64], used: npt.NDArray[np.int64]
) -> None:
    """Fill the empty ``slots`` with the keys in use."""
    mask = np.uint64(slots.shape[0] - 1)
    for key in range(used[0]):
        slot = mix(words[key, 0] ^ mix(words[key, 1])) & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = np.int32(key + 1)


class KeySpace:
    """One key space, living in a detector's state so that it is saved and loaded with it.

    Entries of the state, by name: ``<name>_slots`` (power of two,) ``int32``; ``<name>_words``
    (capacity, 2) ``uint64``, capacity half of the slots; ``<name>_used`` (1,) ``int64``, how many
    keys there are. They are made if they are not there.
    """

    def __init__(self, state: dict[str, Any], name: str) -> None:
        self._state = state
        self._name = name
        if f"{name}_used" not in state:
            state[f"{name}_words"] = np.zeros((512, 2), np.uint64)
            state[f"{name}_slots"] = np.zeros(1024, np.int32)
            state[f"{name}_used"] = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.used[0])

    @property
    def slots(self) -> npt.NDArray[np.int32]:
        """The index: id + 1, or 0 where free."""
        slots: npt.NDArray[np.int32] = self._state[f"{self._name}_slots"]
        return slots

    @property
    def words(self) -> npt.NDArray[np.uint64]:
        """The keys by id."""
        words: npt.NDArray[np.uint64] = self._state[f"{self._name}_words"]
        return words

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """How many keys there are, shape ``(1,)``."""
        used: npt.NDArray[np.int64] = self._state[f"{self._name}_used"]
        return used

    def grow(self) -> None:
        """Double the room."""
        words = np.zeros((2 * len(self.words), 2), np.uint64)
        words[: len(self)] = self.words[: len(self)]
        slots = np.zeros(2 * len(words), np.int32)
        _rehash(slots, words, self.used)
        self._state[f"{self._name}_words"] = words
        self._state[f"{self._name}_slots"] = slots

    def ids(
        self, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int32]:
        """Return the ids of the keys ``(first[i], second[i])``, adding the new ones, ``(n,)``."""
        out = np.empty(len(first), np.int32)
        begin = 0
        while True:
            begin = _add_all(self.slots, self.words, self.used, first, second, out, begin)
            if begin == len(first):
                return out
            self.grow()


def extended(array: npt.NDArray[Any], length: int, fill: int | float = 0) -> npt.NDArray[Any]:
    """Return ``array`` with at least ``length`` rows; new rows hold ``fill``. Grows by doubling."""
    if length <= len(array):
        return array
    grown = np.full((max(length, 2 * len(array)), *array.shape[1:]), fill, array.dtype)
    grown[: len(array)] = array
    return grown
