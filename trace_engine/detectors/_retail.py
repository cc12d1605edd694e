"""What the rules on prescriptions share: sales to persons outside medical institutions.

Definitions
-----------
*Retail sale*: an event of role ``PERSON_SALE`` with the signal ``NEW_SALE``, other than a vaccination,
whose giver the enterprise registry knows with a type that is no medical institution. (What a hospital
or clinic hands out is prescribed by nature, whatever its bills say: it is not judged.) Skipped:
``unknown_seller``, where that type is not known.

*Prescription sale*: a retail sale of a drug that the drug registry puts in the class ``rx``. Skipped:
drugs of which the registry knows neither name nor class (``unknown_drug``). Without one of the tables
needed, all new sales to persons are skipped as ``no_registry``.

*House*: the group of an enterprise, or where it is in none, the enterprise itself.

*Purchase*: what has one order, else one bill; else the event alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.keys import KeySpace, extended
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import categories_of
from trace_engine.detectors.base import Rows, Slice, State
from trace_engine.events.batch import HOUR, EventBatch
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import EnterpriseType

Int64 = npt.NDArray[np.int64]

RELATED = 16  # further events shown with a finding
NEVER = -1_000_000  # a day long before any data

SlotSeconds = Annotated[
    int,
    msgspec.Meta(
        ge=1,
        le=600,
        description="Prescriptions this near count once (systems that send many at once)",
        extra_json_schema={"unit": "seconds", "zh": "多少秒以内只计一张（批量上传）"},
    ),
]
"""A parameter of rules that count prescriptions by the hour; see :func:`busiest_hour`."""

_GROUP_HOUSES = np.int64(1) << np.int64(32)  # houses of groups are numbered after all parties

_RETAIL_TYPE = np.ones(len(EnterpriseType), np.bool_)
_RETAIL_TYPE[[EnterpriseType.UNKNOWN, EnterpriseType.MEDICAL, EnterpriseType.PUBLIC_HOSPITAL]] = (
    False
)


def retail_sales(
    data: Slice, *, prescription: bool, having: int = 0, without: int = 0
) -> tuple[Int64, dict[str, int]]:
    """Return the rows of retail sales (of prescription sales) and what was skipped, by reason.

    Only rows with all the flags ``having`` and none of ``without`` are looked at and counted.
    """
    batch, view = data.batch, data.registry
    rows = data.rows_of(Role.PERSON_SALE)
    chosen = (data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0
    chosen &= batch.kind[rows] != int(EventKind.VACCINATION)
    if having | without:
        flags = np.uint8(having | without)
        chosen &= (batch.flags[rows] & flags) == np.uint8(having)
    rows = rows[chosen]
    skipped: dict[str, int] = {}
    if len(rows) == 0:
        return rows, skipped
    if not view.has("enterprises") or (prescription and not view.has("drugs")):
        return rows[:0], {"no_registry": len(rows)}
    # One entry more, for the unknown party and the drug that is not named (-1).
    kinds = np.append(view.party_type, np.int8(EnterpriseType.UNKNOWN))
    if prescription:
        judgeable = np.append(categories_of(data).judgeable, False)
        drug = batch.drug[rows]
        unknown = ~judgeable[drug]
        _count(skipped, "unknown_drug", unknown)
        of_class = np.append((view.drug_classes & view.class_mask("rx")) != 0, False)
        rows = rows[of_class[drug] & ~unknown]
    kind = kinds[batch.source[rows]]
    _count(skipped, "unknown_seller", kind == int(EnterpriseType.UNKNOWN))
    return rows[_RETAIL_TYPE[kind]], skipped


def _count(skipped: dict[str, int], reason: str, which: npt.NDArray[np.bool_]) -> None:
    number = int(np.count_nonzero(which))
    if number:
        skipped[reason] = number


def houses(data: Slice, rows: Int64) -> Int64:
    """Return a number for the group of each event's giver; -1 where it is in none."""
    return data.registry.party_group[data.batch.source[rows]].astype(np.int64)


def house_of(rows: Rows) -> Int64:
    """Return the house of each row from its columns ``group`` and ``source``."""
    group, source = rows["group"], rows["source"].astype(np.int64)
    return np.where(group >= 0, group + _GROUP_HOUSES, source)


def purchase_of(batch: EventBatch, rows: Int64) -> npt.NDArray[np.uint64]:
    """Return a number for the purchase of each row: the order, else the bill, else the event."""
    order, bill = batch.order[rows], batch.bill[rows]
    found: npt.NDArray[np.uint64] = np.where(
        order != 0, order, np.where(bill != 0, bill, batch.event_key[rows])
    )
    return found


def optional(batch: EventBatch, name: str, rows: Int64, missing: Any, dtype: Any) -> Any:
    """Return an optional column at ``rows``, shape ``(m,)``; missing everywhere if it is not there."""
    column = batch.optional.get(name)
    return np.full(len(rows), missing, dtype) if column is None else column[rows]


def binomial_tail(tries: int, successes: int, chance: float) -> float:
    """Return the probability of at least ``successes`` in ``tries``, each of ``chance`` in (0, 1)."""
    total = 0.0
    for k in range(successes, tries + 1):
        total += math.exp(
            math.lgamma(tries + 1)
            - math.lgamma(k + 1)
            - math.lgamma(tries - k + 1)
            + k * math.log(chance)
            + (tries - k) * math.log1p(-chance)
        )
    return total


