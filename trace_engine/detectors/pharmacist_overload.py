"""Pharmacist overload 执业药师"挂证" (B13): one pharmacist's name at work in several places at once.

Definition
----------
Judged: retail sales over the counter (see ``_retail``; a sale online is reviewed from afar) that name
a pharmacist; the others are skipped as ``no_pharmacist``. Each pharmacist is judged for each day, by
the purchases of that day (of each purchase in a house, its first sale by (time, event_key)).

A house *employs* the pharmacist that day if it has at least ``min_sales`` such purchases: fewer may be
a mistyped name. Houses are taken in order of their first purchase. A house after the first *fires*
with an earlier one (the first of them for which one of these holds, tried in this order):

1. ``at_once``: of the timed purchases of the two, put in order of time (then event_key), at least
   ``min_switches`` neighbours are of different houses and less than ``travel_minutes`` apart;
2. ``far``: the sellers of the first purchases of the two are registered at least ``far_km`` apart;
3. ``many`` (with the first house): it is at least the ``many``-th that employs the pharmacist.

Otherwise, if all purchases of the day are of one seller: of its timed sales with a prescription number
those count that would count for a doctor in ``prescription_mill``; *fires* if the highest number in an
hour is above ``per_hour``. (Where several shops of one chain have one pharmacist, he sits in its review
centre, which is allowed, and is not judged.)

A pharmacist and seller fire once in ``again_days`` days. The hit is the latest purchase of the house
that day (of equal times the smallest event_key), or the sale at which the highest number was first
reached. Subject: its seller; counterparty: the seller of the first purchase of the earlier house.
observed = purchases of the house that day, threshold = ``min_sales`` - 1; or the number in an hour and
``per_hour``. Related: the latest purchases of the earlier house, or those of the hour (at most 16).
Severity: at once 0.8, far 0.7, many 0.6, hourly 0.5.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from trace_engine.core.keys import KeySpace
from trace_engine.detectors._quota import days_of
from trace_engine.detectors._retail import (
    NEVER,
    Int64,
    SlotSeconds,
    busiest_hour,
    house_of,
    houses,
    number_of,
    optional,
    purchase_of,
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
from trace_engine.events.batch import DAY, MINUTE, ONLINE, SECOND
from trace_engine.registry.regions import load_regions

AT_ONCE, FAR, MANY, HOURLY = range(4)
_SEVERITY = np.array([0.8, 0.7, 0.6, 0.5], np.float32)
_CASE_ZH = np.array(
    ["与另一单位同时在岗", "与相距遥远的另一单位同日在岗", "同日在多家单位在岗", "一小时内审方过多"]
)
_CASE_EN = np.array(
    [
        "at the same time as at another enterprise",
        "on the same day as at an enterprise far away",
        "on the same day as at several others",
        "for more prescriptions in an hour than a person can check",
    ]
)


class PharmacistOverloadParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PharmacistOverload`."""

    min_sales: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Purchases a day from which a pharmacist is at work in a house",
            extra_json_schema={"unit": "purchases", "zh": "视为当日在岗的最少销售单数"},
        ),
    ] = 3
    travel_minutes: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=600,
            description="Nobody changes from one house to another faster",
            extra_json_schema={"unit": "minutes", "zh": "往返两单位的最短时间"},
        ),
    ] = 30
    min_switches: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Changes faster than that from which it is no mistake",
            extra_json_schema={"unit": "changes", "zh": "不可能往返的次数下限"},
        ),
    ] = 3
    far_km: Annotated[
        float,
        msgspec.Meta(
            ge=20,
            le=5000,
            description="Nobody works in two houses so far apart on one day",
            extra_json_schema={"unit": "km", "zh": "同日在岗单位的距离上限"},
        ),
    ] = 200.0
    many: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100,
            description="Houses a day that are too many whatever the times",
            extra_json_schema={"unit": "houses", "zh": "同日在岗单位数下限"},
        ),
    ] = 3
    per_hour: Annotated[
        int,
        msgspec.Meta(
            ge=5,
            le=1000,
            description="Prescriptions an hour that a pharmacist can still check",
            extra_json_schema={"unit": "prescriptions", "zh": "药师每小时审方数上限"},
        ),
    ] = 60
    slot_seconds: SlotSeconds = 20
    again_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="How long a pharmacist and seller are not reported again",
            extra_json_schema={"unit": "days", "zh": "同一药师、单位多少天内不再报告"},
        ),
    ] = 30


