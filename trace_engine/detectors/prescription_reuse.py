"""Prescription reused 处方重复使用 (B7): one prescription is dispensed again and again.

Definition
----------
Judged: retail sales (see ``_retail``) with a prescription number. Sales of one number are put together
to *dispensings*, day by day: sales of a day that share an order, a bill or a house are one; with it go
earlier dispensings (of the last ``window_days`` days, the day included) that share an order or bill
with it, or share a house and began at most ``same_days`` days before. A dispensing has a first day,
and the houses, orders, bills, buyers, doctors and drugs of its sales, as far as they are stated.

The number is *ambiguous* if two of its dispensings name different doctors and none in common, or if
they began more than ``same_days`` days apart, have no drug in common, and do not share a buyer: then
several prescriptions bear it (a shop counts anew each day), and nothing is judged.

A dispensing that is new on a day is *linked* to the earlier ones that have a drug in common with it
and share its house, a buyer or a doctor. *Fires* on the first case that holds:

1. ``elsewhere``: a linked one of no common house shares a buyer; or it shares a doctor, and one of the
   two names no buyer;
2. ``other_buyers``: it and the linked ones name at least ``buyers`` buyers;
3. ``too_often``: it and the linked ones are more than ``dispensings``. (Up to then it may be a
   prescription for long use, collected in parts.)

The hit is the latest sale of the new dispensing (of equal times the smallest event_key). observed =
the number of dispensings, threshold = 1, of case 3 ``dispensings``. Related: the first sale of each
linked dispensing (at most 16, latest first). Severity: case 1 0.7, 2 0.8, 3 0.5. Subject: the seller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from trace_engine.detectors._quota import days_of
from trace_engine.detectors._retail import (
    Pool,
    house_of,
    houses,
    optional,
    related_to,
    retail_sales,
)
from trace_engine.detectors.base import (
    Evidence,
    Family,
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY, PRESCRIPTION

ELSEWHERE, OTHER_BUYERS, TOO_OFTEN = range(3)
_CASE_ZH = np.array(["在其他单位已使用", "用于多个购买人", "使用次数过多"])
_CASE_EN = np.array(
    ["had been used elsewhere", "was used for several buyers", "was used too often"]
)
_SEVERITY = np.array([0.7, 0.8, 0.5], np.float32)

_COLUMNS: dict[str, Any] = {
    "time": np.int64, "event_key": np.uint64, "seq": np.int64, "prescription": np.uint64,
    "house": np.int64, "order": np.uint64, "bill": np.uint64,
    "buyer": np.uint64, "doctor": np.int32, "drug": np.int32,
}  # fmt: skip


class PrescriptionReuseParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PrescriptionReuse`."""

    window_days: Annotated[
        int,
        msgspec.Meta(
            ge=7,
            le=366,
            description="How long a prescription is remembered",
            extra_json_schema={"unit": "days", "zh": "处方追溯的时间窗"},
        ),
    ] = 90
    same_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=30,
            description="Sales of one prescription in one house this near are one dispensing",
            extra_json_schema={"unit": "days", "zh": "同一单位相隔多少天以内视为一次调配"},
        ),
    ] = 1
    dispensings: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Dispensings of one prescription in parts that may be in order",
            extra_json_schema={"unit": "dispensings", "zh": "延续处方分次调配的次数上限"},
        ),
    ] = 3
    buyers: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100,
            description="Buyers under one prescription from which it counts as reused",
            extra_json_schema={"unit": "buyers", "zh": "同一处方购买人数下限"},
        ),
    ] = 3


@dataclass(eq=False)
class _Dispensing:
    """What was handed out on one prescription at one time. ``names``: what its sales state."""

    first_day: int
    rows: list[int]
    names: dict[str, set[int]] = field(default_factory=dict)
    new: bool = True  # began on the day judged

    def shares(self, other: _Dispensing, *names: str) -> bool:
        return any(self.names[name] & other.names[name] for name in names)

    def take(self, other: _Dispensing) -> None:
        self.rows += other.rows
        for name, values in other.names.items():
            self.names[name] |= values


