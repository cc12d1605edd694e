"""Sums by day and party: what detectors remember of many events, so that they need not keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def first_and_sums(
    day: npt.NDArray[Any],
    party: npt.NDArray[Any],
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    values: Int64,
) -> tuple[Int64, Int64]:
    """Add up ``values`` (n, k) by day and party (both (n,), whole numbers, -1 allowed).

    ``time`` ascends, as rows of a batch do.
    Returns, for each pair that occurs, the position of its first event (the smallest time, then
    event key), and the sums ``(pairs, k)``. In order of day, then party.
    """
    n = len(day)
    if n == 0:
        return np.empty(0, np.int64), np.empty((0, values.shape[1]), np.int64)
    low, span = int(day.min()), int(party.max()) + 2
    key = (day.astype(np.int64) - low) * span + party + 1
    size = (int(day.max()) - low + 1) * span
    if size <= 4 * n + 1_000_000:
        number = np.zeros(size, np.int64)
        number[key] = 1
        pairs = np.flatnonzero(number)
        number[pairs] = np.arange(len(pairs))
        group = number[key]
    else:
        pairs, group = np.unique(key, return_inverse=True)
    count = len(pairs)
    sums = np.empty((count, values.shape[1]), np.int64)
    for column in range(values.shape[1]):
        sums[:, column] = np.rint(np.bincount(group, values[:, column], count)).astype(np.int64)
    lead = np.empty(count, np.int64)
    lead[group[::-1]] = np.arange(n - 1, -1, -1)  # the first to come stays
    level = np.flatnonzero(time == time[lead][group])
    if len(level) > count:  # several events at the first time: the smallest key leads
        level = level[np.lexsort((event_key[level], group[level]))]
        opens = np.ones(len(level), np.bool_)
        opens[1:] = group[level[1:]] != group[level[:-1]]
        lead = level[opens]
    return lead, sums
