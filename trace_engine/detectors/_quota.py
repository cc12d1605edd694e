"""What the quota rules share: sales of restricted classes, and what takes them back.

Definitions
-----------
*Restricted sale*: an event of role ``PERSON_SALE`` with the signal ``NEW_SALE`` of a drug that is on
its day in a class for which the policy has a quota on that day. ``packs`` = 1 for a split sale (the
pack counts once, when it is opened), else the quantity, at least 1. Skipped, in this order: without a
drug registry every new sale to a person (``no_registry``); drugs of which the registry knows neither
name nor class (``unknown_drug``); of the restricted sales those on prescription (flag
``PRESCRIPTION``: sold by the dose prescribed) (``prescription``).

*Gone*: every restricted sale may be gone during one interval ``[from, to)``. The events of a day that
take sales back are applied before the sales of that day are judged, in order of (time, returns before
voids, event_key):

* ``CONSUMER_RETURN`` of a code at r: of the remembered sales of that code that are not gone at r, the
  latest with time <= r (of equal times the smallest event_key); for a date-only return, where there
  is none, the earliest on that day. That sale is gone from r on (``to`` open).
* ``VOID`` at v: the remembered sale whose event it names is gone from v on, if its time <= v (or on
  that day, for a date-only void) and it is not gone at v. If it names a return that took a sale back,
  that sale's open interval ends at v.

A sale that is gone from r on does not count at moments >= r: a pack sold and returned at one time was
never sold, and a date-only return works from the beginning of its day. What fired before stays.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.signals import NEW_SALE
from trace_engine.core.windows import DAY, RecentRows
from trace_engine.detectors._shared import categories_of
from trace_engine.detectors.base import ROLE_OF, Hits, Rows, Slice, Verdict
from trace_engine.events.batch import PRESCRIPTION, SPLIT_SALE
from trace_engine.events.kinds import Role
from trace_engine.policy.values import Quota
from trace_engine.registry.types import CLASS_BITS, CLASS_NAMES, CLASS_ZH

Int64 = npt.NDArray[np.int64]

SALE, RETURN, VOID = 0, 1, 2
RELATED = 16  # further events shown with a finding

_BATCH_COLUMNS = (
    "time", "event_key", "code", "source", "drug", "batch_no", "buyer", "order", "bill", "voids",
)  # fmt: skip


def class_id(name: str) -> int:
    """Return a number that stands for a class everywhere and always."""
    known = CLASS_BITS.get(name)
    return 1000 + zlib.crc32(name.encode()) % 1_000_000 if known is None else known


def class_texts(ids: Int64) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Return the Chinese and English names of classes by their number, each ``(m,)``."""
    zh, en = [], []
    for number in ids.tolist():
        name = CLASS_NAMES[number] if number < len(CLASS_NAMES) else ""
        zh.append(CLASS_ZH.get(name, "限售药品"))
        en.append(name.replace("_", " ") or "restricted class")
    return np.array(zh, np.str_), np.array(en, np.str_)