_NAMES = {"house": -1, "order": 0, "bill": 0, "buyer": 0, "doctor": -1, "drug": -1}


class PrescriptionReuse(KeyedDetector[PrescriptionReuseParameters]):
    """Dispensings of one prescription number."""

    id: ClassVar[str] = "prescription_reuse"
    title_zh: ClassVar[str] = "处方重复使用"
    title_en: ClassVar[str] = "Prescription reused"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "prescription"
    rows: ClassVar[tuple[str, ...]] = ("B7",)
    basis: ClassVar[str] = (
        "《内蒙古自治区药品网络销售监督管理实施办法（试行）》第二十八条：避免处方被重复使用"
    )
    unit: ClassVar[str] = "sales"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "rx_no")
    false_positives: ClassVar[str] = (
        "Several lines, packs or drugs of one prescription (one dispensing), what was out of stock "
        "and is collected the next day, prescriptions for long use collected in parts at one house "
        "(allowed up to a number), chains (one house), local numbers that begin anew each day "
        "(ambiguous: not judged), two shops that count alike (only what shares a buyer or doctor is "
        "linked), medical institutions (left out)."
    )
    false_positives_zh: ClassVar[str] = (
        "一张处方多行、多盒或多个品种（算一次调配）、缺货次日补取、长期处方在同一单位分次取药（"
        "容许若干次）、连锁（算一家）、每日重新编号的店内处方号（含义不明，不判定）、两家店编号方式相同（"
        "须有相同购买人或医师才关联）、医疗机构（不计）。"
    )
    parameters: ClassVar[type[Parameters]] = PrescriptionReuseParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}凭处方销售{drug}（{packs_zh}），该处方{case_zh}：{window_days}天内第"
        "{observed:.0f}次调配。"
    )
    sentence_en: ClassVar[str] = (
        "At {time} {subject} dispensed {drug} (code {code}) on a prescription that {case_en}: "
        "dispensing number {observed:.0f} within {window_days} days."
    )

    def select(self, data: Slice, parameters: PrescriptionReuseParameters) -> tuple[Rows, Verdict]:
        """Return retail sales with a prescription number."""
        batch = data.batch
        rows, skipped = retail_sales(data, prescription=False, having=PRESCRIPTION)
        columns: Rows = {
            name: getattr(batch, name)[rows]
            for name in ("time", "event_key", "source", "drug", "order", "bill", "buyer")
        }
        columns |= {
            "seq": data.seq_base + rows,
            "group": houses(data, rows),
            "doctor": optional(batch, "doctor", rows, -1, np.int32),
            "prescription": optional(batch, "prescription", rows, 0, np.uint64),
        }
        return columns, Verdict(judged=len(rows), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: recent sales by prescription."""
        state: State = {}
        Pool(state, _COLUMNS, "prescription")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: PrescriptionReuseParameters, last_day: int
    ) -> Hits | None:
        """Judge day by day the prescriptions that are dispensed again."""
        pool = Pool(state, _COLUMNS, "prescription")
        found: list[tuple[int, int, int, int, list[int]]] = []
        for day, today in days_of(rows):
            pool.forget((day - parameters.window_days + 1) * DAY)
            house = house_of(today)
            keys, known = pool.append(today | {"house": house})
            # Only what was dispensed before, or by two houses today, can be a reuse.
            order = np.lexsort((house, keys))
            differs = (keys[order][1:] == keys[order][:-1]) & (
                house[order][1:] != house[order][:-1]
            )
            for key in np.unique(np.append(keys[known], keys[order[1:][differs]])).tolist():
                self._judge(pool, key, day, parameters, found)
        if not found:
            return None
        seq, case, number, group, rest = zip(*found, strict=True)
        cases = np.array(case)
        return Hits(
            seq=np.array(seq, np.int64),
            observed=np.array(number, np.float64),
            threshold=np.where(cases == TOO_OFTEN, parameters.dispensings, 1).astype(np.float64),
            severity=_SEVERITY[cases],
            group=np.array(group, np.uint64),
            related=related_to(rest),
            extra={
                "case_zh": _CASE_ZH[cases],
                "case_en": _CASE_EN[cases],
                "window_days": np.full(len(seq), parameters.window_days),
            },
        )

    @staticmethod
    def _judge(
        pool: Pool,
        key: int,
        day: int,
        p: PrescriptionReuseParameters,
        found: list[tuple[int, int, int, int, list[int]]],
    ) -> None:
        every = _dispensings(pool, key, day, p)
        if any(_differ(a, b, p) for i, a in enumerate(every) for b in every[:i]):
            return
        time, order, seq = (pool.column(name) for name in ("time", "event_key", "seq"))
        for i, now in enumerate(every):
            if not now.new:
                continue
            linked = [
                e
                for e in every[:i]
                if e.shares(now, "drug") and e.shares(now, "house", "buyer", "doctor")
            ]
            case = _case(now, linked, p)
            if case is None:
                continue
            lead = min(now.rows, key=lambda r: (-int(time[r]), int(order[r])))
            firsts = [min(e.rows, key=lambda r: (int(time[r]), int(order[r]))) for e in linked]
            firsts.sort(key=lambda r: (-int(time[r]), int(order[r])))
            group = int(pool.column("prescription")[lead])
            rest = [int(seq[r]) for r in firsts]
            found.append((int(seq[lead]), case, len(linked) + 1, group, rest))


def _dispensings(
    pool: Pool, key: int, day: int, p: PrescriptionReuseParameters
) -> list[_Dispensing]:
    """Return a prescription's dispensings up to ``day``, by their beginning.

    Of those that began on one day, the one with the smallest (time, event_key) stands first.
    """
    rows = pool.rows(key, (day - p.window_days + 1) * DAY)
    time, order = pool.column("time"), pool.column("event_key")
    rows.sort(key=lambda r: (int(time[r]), int(order[r])))
    columns = {name: pool.column(name) for name in _NAMES}
    every: list[_Dispensing] = []
    today: list[_Dispensing] = []
    of_day = -1
    for row in rows:
        its_day = int(time[row]) // DAY
        if its_day != of_day:
            _settle(every, today, p)
            today, of_day = [], its_day
        names = {
            name: set() if columns[name][row] == missing else {int(columns[name][row])}
            for name, missing in _NAMES.items()
        }
        sale = _Dispensing(its_day, [row], names)
        same = [d for d in today if d.shares(sale, "order", "bill", "house")]
        for other in same[1:]:
            same[0].take(other)
            today.remove(other)
        if same:
            same[0].take(sale)
        else:
            today.append(sale)
    _settle(every, today, p)
    for one in every:
        one.new = one.first_day == day
    return every


def _settle(
    every: list[_Dispensing], today: list[_Dispensing], p: PrescriptionReuseParameters
) -> None:
    """Add a day's dispensings: to an earlier one each goes with, or as a new one."""
    before = list(every)
    for one in today:
        same = [
            e
            for e in before
            if e.shares(one, "order", "bill")
            or (e.shares(one, "house") and one.first_day - e.first_day <= p.same_days)
        ]
        if same:
            same[0].take(one)
        else:
            every.append(one)


def _differ(a: _Dispensing, b: _Dispensing, p: PrescriptionReuseParameters) -> bool:
    """Return whether two dispensings of one number cannot be of one prescription."""
    if a.names["doctor"] and b.names["doctor"] and not a.shares(b, "doctor"):
        return True
    far = abs(a.first_day - b.first_day) > p.same_days
    return far and not a.shares(b, "drug") and not a.shares(b, "buyer")


def _case(
    now: _Dispensing, linked: list[_Dispensing], p: PrescriptionReuseParameters
) -> int | None:
    for e in linked:
        nameless = not e.names["buyer"] or not now.names["buyer"]
        if not e.shares(now, "house") and (
            e.shares(now, "buyer") or (nameless and e.shares(now, "doctor"))
        ):
            return ELSEWHERE
    buyers = set(now.names["buyer"]).union(*(e.names["buyer"] for e in linked))
    if linked and len(buyers) >= p.buyers:
        return OTHER_BUYERS
    if len(linked) + 1 > p.dispensings:
        return TOO_OFTEN
    return None
