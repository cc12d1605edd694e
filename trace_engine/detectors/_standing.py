"""Wrongs that stand: an enterprise goes on trading in a state in which it may not.

Each event of such a trade is wrong, but the cause is one. It becomes one finding when it begins and
one more for each further stretch of ``repeat_days`` in which it goes on.

Definition
----------
A *case* is what a detector keeps apart: subject, other party, drug, shop, platform and cause, as far
as it names them. Events of one case and day count together; its *lead* is the one with the smallest
(time, event_key). A case *counts* from the day on which it was first seen, plus what tolerance the
detector gives, and once ``needed`` of its events have been seen, that day's included. On each day
with events of a case that counts it *fires* if it never fired, or last fired ``repeat_days`` or more
days ago: on the lead, with the number of events and packs of that day.

No case needs another's state, and equal times need no order: days are judged as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.detectors._rights import TRADE
from trace_engine.detectors.base import Hits, Rows, Slice, State, Verdict
from trace_engine.events.batch import DAY, MINUTE, SPLIT_SALE

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

CASE = ("subject_party", "other_party", "drug", "shop", "platform", "cause")
_SUMS = ("events", "packs", "amount")


def days_at_least(data: Slice, rows: Int64) -> tuple[Int64, Int64]:
    """Return the day each event happened on at least, and at most, shape ``(len(rows),)``.

    A clock may be off by ``general.clock_skew_minutes``; a date alone is that day.
    """
    time = data.batch.time[rows]
    off = data.policy.general(data.first_day).clock_skew_minutes * MINUTE
    skew = np.where(time % DAY == 0, np.int64(0), np.int64(off))
    return (time - skew) // DAY, (time + skew) // DAY


def standing_rows(
    data: Slice,
    rows: Int64,
    *,
    subject: Int32,
    cause: npt.ArrayLike,
    other: Int32 | None = None,
    by_drug: bool = False,
    shop: Int32 | None = None,
    platform: Int32 | None = None,
    since: Int64 | None = None,
) -> Rows:
    """Return one row for each case and day among the wrong events ``rows`` of a slice.

    ``since``: a time (µs) to tell with the finding, the same for all events of a case and day.
    """
    batch, m = data.batch, len(rows)
    nobody = np.full(m, -1, np.int32)
    # A late event counts on the first open day, as everywhere.
    time = np.maximum(batch.time[rows], np.int64(data.first_day) * DAY)
    price = batch.price[rows].astype(np.int64)
    quantity = np.maximum(batch.quantity[rows].astype(np.int64), 1)
    split = (batch.flags[rows] & SPLIT_SALE) != 0
    found: Rows = {
        "seq": data.seq_base + np.asarray(rows, np.int64),
        "time": time,
        "event_key": batch.event_key[rows],
        "subject_party": np.asarray(subject, np.int32),
        "other_party": nobody if other is None else np.asarray(other, np.int32),
        "drug": batch.drug[rows] if by_drug else nobody,
        "shop": nobody if shop is None else np.asarray(shop, np.int32),
        "platform": nobody if platform is None else np.asarray(platform, np.int32),
        "cause": np.broadcast_to(np.asarray(cause, np.int64), m).copy(),
        "events": np.ones(m, np.int64),
        "packs": np.where(split, 1, quantity),
        "amount": np.where(price > 0, price * quantity, 0),
        "since": np.zeros(m, np.int64) if since is None else np.asarray(since, np.int64),
    }
    summed = sum_by_day(found)
    order = np.argsort(summed["time"], kind="stable")
    return {name: column[order] for name, column in summed.items()}


def sum_by_day(rows: Rows) -> Rows:
    """Return one row for each case and day: its lead, with the sums of all."""
    m = len(rows["time"])
    if m == 0:
        return rows
    day = rows["time"] // DAY
    keys = [rows[name] for name in CASE] + [day]
    order = np.lexsort((rows["event_key"], rows["time"], *keys))
    differs = np.zeros(m, np.bool_)
    differs[0] = True
    for key in keys:
        sorted_key = key[order]
        differs[1:] |= sorted_key[1:] != sorted_key[:-1]
    starts = np.flatnonzero(differs)
    lead = order[starts]
    return {
        name: np.add.reduceat(column[order], starts) if name in _SUMS else column[lead]
        for name, column in rows.items()
    }


def without_registry(data: Slice) -> tuple[Rows, Verdict]:
    """Return no rows, and the verdict on a slice whose enterprises nobody has registered."""
    total = data.count_of(*TRADE)
    nothing = np.empty(0, np.int64)
    rows = standing_rows(data, nothing, subject=nothing.astype(np.int32), cause=0)
    return rows, Verdict(skipped={"no_registry": total} if total else {})


@dataclass(slots=True)
class Fired:
    """Cases that fired: the rows of :func:`standing_rows` they fired on, and their history."""

    rows: Rows
    since_first: Int64  # days since the case was first seen
    so_far: Int64  # events of the case so far

    def __len__(self) -> int:
        return len(self.rows["time"])


def new_standing_state() -> State:
    """Return empty state: by case, the first day, the day it last fired and the events so far."""
    return {"cases": {}}


def advance_standing(
    rows: Rows,
    state: State,
    repeat_days: int,
    *,
    needed: int = 1,
    counts_from: Callable[[int], int] = lambda first_day: first_day,
) -> Fired | None:
    """Move the cases over ``rows`` (whole days) and return those that fired, None if none did.

    ``counts_from`` gives the day from which a case first seen on a day counts.
    """
    rows = sum_by_day(rows)
    cases: dict[str, list[int]] = state["cases"]
    fired: list[tuple[int, int, int]] = []
    order = np.argsort(rows["time"] // DAY, kind="stable")
    for row, case, day, events in _told(rows, order):
        found = cases.get(case)
        if found is None:
            found = cases[case] = [day, -1, 0]
        found[2] += events
        if found[2] < needed or day < counts_from(found[0]):
            continue
        if found[1] < 0 or day - found[1] >= repeat_days:
            found[1] = day
            fired.append((row, day - found[0], found[2]))
    if not fired:
        return None
    chosen = np.array(fired, np.int64)
    return Fired(
        {name: column[chosen[:, 0]] for name, column in rows.items()}, chosen[:, 1], chosen[:, 2]
    )


def _told(rows: Rows, order: Int64) -> Iterator[tuple[int, str, int, int]]:
    """Yield row, case, day and number of events, day by day."""
    keys = np.stack([rows[name][order].astype(np.int64) for name in CASE], 1).tolist()
    days = (rows["time"][order] // DAY).tolist()
    for row, key, day, events in zip(
        order.tolist(), keys, days, rows["events"][order].tolist(), strict=True
    ):
        yield row, ":".join(map(str, key)), day, events


def hits_of_cases(
    told: Rows,
    *,
    observed: npt.NDArray[Any],
    threshold: npt.ArrayLike,
    severity: npt.ArrayLike,
    cause: npt.ArrayLike,
    extra: Mapping[str, npt.NDArray[Any]],
    counterparty: Int32 | None = None,
) -> Hits:
    """Return the hits of cases ``told`` (rows of :func:`standing_rows`); scalars are spread.

    Cases of one ``cause`` (0 and more) are one finding. Sentences get ``events``, ``packs`` and the
    columns ``extra``.
    """
    m = len(told["seq"])
    return Hits(
        seq=told["seq"],
        time=told["time"],
        observed=observed.astype(np.float64),
        threshold=np.broadcast_to(np.asarray(threshold, np.float64), m).copy(),
        severity=np.broadcast_to(np.asarray(severity, np.float32), m).copy(),
        subject=told["subject_party"],
        counterparty=counterparty,
        group=np.broadcast_to(np.asarray(cause, np.int64) + 1, m).astype(np.uint64),
        amount=told["amount"],
        extra={**extra, "events": told["events"], "packs": told["packs"]},
    )
