"""Prescription mill 自动生成处方 (B8): more prescriptions of one doctor than a person can write.

Definition
----------
Judged: retail sales (see ``_retail``) with a prescription number that name a doctor and have a time of
day; the others are skipped as ``no_doctor``, then as ``date_only``. Each doctor is judged
for each house and day.

Of each prescription counts its first sale of the day, by (time, event_key). The day is cut into slots
of ``slot_seconds``; of the prescriptions first sold in one slot, the first counts. (A system that sends
a day's sales in one go stamps them with one time, or with times seconds apart: they fill few slots,
however many they are.) At each of those that count, *rate* = how many count in the hour up to it.

*Fires* on a day on which the highest rate is above ``per_hour`` and above the rate with which this
doctor and house fired in the ``again_days`` days before. The hit is the sale at which the highest rate
was first reached. observed = that rate, threshold = ``per_hour``. Related: the sales that count in the
hour before (at most 16, latest first). Severity = 0.4 + 0.3 × (rate / per_hour - 1), at most 1.
Subject: the seller of that sale.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from trace_engine.core.keys import KeySpace
from trace_engine.detectors._quota import days_of
from trace_engine.detectors._retail import (
    NEVER,
    SlotSeconds,
    busiest_hour,
    house_of,
    houses,
    number_of,
    optional,
    related_to,
    retail_sales,
)
from trace_engine.detectors.base import (
    Evidence,
    Family,
    Hits,
    Jurisdiction,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY, PRESCRIPTION, SECOND


class PrescriptionMillParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PrescriptionMill`."""

    per_hour: Annotated[
        int,
        msgspec.Meta(
            ge=5,
            le=1000,
            description="Prescriptions of one doctor an hour that a person can still write",
            extra_json_schema={"unit": "prescriptions", "zh": "医师每小时开具处方数上限"},
        ),
    ] = 30
    slot_seconds: SlotSeconds = 20
    again_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="How long only a higher rate fires again",
            extra_json_schema={"unit": "days", "zh": "多少天内仅在超过前值时再次报告"},
        ),
    ] = 30


class PrescriptionMill(KeyedDetector[PrescriptionMillParameters]):
    """Prescriptions of one doctor an hour."""

    id: ClassVar[str] = "prescription_mill"
    title_zh: ClassVar[str] = "疑似自动生成处方"
    title_en: ClassVar[str] = "Prescription mill"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "doctor and house"
    rows: ClassVar[tuple[str, ...]] = ("B8",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）；《内蒙古自治区药品网络销售监督管理"
        "实施办法（试行）》第二十八条：对处方进行审核调配"
    )
    unit: ClassVar[str] = "prescriptions per hour"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "rx_no", "doctor_id")
    jurisdiction: ClassVar[Jurisdiction] = Jurisdiction.HEALTH_COMMISSION
    false_positives: ClassVar[str] = (
        "Systems that send a day's sales at once (one time, or times seconds apart: the sales "
        "must spread over the hour), dates without a time (not judged), hospitals (left out), "
        "one doctor's patients who go to many shops (each house by itself)."
    )
    false_positives_zh: ClassVar[str] = (
        "一次性上传全天销售的系统（时刻相同或只差数秒：按不同时段计，不触发）、只有日期没有时刻的记录（"
        "不判定）、医院（不计）、同一医师的患者分散到多家药店（各店分别计算）。"
    )
    parameters: ClassVar[type[Parameters]] = PrescriptionMillParameters
    sentence_zh: ClassVar[str] = (
        "{subject}至{time}的一小时内凭同一医师的{observed:.0f}张处方售药（上限{threshold:.0f}张），"
        "疑似自动生成处方；其中一张用于{drug}（{packs_zh}）。"
    )
    sentence_en: ClassVar[str] = (
        "In the hour to {time} {subject} sold on {observed:.0f} prescriptions of one doctor (limit "
        "{threshold:.0f}), which suggests that nobody wrote them; one of them is for {drug} (code "
        "{code})."
    )

    def select(self, data: Slice, parameters: PrescriptionMillParameters) -> tuple[Rows, Verdict]:
        """Return timed retail sales that name a doctor and a prescription."""
        batch = data.batch
        rows, skipped = retail_sales(data, prescription=False, having=PRESCRIPTION)
        named = optional(batch, "doctor", rows, -1, np.int32) >= 0
        timed = batch.time[rows] % DAY != 0
        for reason, left_out in (("no_doctor", ~named), ("date_only", named & ~timed)):
            if left_out.any():
                skipped[reason] = int(np.count_nonzero(left_out))
        rows = rows[named & timed]
        columns: Rows = {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "source": batch.source[rows],
            "group": houses(data, rows),
            "doctor": optional(batch, "doctor", rows, -1, np.int32),
            "prescription": optional(batch, "prescription", rows, 0, np.uint64),
        }
        return columns, Verdict(judged=len(rows), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: the rate each doctor and house fired with, and on which day."""
        state: State = {"rate": np.empty(0, np.int64), "fired": np.empty(0, np.int64)}
        KeySpace(state, "mill")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: PrescriptionMillParameters, last_day: int
    ) -> Hits | None:
        """Judge day by day."""
        p, found = parameters, list[Any]()
        for day, today in days_of(rows):
            house = house_of(today)
            doctor = today["doctor"]
            # Too few sales in all cannot make too many prescriptions in an hour.
            order = np.lexsort((today["event_key"], today["time"], house, doctor))
            order = order[today["time"][order] % DAY != 0]  # late ones are taken in at midnight
            if len(order) <= p.per_hour:
                continue
            begins = np.ones(len(order), np.bool_)
            begins[1:] = (doctor[order][1:] != doctor[order][:-1]) | (
                house[order][1:] != house[order][:-1]
            )
            starts = np.append(np.flatnonzero(begins), len(order))
            for k in np.flatnonzero(np.diff(starts) > p.per_hour).tolist():
                mine = order[starts[k] : starts[k + 1]]
                rate, hour = busiest_hour(today, mine, "prescription", p.slot_seconds * SECOND)
                if rate <= p.per_hour:
                    continue
                one = int(mine[0])
                key = number_of(
                    state, "mill", int(doctor[one]), int(house[one]), rate=0, fired=NEVER
                )
                recent = day - state["fired"][key] <= p.again_days
                if recent and rate <= state["rate"][key]:
                    continue
                state["rate"][key], state["fired"][key] = rate, day
                lead, rest = hour[0], today["seq"][hour[1:]].tolist()
                found.append((int(today["seq"][lead]), rate, int(today["event_key"][lead]), rest))
        if not found:
            return None
        seq, rates, group, related = zip(*found, strict=True)
        observed = np.array(rates, np.float64)
        severity = 0.4 + 0.3 * (observed / p.per_hour - 1)
        return Hits(
            seq=np.array(seq, np.int64),
            observed=observed,
            threshold=np.full(len(seq), float(p.per_hour)),
            severity=np.clip(severity, 0, 1).astype(np.float32),
            group=np.array(group, np.uint64),
            related=related_to(related),
        )