def restricted_rows(data: Slice, parts_of: Any, *, buyer_needed: bool) -> tuple[Rows, Verdict]:
    """Return the restricted sales of a slice with the events that take them back.

    ``parts_of(quota)`` gives ``(limit, span)`` pairs: a sale becomes one row for each.
    """
    batch = data.batch
    # Few events matter here: everything below works on those rows only.
    rows = data.rows_of(Role.PERSON_SALE, Role.CONSUMER_RETURN, Role.VOID)
    role, drug = ROLE_OF[batch.kind[rows]], batch.drug[rows]
    new_sale = (role == int(Role.PERSON_SALE)) & (
        (data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0
    )
    quotas: list[Quota] = [q for q in data.policy.quotas(data.first_day) if parts_of(q)]
    if not data.registry.has("drugs"):
        total = int(np.count_nonzero(new_sale))
        return _columns(data, []), Verdict(skipped={"no_registry": total} if total else {})
    categories = categories_of(data)
    # One entry more in each, for an event that names no drug (-1).
    judgeable = np.append(categories.judgeable, False)
    member = {
        q.class_name: np.append(categories.restricted(q.class_name, data.first_day), False)
        & judgeable
        for q in quotas
    }
    anyone = np.zeros(len(judgeable), np.bool_)
    for of_class in member.values():
        anyone |= of_class
    unknown = new_sale & ~judgeable[drug]
    restricted = np.flatnonzero(new_sale & anyone[drug])
    rest, sales = rows[restricted], drug[restricted]
    prescribed = (batch.flags[rest] & PRESCRIPTION) != 0
    nobody = ~prescribed & (batch.buyer[rest] == 0) & buyer_needed
    counted = ~prescribed & ~nobody
    pieces: list[tuple[Int64, int, int, int, int]] = []
    for quota in quotas:
        chosen = rest[counted & member[quota.class_name][sales]]
        pieces += [(chosen, SALE, class_id(quota.class_name), *part) for part in parts_of(quota)]
    # What takes a sale back may name its drug otherwise than the sale did, or not at all.
    takes_back = ~new_sale & (anyone[drug] | anyone[batch.code_drug[rows]] | ~judgeable[drug])
    returns = rows[takes_back & (role == int(Role.CONSUMER_RETURN))]
    voids = rows[takes_back & (role == int(Role.VOID))]
    voids = voids[batch.voids[voids] != 0]
    pieces += [(returns, RETURN, -1, 0, 0), (voids, VOID, -1, 0, 0)]
    skipped = {
        "unknown_drug": int(np.count_nonzero(unknown)),
        "prescription": int(np.count_nonzero(prescribed)),
        "no_buyer": int(np.count_nonzero(nobody)),
    }
    return _columns(data, pieces), Verdict(
        judged=int(np.count_nonzero(counted)),
        skipped={reason: count for reason, count in skipped.items() if count},
    )


def _columns(data: Slice, pieces: list[tuple[Int64, int, int, int, int]]) -> Rows:
    """Gather the rows of all pieces by time: (rows, role, class, limit, span)."""
    batch = data.batch
    index = np.concatenate([p[0] for p in pieces]) if pieces else np.empty(0, np.int64)
    sizes = [len(p[0]) for p in pieces]

    def spread(which: int) -> Int64:
        return np.repeat(np.array([p[which] for p in pieces], np.int64), sizes)

    role, class_ids, limit, span = (spread(k) for k in (1, 2, 3, 4))
    order = np.argsort(index, kind="stable")  # rows of a batch are in time order
    index = index[order]
    split = (batch.flags[index] & SPLIT_SALE) != 0
    quantity = np.maximum(batch.quantity[index].astype(np.int64), 1)
    rows: Rows = {name: getattr(batch, name)[index] for name in _BATCH_COLUMNS}
    return rows | {
        "seq": data.seq_base + index,
        "role": role[order].astype(np.int8),
        "class_id": class_ids[order],
        "limit": limit[order],
        "span": span[order],
        "packs": np.where(split, 1, quantity),
    }


def days_of(rows: Rows) -> list[tuple[int, Rows]]:
    """Return the rows day by day, each day sorted by time."""
    time = rows["time"]
    if len(time) == 0:
        return []
    day = time // DAY
    bounds = np.append(np.flatnonzero(np.diff(day, prepend=day[0] - 1)), len(day)).tolist()
    return [
        (int(day[a]), {name: column[a:b] for name, column in rows.items()})
        for a, b in pairwise(bounds)
    ]


def part(rows: Rows, chosen: npt.NDArray[np.bool_]) -> Rows:
    """Return some of the rows."""
    return {name: column[chosen] for name, column in rows.items()}


class HitList:
    """Hits of quotas as they are found, one call for each key and moment that fired."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, float, float, int, int, int, list[int]]] = []

    def add(
        self,
        pool: RecentRows,
        lead: int,
        now: list[int],
        others: list[int],
        *,
        total: int,
        moment: int,
        group: int,
    ) -> None:
        """Add a finding on the rows ``now``, resting on ``others`` as well.

        Rows of ``now`` that differ in seller, drug or batch number from ``lead`` become related
        events of it, so that the finding is one.
        """
        key, seq = pool.column("event_key"), pool.column("seq")
        same = [
            row
            for row in now
            if all(
                pool.column(name)[row] == pool.column(name)[lead]
                for name in ("source", "drug", "batch_no")
            )
        ]
        rest = sorted(
            (-int(pool.column("time")[row]), int(key[row]), int(seq[row]))
             for row in (*now, *others) if row not in same
        )  # fmt: skip
        for row in sorted(same, key=lambda row: int(key[row])):
            self.rows.append(
                (
                    int(seq[row]),
                    moment,
                    float(total),
                    float(pool.column("limit")[row]),
                    int(pool.column("class_id")[row]),
                    group,
                    int(pool.column("span")[row]),
                    [s for _, _, s in rest[:RELATED]] if row == lead else [],
                )
            )

    def hits(self) -> tuple[Hits, Int64] | None:
        """Return the hits, without severity's final word, and their spans; None if there are none."""
        if not self.rows:
            return None
        seq, moment, total, limit, classes, group, span, rest = zip(*self.rows, strict=True)
        related = np.full((len(seq), RELATED), -1, np.int64)
        for i, some in enumerate(rest):
            related[i, : len(some)] = some
        observed, threshold = np.array(total), np.array(limit)
        zh, en = class_texts(np.array(classes, np.int64))
        excess = observed / threshold - 1.0
        return (
            Hits(
                seq=np.array(seq, np.int64),
                time=np.array(moment, np.int64),
                observed=observed,
                threshold=threshold,
                severity=np.clip(0.4 + 0.3 * excess, 0, 1).astype(np.float32),
                group=np.array(group, np.uint64),
                related=related,
                extra={"class_zh": zh, "class_en": en},
            ),
            np.array(span, np.int64),
        )
