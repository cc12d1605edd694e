"""Late events that were told before: sent again after their day was closed.

While a day is open, two rows of one event meet in one slice and are compared there. What comes again
later is compared with the event log, however long ago its day was closed. The log does not keep every
column: rows that differ in none of those it keeps are one event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.eventlog import LOG_COLUMNS, EventLog
from trace_engine.events.batch import EventBatch

Int64 = npt.NDArray[np.int64]

_CONTENT = [name for name in LOG_COLUMNS if name != "previous"]
_TEXTS = ("order_code", "buyer_id")


@dataclass(frozen=True, slots=True)
class Retold:
    """Rows of a slice that the log knows by their id, ascending."""

    duplicates: Int64  # equal to the event in the log
    conflicts: Int64  # another content under its id, at its time or another of these late rows


def find_retold(log: EventLog, batch: EventBatch, late: int) -> Retold:
    """Look the first ``late`` rows of a slice (which is in order of time) up in the log."""
    keys = batch.event_key[:late]
    rows, seqs = _pairs(keys, *_candidates(log, batch, late))
    equal = np.ones(len(rows), np.bool_)
    for name, told in log.columns(_CONTENT, seqs).items():
        equal &= getattr(batch, name)[rows] == told
    close = np.flatnonzero(equal)
    for name, texts in log.texts(_TEXTS, seqs[close]).items():
        now = batch.text(name, rows[close])
        equal[close] &= np.array([a == b for a, b in zip(now, texts, strict=True)], np.bool_)
    duplicates = np.unique(rows[equal])
    return Retold(duplicates, np.setdiff1d(rows, duplicates))


def _candidates(
    log: EventLog, batch: EventBatch, late: int
) -> tuple[npt.NDArray[np.uint64], Int64]:
    """Return keys and numbers of events in the log that have a late row's key, about its time."""
    keys = np.unique(batch.event_key[:late])
    first, last = int(batch.time[0]), int(batch.time[late - 1])
    found_keys, found = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for number, (begin, end) in enumerate(log.spans()):
        if end < first or begin > last:
            continue
        whole = log.chunks[number].columns(["time", "event_key"], None)
        low = int(np.searchsorted(whole["time"], first, side="left"))
        high = int(np.searchsorted(whole["time"], last, side="right"))
        told = whole["event_key"][low:high]
        here = np.flatnonzero(np.isin(told, keys))
        found_keys.append(told[here])
        found.append(log.first_of(number) + low + here)
    return np.concatenate(found_keys), np.concatenate(found)


def _pairs(
    keys: npt.NDArray[np.uint64], told: npt.NDArray[np.uint64], seqs: Int64
) -> tuple[Int64, Int64]:
    """Return all pairs (row, number) with one key."""
    order = np.argsort(keys, kind="stable")
    low = np.searchsorted(keys[order], told, side="left")
    count = np.searchsorted(keys[order], told, side="right") - low
    starts = np.repeat(low - np.cumsum(count) + count, count)
    rows = order[starts + np.arange(int(count.sum()))]
    return rows, np.repeat(seqs, count)