class Pool:
    """Rows of the last days, by key: linked lists in columns that live in a detector's state.

    ``columns`` (name -> dtype) always hold ``time``; ``first`` names the ``uint64`` column that is the
    key. Entries of the state: ``pool_count``, ``pool_<column>``, ``pool_key``,
    ``pool_previous``, ``head`` by key, and the key space ``key``.
    """

    def __init__(self, state: State, columns: dict[str, Any], first: str) -> None:
        self.state = state
        self.columns = columns
        self.first = first
        if "pool_count" not in state:
            state["pool_count"] = 0
            for name, dtype in columns.items():
                state[f"pool_{name}"] = np.empty(0, dtype)
            self._new_keys()
        self.space = KeySpace(state, "key")

    def _new_keys(self) -> None:
        state = self.state
        for name in [name for name in state if name.startswith("key_")]:
            del state[name]
        for name in ("pool_key", "pool_previous", "head"):
            state[name] = np.empty(0, np.int64)
        self.space = KeySpace(state, "key")

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column, shape ``(rows held,)``, as a view."""
        column: npt.NDArray[Any] = self.state[f"pool_{name}"]
        return column[: self.state["pool_count"]]

    def append(self, rows: Rows) -> tuple[Int64, npt.NDArray[np.bool_]]:
        """Append rows; return the key of each, and whether the key was there before them."""
        state, begin = self.state, self.state["pool_count"]
        end = begin + len(rows["time"])
        for name in self.columns:
            state[f"pool_{name}"] = extended(state[f"pool_{name}"], end)
            state[f"pool_{name}"][begin:end] = rows[name]
        state["pool_count"] = end
        return self._link(begin, end)

    def _link(self, begin: int, end: int) -> tuple[Int64, npt.NDArray[np.bool_]]:
        state = self.state
        first = self.column(self.first)[begin:end]
        keys = self.space.ids(first, np.zeros(len(first), np.uint64)).astype(np.int64)
        state["head"] = extended(state["head"], len(self.space), -1)
        before = state["head"][keys] >= 0
        for name, values in (("pool_key", keys), ("pool_previous", self._previous(keys, begin))):
            state[name] = extended(state[name], end)
            state[name][begin:end] = values
        state["head"][keys] = np.arange(begin, end)
        return keys, before

    def _previous(self, keys: Int64, begin: int) -> Int64:
        """Return the row before each new row of its key; the last of equal keys becomes the head."""
        order = np.argsort(keys, kind="stable")
        previous: Int64 = self.state["head"][keys].astype(np.int64)
        same = keys[order][1:] == keys[order][:-1]
        previous[order[1:][same]] = begin + order[:-1][same]
        return previous

    def forget(self, before: int) -> None:
        """Drop rows older than ``before`` (µs), once they are half of all; keys begin anew then."""
        old = int(np.searchsorted(self.column("time"), before))
        count = self.state["pool_count"]
        if old == 0 or 2 * old < count:
            return
        for name in self.columns:
            self.state[f"pool_{name}"] = self.column(name)[old:].copy()
        self.state["pool_count"] = count - old
        self._new_keys()
        self._link(0, count - old)

    def rows(self, key: int, since: int) -> list[int]:
        """Return the rows of a key at or after ``since`` (µs), newest first."""
        time, previous = self.column("time"), self.state["pool_previous"]
        out, row = [], int(self.state["head"][key])
        while row >= 0 and time[row] >= since:
            out.append(row)
            row = int(previous[row])
        return out


def related_to(lists: Sequence[Sequence[int]]) -> Int64:
    """Return log numbers as the column ``related``, shape ``(m, RELATED)``."""
    related = np.full((len(lists), RELATED), -1, np.int64)
    for i, some in enumerate(lists):
        related[i, : min(len(some), RELATED)] = some[:RELATED]
    return related


def busiest_hour(today: Rows, mine: Int64, name: str, slot: int) -> tuple[int, list[int]]:
    """Return the highest number of things in an hour, and the rows that count in it, latest first.

    ``mine``: rows of one day by (time, event_key); ``name``: the column whose values are the things,
    each counted at its first row; of those in one slot (µs) only the first counts.
    """
    _, first = np.unique(today[name][mine], return_index=True)
    rows = mine[np.sort(first)]
    time = today["time"][rows]
    _, first = np.unique(time // slot, return_index=True)
    rows, time = rows[first], time[first]
    begin = np.searchsorted(time, time - HOUR, side="right")
    rates = np.arange(1, len(rows) + 1) - begin
    at = int(np.argmax(rates))
    hour: list[int] = rows[begin[at] : at + 1][::-1].tolist()
    return int(rates[at]), hour


def number_of(state: State, space: str, first: int, second: int, **columns: int) -> int:
    """Return the number of the key ``(first, second)`` in a key space of ``state``.

    ``columns`` of the state (int64, by number) grow with it; new entries hold the values given.
    """
    keys = KeySpace(state, space)
    number = int(keys.ids(np.array([first], np.uint64), np.array([second], np.uint64))[0])
    for name, fill in columns.items():
        state[name] = extended(state[name], len(keys), fill)
    return number
