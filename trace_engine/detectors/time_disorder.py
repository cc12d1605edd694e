"""Time disorder 时间异常/补录 (C15): recorded before it happened, or long after.

Definition
----------
Judged: every event with a record time; the others are skipped as ``no_record_time``. The event's
time is an interval: that moment, or for a date-only event the whole day.

*Fires* when

* ``early``: ``record_time < time - clock_skew`` (policy ``general.clock_skew_minutes``; ``time`` is
  the beginning of the day for a date-only event); or
* ``late``: ``record_time - end > max_lag_days`` days, ``end`` being ``time``, or for a date-only
  event the end of its day (24 h later).

observed = days between the end (``late``) or the beginning (``early``) of the event and its
record; threshold = ``max_lag_days``, or the clock skew in days. The subject is the enterprise
that scanned (the actor). Hits of one actor, day, drug and case are one finding. Severity: early 0.5;
late 0.2 + 0.1 × log2(lag / limit), at most 0.6 (with a limit of 0 days: 0.6).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np

from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DATE_ONLY, DAY, MINUTE, MISSING_TIME

_ZH = np.array(["早于业务发生时间", "晚于规定时限（补录）"])
_EN = np.array(["before they happened", "long after they happened"])


class TimeDisorderParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`TimeDisorder`."""

    max_lag_days: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=3660,
            description="How long after an event its record may come",
            extra_json_schema={"unit": "days", "zh": "允许的上传延迟天数"},
        ),
    ] = 7


class TimeDisorder(Detector[TimeDisorderParameters]):
    """Record times against event times."""

    id: ClassVar[str] = "time_disorder"
    title_zh: ClassVar[str] = "时间异常/补录"
    title_en: ClassVar[str] = "Recorded early or late"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("C15",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：篡改购销数据、追溯信息上传"
    )
    unit: ClassVar[str] = "days"
    needs: ClassVar[tuple[str, ...]] = ("record_time",)
    false_positives: ClassVar[str] = (
        "Corrections within the permitted time (do not fire), clocks that are off (tolerated). "
        "Not kept out: uploads after a network failure, migrations of old records in one go; ask "
        "for the system's reason first."
    )
    false_positives_zh: ClassVar[str] = (
        "规定时限内的更正（不触发）、时钟误差（容许）。未排除：网络故障后的补传、旧数据一次性迁移，"
        "请先问系统原因。"
    )
    parameters: ClassVar[type[Parameters]] = TimeDisorderParameters
    sentence_zh: ClassVar[str] = (
        "{subject}上传的{date}业务记录中，有{code_count}个追溯码的记录时间{problem_zh}"
        "，相差{observed:.1f}天，判定线{threshold:.2g}天。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} recorded {code_count} code(s) of {date} {problem_en} "
        "({observed:.1f} days apart, limit {threshold:.2g} days)."
    )

    def judge(self, data: Slice, parameters: TimeDisorderParameters) -> Verdict:
        """Judge the record times of a slice."""
        batch = data.batch
        stated = batch.record_time != MISSING_TIME
        skew = data.policy.general(data.first_day).clock_skew_minutes * MINUTE
        # A missing record time is the smallest integer: keep it out of the subtraction.
        lag = np.where(stated, batch.record_time, batch.time) - batch.time
        late_by = lag - np.where(batch.flags & DATE_ONLY, DAY, 0)
        early = stated & (lag < -skew)
        late = stated & (late_by > parameters.max_lag_days * DAY)
        rows = np.flatnonzero(early | late)
        case = late[rows].astype(np.int64)
        observed = np.where(case == 1, late_by[rows], -lag[rows]) / DAY
        ratio = np.where(case == 1, observed, 1.0) / max(parameters.max_lag_days, 1e-9)
        late_severity = np.minimum(0.6, 0.2 + 0.1 * np.log2(np.maximum(ratio, 1.0)))
        skipped = int(np.count_nonzero(~stated))
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=observed,
                threshold=np.where(case == 1, parameters.max_lag_days, skew / DAY),
                severity=np.where(case == 1, late_severity, 0.5),
                subject=batch.actor[rows],
                counterparty=np.full(len(rows), -1, np.int32),
                group=(case + 1).astype(np.uint64),
                extra={
                    "problem_zh": _ZH[case],
                    "problem_en": _EN[case],
                    "record_time": batch.record_time[rows],
                },
            ),
            judged=int(np.count_nonzero(stated)),
            skipped={"no_record_time": skipped} if skipped else {},
        )
