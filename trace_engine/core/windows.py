"""Recent rows by key: what somebody bought lately, net of what was returned or voided.

Rows of one key are a linked list, newest first, in one pool of columns, so that a sum over the last
days of a key touches that key's rows only. A row counts at a moment unless it is *gone* then: gone
from ``gone_from`` (a return or a void) until before ``gone_to`` (the return was voided itself).

Rows are linked time by time while they are judged, so rows of one moment are judged together and
their order does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.keys import KeySpace, extended

DAY = 86_400_000_000  # µs
NEVER = np.iinfo(np.int64).max

Int64 = npt.NDArray[np.int64]

_DAY = np.int64(DAY)


@leaf
def _gone(gone_from: np.int64, gone_to: np.int64, moment: np.int64) -> bool:
    return bool(gone_from <= moment < gone_to)


@leaf
def _link(head: Int64, previous: Int64, key: np.int64, row: np.int64) -> None:
    previous[row] = head[key]
    head[key] = row


@kernel
def judge_windows(
    first: int,
    stop: int,
    time: Int64,
    keys: Int64,
    packs: Int64,
    gone_from: Int64,
    gone_to: Int64,
    previous: Int64,
    head: Int64,
    span_days: Int64,
    limit: Int64,
    peak: Int64,
    done: Int64,
    fired: Int64,
) -> int:
    """Link the rows ``first`` to ``stop`` (one day, by time) and judge each key's sliding window.

    ``head``, ``peak``, ``done`` are by key. Writes ``(row, sum)`` of what fired into ``fired``
    ``(m, 2)``, ``row`` being a row of that key and moment; returns how many.

    A timed row at t: the window holds timed rows in (t - span, t] and date-only rows of earlier days
    after t - span. Date-only rows of a day are judged together at its end: the window holds all rows
    of the last ``span_days`` days, that day included.
    """
    m = 0
    if first == stop:
        return m
    day_begin = (time[first] // _DAY) * _DAY
    begin = first
    dated_end = first
    while begin < stop:
        end = begin
        while end < stop and time[end] == time[begin]:
            _link(head, previous, keys[end], np.int64(end))
            done[keys[end]] = -1
            end += 1
        if time[begin] == day_begin:
            dated_end = end
            begin = end
            continue
        moment = time[begin]
        for i in range(begin, end):
            key = keys[i]
            if done[key] == moment:
                continue
            done[key] = moment
            since = moment - span_days[i] * _DAY
            before = after = np.int64(0)
            row = head[key]
            while row >= 0 and time[row] > since:
                dated = time[row] % _DAY == 0
                unknown = dated and time[row] >= day_begin
                if not unknown and not _gone(gone_from[row], gone_to[row], moment):
                    after += packs[row]
                    if time[row] < moment:
                        before += packs[row]
                row = previous[row]
            if before <= limit[i] or peak[key] < limit[i]:
                peak[key] = limit[i]
            if after > peak[key]:
                peak[key] = after
                fired[m, 0], fired[m, 1] = i, after
                m += 1
        begin = end
    moment = day_begin + _DAY - 1
    for i in range(first, dated_end):
        key = keys[i]
        if done[key] == moment:
            continue
        done[key] = moment
        since = day_begin + _DAY - span_days[i] * _DAY
        before = after = np.int64(0)
        row = head[key]
        while row >= 0 and time[row] >= since:
            if not _gone(gone_from[row], gone_to[row], moment):
                after += packs[row]
                if time[row] != day_begin:
                    before += packs[row]
            row = previous[row]
        if before <= limit[i] or peak[key] < limit[i]:
            peak[key] = limit[i]
        if after > peak[key]:
            peak[key] = after
            fired[m, 0], fired[m, 1] = i, after
            m += 1
    return m


@kernel
def judge_sales(
    first: int,
    stop: int,
    time: Int64,
    keys: Int64,
    packs: Int64,
    gone_from: Int64,
    gone_to: Int64,
    previous: Int64,
    head: Int64,
    span: Int64,
    limit: Int64,
    peak: Int64,
    opened: Int64,
    done: Int64,
    fired: Int64,
) -> int:
    """Link the rows ``first`` to ``stop`` (one day, by time) and judge what is one sale.

    A sale of a key opens with a row and takes the rows up to ``span`` (µs) after it; ``opened``
    holds when (-1: none yet). Writes ``(row, sum, highest sum fired before or 0)`` of what fired into
    ``fired`` ``(m, 3)``; returns how many.
    """
    m = 0
    begin = first
    while begin < stop:
        end = begin
        while end < stop and time[end] == time[begin]:
            _link(head, previous, keys[end], np.int64(end))
            done[keys[end]] = -1
            end += 1
        moment = time[begin]
        for i in range(begin, end):
            key = keys[i]
            if done[key] == moment:
                continue
            done[key] = moment
            if opened[key] < 0 or moment > opened[key] + span[i]:
                opened[key] = moment
                peak[key] = 0
            total = np.int64(0)
            row = head[key]
            while row >= 0 and time[row] >= opened[key]:
                if not _gone(gone_from[row], gone_to[row], moment):
                    total += packs[row]
                row = previous[row]
            if total > max(limit[i], peak[key]):
                fired[m, 0], fired[m, 1], fired[m, 2] = i, total, peak[key]
                peak[key] = total
                m += 1
        begin = end
    return m


@kernel
def _relink(keys: Int64, previous: Int64, head: Int64) -> None:
    """Link all rows again, in order."""
    for key in range(head.shape[0]):
        head[key] = -1
    for row in range(keys.shape[0]):
        previous[row] = head[keys[row]]
        head[keys[row]] = row


class RecentRows:
    """The pool of rows and the keys, living in a detector's state.

    Entries of the state: ``row_count``; ``row_<column>`` by row, oldest first (:data:`COLUMNS`, and
    ``row_key``, the id of its key, ``row_previous``, ``row_gone_from``, ``row_gone_to``), with room
    to grow; ``head``, ``peak``, ``opened`` and ``done`` ``int64`` by key; a key space ``key``; and
    ``undo_*``: the returns remembered, in case they are voided.
    """

    COLUMNS = (
        "seq", "time", "event_key", "code", "source", "drug", "batch_no", "packs", "limit", "span",
        "class_id",
    )  # fmt: skip
    DTYPES: ClassVar[dict[str, Any]] = {"event_key": np.uint64, "code": np.uint64}
    OWN = ("key", "previous", "gone_from", "gone_to")
    BY_KEY = ("head", "peak", "opened", "done")

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.space = KeySpace(state, "key")
        self.horizon = -NEVER
        if "row_count" not in state:
            state["row_count"] = 0
            for name in (*self.COLUMNS, *self.OWN):
                state[f"row_{name}"] = np.empty(64, self.DTYPES.get(name, np.int64))
            for name in self.BY_KEY:
                state[name] = np.empty(0, np.int64)
            state["undo_return"] = np.empty(0, np.uint64)
            state["undo_sale"] = np.empty(0, np.uint64)
            state["undo_time"] = np.empty(0, np.int64)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of the pool, shape ``(n,)``, as a view."""
        column: npt.NDArray[Any] = self.state[f"row_{name}"]
        return column[: self.state["row_count"]]

    def forget(self, before: int) -> None:
        """Drop rows and returns older than ``before`` (µs), once they are half of the pool.

        Those that stay for the moment are not taken back any more either.
        """
        self.horizon = before
        time = self.column("time")
        old = int(np.searchsorted(time, before))
        if old == 0 or 2 * old < len(time):
            return
        state = self.state
        for name in (*self.COLUMNS, *self.OWN):
            state[f"row_{name}"] = self.column(name)[old:].copy()
        state["row_count"] = len(time) - old
        _relink(self.column("key"), self.column("previous"), state["head"])
        kept = state["undo_time"] >= before
        for name in ("undo_return", "undo_sale", "undo_time"):
            state[name] = state[name][kept]

    def append(
        self,
        rows: Mapping[str, npt.NDArray[Any]],
        first: npt.NDArray[np.uint64],
        second: npt.NDArray[np.uint64],
    ) -> tuple[int, int]:
        """Append the rows of a day by time, unlinked, with their keys; return their range."""
        state, begin = self.state, self.state["row_count"]
        end = begin + len(first)
        new = {name: rows[name] for name in self.COLUMNS}
        new["key"] = self.space.ids(first, second)
        new["previous"] = np.full(len(first), -1, np.int64)
        new["gone_from"] = new["gone_to"] = np.full(len(first), NEVER, np.int64)
        for name, values in new.items():
            state[f"row_{name}"] = extended(state[f"row_{name}"], end)
            state[f"row_{name}"][begin:end] = values
        state["row_count"] = end
        for name in self.BY_KEY:
            state[name] = extended(state[name], len(self.space), 0 if name == "peak" else -1)
        return begin, end

    def take_back(self, returns: dict[str, npt.NDArray[Any]]) -> None:
        """Apply the returns and voids of a day: columns time, event_key, code, voids (0: a return).

        They are applied by time, returns before voids, then by event key. A return takes back the
        latest sale of its code not after it that is not gone; a date-only return, where there is
        none, the earliest of its day. A void takes back the sale it names, or ends the return it
        names.
        """
        n = len(returns["time"])
        if n == 0:
            return
        order = np.lexsort((returns["event_key"], returns["voids"] != 0, returns["time"]))
        mentioned = np.isin(self.column("code"), returns["code"]) | np.isin(
            self.column("event_key"), returns["voids"]
        )
        mentioned &= self.column("time") >= self.horizon
        pool = np.flatnonzero(mentioned)  # few; the loop below is over rare rows only
        for i in order.tolist():
            moment = int(returns["time"][i])
            last = moment + (DAY - 1 if moment % DAY == 0 else 0)
            if returns["voids"][i]:
                self._void(pool, returns["voids"][i], moment, last)
            else:
                self._return(pool, returns["code"][i], returns["event_key"][i], moment, last)

    def _return(self, pool: Int64, code: Any, event_key: Any, moment: int, last: int) -> None:
        time, key = self.column("time"), self.column("event_key")
        rows = pool[self.column("code")[pool] == code]
        gone = (self.column("gone_from")[rows] <= moment) & (moment < self.column("gone_to")[rows])
        rows = rows[~gone & (time[rows] <= last)]
        if len(rows) == 0:
            return
        before = rows[time[rows] <= moment]
        if len(before):
            candidates = before[time[before] == time[before].max()]
        else:
            candidates = rows[time[rows] == time[rows].min()]
        sale = key[candidates].min()
        self._leave(pool[key[pool] == sale], moment)
        state = self.state
        state["undo_return"] = np.append(state["undo_return"], np.uint64(event_key))
        state["undo_sale"] = np.append(state["undo_sale"], sale)
        state["undo_time"] = np.append(state["undo_time"], np.int64(moment))

    def _void(self, pool: Int64, named: Any, moment: int, last: int) -> None:
        state = self.state
        rows = pool[self.column("event_key")[pool] == named]
        rows = rows[self.column("time")[rows] <= last]
        gone = (self.column("gone_from")[rows] <= moment) & (moment < self.column("gone_to")[rows])
        self._leave(rows[~gone], moment)
        for sale in state["undo_sale"][state["undo_return"] == named]:
            back = np.flatnonzero(self.column("event_key") == sale)
            # Only while it is that return that keeps the sale gone.
            back = back[self.column("gone_to")[back] == NEVER]
            self.column("gone_to")[back] = moment
        kept = state["undo_return"] != named
        for name in ("undo_sale", "undo_time", "undo_return"):
            state[name] = state[name][kept]

    def _leave(self, rows: Int64, moment: int) -> None:
        self.column("gone_from")[rows] = moment
        self.column("gone_to")[rows] = NEVER

    def chain(self, key: int, since: int, until: int, moment: int) -> list[int]:
        """Return the rows of a key in [since, until] that are not gone at ``moment``, newest first."""
        time, previous = self.column("time"), self.column("previous")
        gone_from, gone_to = self.column("gone_from"), self.column("gone_to")
        out, row = [], int(self.state["head"][key])
        while row >= 0 and time[row] >= since:
            if time[row] <= until and not gone_from[row] <= moment < gone_to[row]:
                out.append(row)
            row = int(previous[row])
        return out
