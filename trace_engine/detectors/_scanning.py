"""What the rules about scanning share: which events are scans of single packs, and rows of last days.

Definitions
-----------
*Worked at*: the enterprise whose goods an event handles: the giver of an outgoing event (shipments,
returns and transfers out, sales to persons), the receiver of an incoming one. (A head office that
uploads for its store works at the store.)

*Instrument* of an event: the device it states, or where it states none, the operator.

*Scanned level*: the event names no parent, a pack level of at most 1 (or none), and stands for one
pack: a case that a system expanded into its packs was scanned once, not thousands of times.

*Precise time*: a time that is not a whole minute. A system that writes minutes only puts many scans on
one time that were not made at one time; one that writes seconds has a whole minute now and then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.detectors.base import ROLE_OF, Rows, Slice, State
from trace_engine.events.batch import DAY, MINUTE, OPTIONAL_COLUMNS
from trace_engine.events.kinds import Role

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HANDLED = (
    Role.SHIP,
    Role.RECEIVE,
    Role.RETURN_SHIP,
    Role.RETURN_RECEIVE,
    Role.TRANSFER_SHIP,
    Role.TRANSFER_RECEIVE,
    Role.PERSON_SALE,
)
"""Roles of events in which goods of an enterprise pass its scanner."""

_OUTGOING = np.zeros(len(Role), np.bool_)
_OUTGOING[[Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.PERSON_SALE]] = True

RELATED = 16  # further events shown with a finding


def optional(data: Slice, name: str, rows: Int64) -> npt.NDArray[Any]:
    """Return an optional column at ``rows``; its missing value where the slice has none."""
    column = data.batch.optional.get(name)
    if column is None:
        found = OPTIONAL_COLUMNS[name]
        return np.full(len(rows), found.missing, found.dtype)
    return column[rows]


def names_instruments(data: Slice) -> bool:
    """Return whether any event of a slice states a device or an operator."""
    return "device" in data.batch.optional or "operator" in data.batch.optional


def instrument_rows(data: Slice, *roles: Role) -> tuple[Int64, dict[str, int]]:
    """Return the events of ``roles`` that state a device or an operator, and the others by reason.

    Without a registry of enterprises none are returned (``no_registry``).
    """
    total = data.count_of(*roles)
    if not data.registry.has("enterprises"):
        return np.empty(0, np.int64), {"no_registry": total}
    if not names_instruments(data):
        return np.empty(0, np.int64), {"no_device": total}
    rows = data.rows_of(*roles)
    rows = rows[(optional(data, "device", rows) >= 0) | (optional(data, "operator", rows) >= 0)]
    return rows, {"no_device": total - len(rows)}


def worked_at(data: Slice, rows: Int64) -> npt.NDArray[np.int32]:
    """Return the enterprise whose goods each event handles; -1 unknown."""
    outgoing = _OUTGOING[ROLE_OF[data.batch.kind[rows]]]
    return np.where(outgoing, data.batch.source[rows], data.batch.target[rows]).astype(np.int32)


def single(data: Slice, rows: Int64) -> Bools:
    """Return which events are at the scanned level."""
    alone = data.batch.quantity[rows] <= 1
    if "parent" in data.batch.optional:
        alone &= data.batch.optional["parent"][rows] == OPTIONAL_COLUMNS["parent"].missing
    if "pack_level" in data.batch.optional:
        alone &= data.batch.optional["pack_level"][rows] <= 1
    found: Bools = alone
    return found


def timed(time: Int64) -> Bools:
    """Return which times are more than a date."""
    found: Bools = time % DAY != 0
    return found


def precise(time: Int64) -> Bools:
    """Return which times are not whole minutes."""
    found: Bools = time % MINUTE != 0
    return found


def days_in(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield the rows day by day (they stand by time)."""
    time = rows["time"]
    if len(time) == 0:
        return
    day = time // DAY
    bounds = np.append(np.flatnonzero(np.diff(day, prepend=day[0] - 1)), len(day)).tolist()
    for begin, end in pairwise(bounds):
        yield int(day[begin]), {name: column[begin:end] for name, column in rows.items()}


def runs(*columns: npt.NDArray[Any]) -> tuple[Int64, Int64]:
    """Return an order that puts equal rows of ``columns`` together, and where each run begins.

    The first column counts most; the order within a run is that of the rows given. The second
    array has one entry more: the number of rows.
    """
    order = np.lexsort(columns[::-1])
    n = len(order)
    new = np.zeros(n, np.bool_)
    if n:
        new[0] = True
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return order, np.append(np.flatnonzero(new), n)


def taken(rows: Rows, index: npt.NDArray[Any]) -> Rows:
    """Return the rows of an index or mask."""
    return {name: column[index] for name, column in rows.items()}


def earliest(rows: Rows, index: Int64) -> Int64:
    """Return ``index`` ordered by (time, event key)."""
    found: Int64 = index[np.lexsort((rows["event_key"][index], rows["time"][index]))]
    return found


def related_of(seqs: Sequence[Int64]) -> Int64:
    """Return further events of each hit as ``(m, RELATED)`` log numbers, -1 for none."""
    out = np.full((len(seqs), RELATED), -1, np.int64)
    for i, some in enumerate(seqs):
        out[i, : min(len(some), RELATED)] = some[:RELATED]
    return out


class LastDays:
    """Rows of the last days, living in a detector's state: one array for each column.

    Entries of the state: ``<name>_<column>``, with room to grow, and ``<name>_from`` and
    ``<name>_to``, where what is remembered begins and ends. One column is called ``day``.
    """

    def __init__(self, state: State, name: str, dtypes: dict[str, Any]) -> None:
        self._state = state
        self._name = name
        self._columns = tuple(dtypes)
        if f"{name}_to" not in state:
            state[f"{name}_from"] = state[f"{name}_to"] = 0
            for column, dtype in dtypes.items():
                state[f"{name}_{column}"] = np.empty(0, dtype)

    def _between(self, begin: int, end: int) -> Rows:
        return {
            column: self._state[f"{self._name}_{column}"][begin:end] for column in self._columns
        }

    @property
    def rows(self) -> Rows:
        """All rows remembered, oldest first, as views."""
        return self._between(self._state[f"{self._name}_from"], self._state[f"{self._name}_to"])

    def of_day(self, day: int) -> Rows:
        """Return the rows of one day."""
        days = self.rows["day"]
        begin = self._state[f"{self._name}_from"]
        first, last = np.searchsorted(days, [day, day + 1]).tolist()
        return self._between(begin + first, begin + last)

    def add(self, rows: Rows) -> None:
        """Remember further rows (those of a later day)."""
        state, name = self._state, self._name
        begin, end = state[f"{name}_from"], state[f"{name}_to"]
        more = len(rows["day"])
        room = len(state[f"{name}_day"])
        if end + more > room:
            kept = self.rows
            size = max(64, 2 * (end - begin + more))
            for column, values in kept.items():
                state[f"{name}_{column}"] = np.empty(size, values.dtype)
                state[f"{name}_{column}"][: end - begin] = values
            state[f"{name}_from"], end = 0, end - begin
        for column in self._columns:
            state[f"{name}_{column}"][end : end + more] = rows[column]
        state[f"{name}_to"] = end + more

    def forget(self, before: int) -> Rows:
        """Drop the rows with a ``day`` before ``before`` and return them."""
        begin = self._state[f"{self._name}_from"]
        old = int(np.searchsorted(self.rows["day"], before))
        self._state[f"{self._name}_from"] = begin + old
        return self._between(begin, begin + old)