class PharmacistOverload(KeyedDetector[PharmacistOverloadParameters]):
    """Where one pharmacist is at work on one day."""

    id: ClassVar[str] = "pharmacist_overload"
    title_zh: ClassVar[str] = "执业药师疑似挂证"
    title_en: ClassVar[str] = "Pharmacist in several places"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "pharmacist"
    rows: ClassVar[tuple[str, ...]] = ("B13",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：坚决打击执业药师“挂证”行为"
    )
    unit: ClassVar[str] = "sales"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "pharmacist_id")
    false_positives: ClassVar[str] = (
        "Review centres of one chain (one house), sales online (reviewed from afar: left out), a "
        "change of employer or two shifts on one day (few switches between the houses), mistyped "
        "numbers (few sales), dates without a time (used only for distance and number of houses)."
    )
    false_positives_zh: ClassVar[str] = (
        "连锁集中审方中心（同一企业算一家）、网上销售（远程审方，不计）、当日换单位或两处轮班（"
        "往返次数少，不触发）、药师编号录错（销售笔数少，不触发）、只有日期没有时刻的记录（"
        "仅用于距离和单位数）。"
    )
    parameters: ClassVar[type[Parameters]] = PharmacistOverloadParameters
    sentence_zh: ClassVar[str] = (
        "{date}以同一执业药师名义在{subject}审核销售{observed:.0f}单，{case_zh}（{counterparty}），"
        "疑似“挂证”；最后一单为{drug}（{packs_zh}）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} one pharmacist's name stands for {observed:.0f} sales of {subject}, {case_en} "
        "({counterparty}); the last of them is {drug} (code {code})."
    )

    def select(self, data: Slice, parameters: PharmacistOverloadParameters) -> tuple[Rows, Verdict]:
        """Return retail sales over the counter that name a pharmacist."""
        batch = data.batch
        if "pharmacist" in batch.optional:
            rows, skipped = retail_sales(data, prescription=False, without=ONLINE)
            named = batch.optional["pharmacist"][rows] >= 0
            if not named.all():
                skipped["no_pharmacist"] = int(np.count_nonzero(~named))
            rows = rows[named]
        else:
            rows, skipped = np.empty(0, np.int64), {}
        columns: Rows = {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "source": batch.source[rows],
            "group": houses(data, rows),
            "place": data.registry.party_region[batch.source[rows]],
            "pharmacist": optional(batch, "pharmacist", rows, -1, np.int32),
            "purchase": purchase_of(batch, rows),
            "prescription": optional(batch, "prescription", rows, 0, np.uint64),
        }
        return columns, Verdict(judged=len(rows), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: the day each pharmacist and seller last fired."""
        state: State = {"fired": np.empty(0, np.int64)}
        KeySpace(state, "pair")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: PharmacistOverloadParameters, last_day: int
    ) -> Hits | None:
        """Judge day by day."""
        p, found = parameters, list[Any]()
        for day, today in days_of(rows):
            house, who = house_of(today), today["pharmacist"]
            order = np.lexsort((today["event_key"], today["time"], who))
            starts = np.flatnonzero(np.diff(who[order], prepend=-1, append=-1))
            for start, stop in pairwise(starts.tolist()):
                mine = order[start:stop]
                if stop - start <= p.per_hour and (house[mine] == house[mine[0]]).all():
                    continue
                for hit in _judge(today, house, mine, p):
                    _report(state, day, int(who[mine[0]]), hit, today, p, found)
        if not found:
            return None
        seq, cases, observed, others, group, related = zip(*found, strict=True)
        case = np.array(cases)
        limit = np.where(case == HOURLY, p.per_hour, p.min_sales - 1)
        return Hits(
            seq=np.array(seq, np.int64),
            observed=np.array(observed, np.float64),
            threshold=limit.astype(np.float64),
            severity=_SEVERITY[case],
            counterparty=np.array(others, np.int32),
            group=np.array(group, np.uint64),
            related=related_to(related),
            extra={"case_zh": _CASE_ZH[case], "case_en": _CASE_EN[case]},
        )


# A hit: row, case, observed, row of the other house's first purchase (-1: none), related rows.
_Hit = tuple[int, int, float, int, list[int]]


def _report(
    state: State, day: int, who: int, hit: _Hit, today: Rows, p: PharmacistOverloadParameters,
    found: list[Any],
) -> None:  # fmt: skip
    """Add a hit unless this pharmacist and seller fired lately."""
    row, case, observed, other, rest = hit
    key = number_of(state, "pair", who, int(today["source"][row]), fired=NEVER)
    if day - state["fired"][key] <= p.again_days:
        return
    state["fired"][key] = day
    seller = -1 if other < 0 else int(today["source"][other])
    related = today["seq"][np.array(rest, np.int64)].tolist()
    key_of_row = int(today["event_key"][row])
    found.append((int(today["seq"][row]), case, observed, seller, key_of_row, related))


def _judge(today: Rows, house: Int64, mine: Int64, p: PharmacistOverloadParameters) -> list[_Hit]:
    """Return the hits of one pharmacist's day; ``mine``: his rows by (time, event_key)."""
    by_house: dict[int, list[int]] = {}
    seen: set[tuple[int, int]] = set()
    for row in mine.tolist():
        purchase = (int(house[row]), int(today["purchase"][row]))
        if purchase not in seen:
            seen.add(purchase)
            by_house.setdefault(purchase[0], []).append(row)
    employing = [rows for rows in by_house.values() if len(rows) >= p.min_sales]
    hits: list[_Hit] = []
    for k, rows in enumerate(employing):
        for earlier in employing[:k]:
            case = _case(today, earlier, rows, k, p)
            if case is not None:
                rest = earlier[::-1]
                last = _latest(today, rows)
                hits.append((last, case, float(len(rows)), earlier[0], rest))
                break
    if len(by_house) == 1 and (today["source"][mine] == today["source"][mine[0]]).all():
        numbered = (today["prescription"][mine] != 0) & (today["time"][mine] % DAY != 0)
        if np.count_nonzero(numbered) > p.per_hour:
            rate, hour = busiest_hour(
                today, mine[numbered], "prescription", p.slot_seconds * SECOND
            )
            if rate > p.per_hour:
                hits.append((hour[0], HOURLY, float(rate), -1, hour[1:]))
    return hits


def _latest(today: Rows, rows: list[int]) -> int:
    return min(rows, key=lambda row: (-int(today["time"][row]), int(today["event_key"][row])))


def _case(
    today: Rows, earlier: list[int], rows: list[int], place: int, p: PharmacistOverloadParameters
) -> int | None:
    """Return why two houses cannot both employ the pharmacist; ``place``: houses before it."""
    time, order = today["time"], today["event_key"]
    both = sorted(
        (int(time[row]), int(order[row]), which)
        for which, some in enumerate((earlier, rows))
        for row in some
        if time[row] % DAY != 0
    )
    switches = sum(
        a[2] != b[2] and b[0] - a[0] < p.travel_minutes * MINUTE for a, b in pairwise(both)
    )
    if switches >= p.min_switches:
        return AT_ONCE
    first, second = today["place"][earlier[0]], today["place"][rows[0]]
    if float(load_regions().distance_km(first, second)) >= p.far_km:  # unknown: never
        return FAR
    if place + 1 >= p.many:
        return MANY
    return None
