"""Impossible travel 不可能行程 (C10): two scans of a code farther apart than goods can travel.

For two physical scans in a row at known places at least ``min_km`` apart: fires when the distance
over the longest time they can have lain apart (a day-only bill counts to the end of its day, and both
clocks may be off by ``general.clock_skew_minutes``) is faster than ``speed_kmh``, or
``speed_shipped_kmh`` when the scan before was an outgoing one (goods may fly). Distances are great
circles between the points of the two regions (city or county; provinces are no place). observed =
km/h, threshold = the limit. Severity = 0.5, rising to 1 at five times the limit. Subject: who made the
second scan: of a receipt the receiver (who sent the goods need not know that they were booked in
before they came), else the giver, or where there is none the receiver.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.detectors.base import (
    ROLE_OF,
    Detector,
    Evidence,
    Family,
    Int64,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DATE_ONLY, DAY, HOUR, MINUTE, SECOND
from trace_engine.events.kinds import Role
from trace_engine.registry.regions import load_regions

_RECEIPTS = np.array([Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE], np.int8)


class ImpossibleTravelParameters(Parameters, frozen=True):
    """Limits of impossible travel."""

    min_km: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=20000,
            description="Shortest distance judged",
            extra_json_schema={"unit": "km", "zh": "两地最小距离"},
        ),
    ] = 100.0
    speed_kmh: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=5000,
            description="Fastest travel without a shipment between",
            extra_json_schema={"unit": "km/h", "zh": "无出库记录时的最高速度"},
        ),
    ] = 150.0
    speed_shipped_kmh: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=5000,
            description="Fastest travel of a shipment",
            extra_json_schema={"unit": "km/h", "zh": "有出库记录时的最高速度"},
        ),
    ] = 800.0


class ImpossibleTravel(Detector[ImpossibleTravelParameters]):
    """See the module."""

    id = "impossible_travel"
    title_zh = "不可能行程"
    title_en = "Impossible travel"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.REGION
    key = "code"
    rows = ("C10",)
    basis = "药品经营环节“清源”巩固提升行动：追溯码状态异常、流向异常"
    unit = "km/h"
    needs: ClassVar[tuple[str, ...]] = ("regions of scans (stated or registered)",)
    false_positives: ClassVar[str] = (
        "Look-ups are no scans of goods; direct shipments (207) are not scanned by their seller; "
        "enterprises with several registered places are judged only where the place is stated."
    )
    false_positives_zh: ClassVar[str] = (
        "查询不是货物扫码；直调（207）由他人发货，不由销售方扫码；"
        "登记有多处场所的企业仅在填报了地点时参与判定。"
    )
    parameters = ImpossibleTravelParameters
    sentence_zh = (
        "{drug}（批号{batch_no}）{packs_zh}于{last_time}在{last_region}被扫码，"
        "于{time}又在{here_region}被扫码，相距约{km:.0f}公里，折合时速不低于{observed:.0f}公里"
        "（限值{threshold:.0f}公里/小时），同一包装不可能在此时间内到达，疑为复制码或未随货扫码。"
    )
    sentence_en = (
        "{code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code}, scanned in "
        "{last_region} ({last_time}) and again in {here_region} ({time}), about {km:.0f} km away: "
        "at least {observed:.0f} km/h, limit {threshold:.0f} km/h. One pack cannot have been at both: a "
        "copied code, or a scan without the goods."
    )

    def judge(self, data: Slice, parameters: ImpossibleTravelParameters) -> Verdict:
        """Judge every pair of scans at two known places."""
        c, b = data.custody, data.batch
        rows = c.rows(signals.PLACED)
        judged = len(rows)
        # Whole seconds, as the scan before is kept.
        seconds = b.time[rows] // SECOND * SECOND - c.last_time(rows)
        day_only = (b.flags[rows] & DATE_ONLY) != 0
        skew = data.policy.general(data.first_day).clock_skew_minutes * MINUTE
        gap = seconds + np.where(day_only, DAY, 0) + 2 * skew
        shipped = (c.signal[rows] & np.uint32(signals.SHIPPED_BETWEEN)) != 0
        limit = np.where(shipped, parameters.speed_shipped_kmh, parameters.speed_kmh)
        # No two places are farther apart than half the way round the earth.
        near = gap < 20100 / limit * HOUR
        rows, gap, limit = rows[near], gap[near], limit[near]
        km = load_regions().distance_km(c.last_place(rows), c.place(rows))
        hours = np.maximum(gap, 1) / HOUR
        speed = km / hours
        fired = (km >= parameters.min_km) & (speed > limit)
        rows, km, speed, limit = rows[fired], km[fired], speed[fired], limit[fired]
        subject, other = _parties(data, rows)
        return Verdict(
            hits_of(
                data,
                rows,
                observed=speed,
                threshold=limit,
                severity=0.5 + 0.125 * (speed / limit - 1),
                subject=subject,
                counterparty=other,
                extra={
                    "km": km,
                    "last_time": c.last_time(rows),
                    "last_region": c.last_place(rows),
                    "here_region": c.place(rows),
                },
            ),
            judged,
        )


def _parties(data: Slice, rows: Int64) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return who scanned, and the other side: a receipt is the receiver's scan, not the giver's."""
    b = data.batch
    source, target = b.source[rows], b.target[rows]
    received = np.isin(ROLE_OF[b.kind[rows]], _RECEIPTS) & (target >= 0)
    received |= source < 0
    other = np.where(received, source, target)
    return np.where(received, target, source), other
