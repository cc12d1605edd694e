"""Histograms of logarithms by key, over a window of closed days, with median and MAD.

A bin is 0.005 of ``ln`` (half a percent): ``bin = floor(200 × ln x)`` for an integer ``x >= 1``, so
``x`` below 2³¹ falls into 0..4297. A key's bins lie in pages of 64, made when first used, so that a
key costs what its prices are spread over and a mistyped price costs one page. The lower median is
kept as a pointer that moves by what is added and taken away; the median absolute deviation is counted
outwards from it, only when asked for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.keys import extended

BINS_PER_UNIT = 200.0  # bins in one unit of ln
BIN_WIDTH = 1.0 / BINS_PER_UNIT
PAGE = 64
PAGES = 68  # bins 0..4351
BINS = PAGE * PAGES

# Columns of the summary of a key
_TOTAL, _MEDIAN, _BELOW = 0, 1, 2


@leaf
def bin_of(value: int) -> int:
    """Return the bin of an integer of at least 1."""
    return math.floor(math.log(float(value)) * BINS_PER_UNIT)


@leaf
def centre_of(bin_number: int) -> float:
    """Return the natural logarithm at the middle of a bin."""
    return (bin_number + 0.5) * BIN_WIDTH


@leaf
def _count(
    pages: npt.NDArray[np.int32], counts: npt.NDArray[np.int32], key: int, bin_number: int
) -> int:
    if bin_number < 0 or bin_number >= BINS:
        return 0
    page = pages[key, bin_number // PAGE]
    return 0 if page < 0 else counts[page, bin_number % PAGE]


@kernel
def add_today(
    keys: npt.NDArray[np.int32],
    values: npt.NDArray[np.int32],
    pages: npt.NDArray[np.int32],
    today: npt.NDArray[np.int32],
    used: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int32],
    begin: int,
) -> int:
    """Count rows into the day's bins and list each bin once in ``cells`` (key, bin, 0).

    ``used``: pages used, cells listed. Returns the row that found no page, or the length.
    """
    bin_number = 0
    page = np.int32(0)
    for i in range(begin, keys.shape[0]):
        # Codes of one bill follow each other, with one price.
        if i > begin and keys[i] == keys[i - 1] and values[i] == values[i - 1]:
            today[page, bin_number % PAGE] += 1
            continue
        bin_number = bin_of(values[i])
        page = pages[keys[i], bin_number // PAGE]
        if page < 0:
            if used[0] >= today.shape[0]:
                return i
            page = np.int32(used[0])
            pages[keys[i], bin_number // PAGE] = page
            used[0] += 1
        if today[page, bin_number % PAGE] == 0:
            cells[used[1], 0] = keys[i]
            cells[used[1], 1] = bin_number
            used[1] += 1
        today[page, bin_number % PAGE] += 1
    return len(keys)


@kernel
def close_today(
    cells: npt.NDArray[np.int32],
    pages: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    today: npt.NDArray[np.int32],
    summary: npt.NDArray[np.int64],
) -> None:
    """Move the day's counts into the window and write them into ``cells`` (third column)."""
    for i in range(cells.shape[0]):
        key, bin_number = cells[i, 0], cells[i, 1]
        page = pages[key, bin_number // PAGE]
        count = today[page, bin_number % PAGE]
        today[page, bin_number % PAGE] = 0
        cells[i, 2] = count
        counts[page, bin_number % PAGE] += count
        summary[key, _TOTAL] += count
        if bin_number < summary[key, _MEDIAN]:
            summary[key, _BELOW] += count


@kernel
def remove_day(
    cells: npt.NDArray[np.int32],
    pages: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    summary: npt.NDArray[np.int64],
) -> None:
    """Take a day that has left the window out again."""
    for i in range(cells.shape[0]):
        key, bin_number, count = cells[i, 0], cells[i, 1], cells[i, 2]
        counts[pages[key, bin_number // PAGE], bin_number % PAGE] -= count
        summary[key, _TOTAL] -= count
        if bin_number < summary[key, _MEDIAN]:
            summary[key, _BELOW] -= count


@leaf
def median_bin(
    pages: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    summary: npt.NDArray[np.int64],
    key: int,
) -> int:
    """Return the bin of the lower median of ``key``: the ``(total + 1) // 2``-th value; total >= 1."""
    rank = (summary[key, _TOTAL] + 1) // 2
    at, below = summary[key, _MEDIAN], summary[key, _BELOW]
    while below >= rank:
        at -= 1
        below -= _count(pages, counts, key, at)
    here = _count(pages, counts, key, at)
    while below + here < rank:
        below += here
        at += 1
        if at % PAGE == 0:  # pages without any value are crossed at once
            while pages[key, at // PAGE] < 0:
                at += PAGE
        here = _count(pages, counts, key, at)
    summary[key, _MEDIAN], summary[key, _BELOW] = at, below
    return int(at)


@leaf
def deviation_bins(
    pages: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    summary: npt.NDArray[np.int64],
    key: int,
    median: int,
) -> int:
    """Return the smallest r >= 1 with ``(total + 1) // 2`` values within r bins of the median."""
    rank = (summary[key, _TOTAL] + 1) // 2
    inside = _count(pages, counts, key, median)
    r = 0
    while inside < rank or r == 0:
        r += 1
        inside += _count(pages, counts, key, median - r) + _count(pages, counts, key, median + r)
    return r


class Histograms:
    """Histograms by key over closed days, living in a detector's state.

    Entries of the state: ``pages`` (keys, 68) ``int32``, page of each 64 bins or -1; ``counts`` and
    ``today`` (pages, 64) ``int32``; ``summary`` (keys, 3) ``int64``: values in the window, median
    pointer, values below it; ``used_pages``; and ``cells/<day>`` (m, 3) ``int32`` for each day of
    the window: key, bin, count.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        if "pages" not in state:
            state["pages"] = np.full((64, PAGES), -1, np.int32)
            state["counts"] = np.zeros((64, PAGE), np.int32)
            state["today"] = np.zeros((64, PAGE), np.int32)
            state["summary"] = np.zeros((64, 3), np.int64)
            state["used_pages"] = 0

    def reserve(self, keys: int) -> None:
        """Make room for keys 0 to ``keys - 1``."""
        self.state["pages"] = extended(self.state["pages"], keys, -1)
        self.state["summary"] = extended(self.state["summary"], keys)

    def forget(self, first_day: int) -> None:
        """Take out the days before ``first_day``."""
        state = self.state
        for name in [n for n in state if n.startswith("cells/") and int(n[6:]) < first_day]:
            remove_day(state.pop(name), state["pages"], state["counts"], state["summary"])

    def add(self, day: int, keys: npt.NDArray[np.int32], values: npt.NDArray[np.int32]) -> None:
        """Add all values of a day (``(n,)``, at least 1) at its end."""
        state = self.state
        used = np.array([state["used_pages"], 0], np.int64)
        cells = np.zeros((len(keys), 3), np.int32)
        begin = 0
        while True:
            begin = add_today(keys, values, state["pages"], state["today"], used, cells, begin)
            if begin == len(keys):
                break
            state["counts"] = extended(state["counts"], 2 * len(state["counts"]))
            state["today"] = extended(state["today"], 2 * len(state["today"]))
        state["used_pages"] = int(used[0])
        cells = cells[: used[1]].copy()
        close_today(cells, state["pages"], state["counts"], state["today"], state["summary"])
        # Late events may add to a day a second time.
        before = state.get(f"cells/{day}", cells[:0])
        state[f"cells/{day}"] = np.concatenate([before, cells])
