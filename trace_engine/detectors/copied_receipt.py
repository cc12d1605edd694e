"""Copied receipt 抓取录入 (C14): the receiver entered the supplier's list instead of scanning.

Definition
----------
*Scanned level* is defined in ``_scanning``. Only sources that keep a time for each code can show a
copy, and those name the device or the operator: of the receipts (role ``RECEIVE``) those without device
and operator are skipped as ``no_device``, those without a bill or a receiver as ``no_bill``, those that
are not at the scanned level or bear a date only as ``no_scan_time``. The rest is judged, receipt bill by
receipt bill of each receiver and day.

A receipt *answers* a shipment when the event of its code before it is a shipment (role ``SHIP``) under
a bill, by its supplier to its receiver, at a time of day not after its own.

A bill is a *copied list* when every judged receipt of it that day answers a shipment, all under one
bill of one supplier, they are n >= ``codes``, no two stand the other way round (what was shipped
strictly earlier was never received strictly later), and that says something: by chance it would happen
with a probability of at most r! s! / n! <= ``chance``, r! the product of the factorials of how many
codes bear each time of receipt, s! that of the shipment. Order within a bill is that of scan times; the
order of rows is no part of an event, and equal times have no order: a bill confirmed as a whole bears
one time (r! = n!) and is no copy. (What the shipment held beyond that may follow later.)

It *fires* when it is a copied list, and

* *fast*: (last - first + 1 s) × 100 / codes < ``seconds_per_100_codes``; or
* *early*: both events state regions at least ``min_km`` apart, and the time from the last shipment to
  the first receipt, plus twice the clock skew of the policy, is less than the distance takes at
  ``speed_kmh``. Region codes of a whole province are no place.

observed = codes of the bill, threshold = ``codes``. Hits of one bill are one finding. Subject: the
receiver; counterparty: the supplier. Severity 0.6 where one holds, 0.8 for both.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._scanning import (
    days_in,
    names_instruments,
    optional,
    runs,
    single,
    timed,
)
from trace_engine.detectors.base import (
    ROLE_OF,
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
from trace_engine.events.batch import HOUR, MINUTE, SECOND
from trace_engine.events.kinds import Role
from trace_engine.registry.regions import load_regions

Int64 = npt.NDArray[np.int64]

_FAST, _EARLY = 1, 2
_WHY_ZH = np.array(
    ["", "速度超过手工扫码", "早于货物可能到达的时间", "速度超过手工扫码且早于货物可能到达的时间"]
)
_WHY_EN = np.array(
    [
        "",
        "faster than a hand can scan",
        "before the goods could arrive",
        "faster than a hand can scan and before the goods could arrive",
    ]
)
_PAST = ("time", "kind", "source", "target", "bill", "source_region")


class CopiedReceiptParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`CopiedReceipt`."""

    codes: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100_000,
            description="Fewest codes that make an order",
            extra_json_schema={"unit": "codes", "zh": "判断顺序所需的最少码数"},
        ),
    ] = 10
    chance: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Highest probability that the orders agree by chance",
            extra_json_schema={"unit": "probability", "zh": "顺序偶然一致的最大概率"},
        ),
    ] = 1e-6
    seconds_per_100_codes: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=10_000.0,
            description="Scanning of 100 single packs that is too fast for a hand",
            extra_json_schema={"unit": "seconds", "zh": "每百码用时低于该秒数视为非手工扫码"},
        ),
    ] = 10.0
    min_km: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=10_000.0,
            description="Shortest distance for which travel time is judged",
            extra_json_schema={"unit": "km", "zh": "判断在途时间的最短距离"},
        ),
    ] = 100.0
    speed_kmh: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=10_000.0,
            description="Fastest transport of goods from door to door",
            extra_json_schema={"unit": "km/h", "zh": "货物门到门运输最高速度"},
        ),
    ] = 300.0


class CopiedReceipt(KeyedDetector[CopiedReceiptParameters]):
    """Receipt bills against the order and times of the shipment they answer."""

    id: ClassVar[str] = "copied_receipt"
    title_zh: ClassVar[str] = "抓取录入"
    title_en: ClassVar[str] = "Receipt copied from the shipment"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "receiver and bill"
    rows: ClassVar[tuple[str, ...]] = ("C14",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：严禁企业或运营服务商随意录入抓取信息"
    )
    unit: ClassVar[str] = "codes"
    needs: ClassVar[tuple[str, ...]] = ("device_id or operator_id", "bill_code")
    answerable: ClassVar[Literal["giver", "receiver"]] = "receiver"
    false_positives: ClassVar[str] = (
        "Whole bills confirmed without opening the cases, which is legal (one time for all "
        "codes: there is no order to compare), cases that expand by themselves (left out), goods "
        "unpacked in the order in which they were packed (order alone does not fire), air "
        "freight (the speed limit allows for it), clocks that are off (tolerated)."
    )
    false_positives_zh: ClassVar[str] = (
        "整单验收不开箱（合规：各码时间相同，无顺序可比）、整箱扫码自动展开（不计）、按装箱顺序取出（"
        "仅顺序相同不触发）、空运（速度限值按空运设定）、时钟误差（容许）。"
    )
    parameters: ClassVar[type[Parameters]] = CopiedReceiptParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}入库单{bill}中的{observed:.0f}个追溯码与{counterparty}出库单的扫码顺序完全一致，"
        "在{seconds:.0f}秒内录完，距对方出库{hours:.1f}小时，{why_zh}，疑似抓取上游数据录入。"
    )
    sentence_en: ClassVar[str] = (
        "The {observed:.0f} codes of receipt bill {bill} of {subject} ({date}) follow the scanning "
        "order of {counterparty}'s shipment exactly, entered within {seconds:.0f} s, {hours:.1f} h "
        "after it left: {why_en}. The list was probably copied, not scanned."
    )

    def select(self, data: Slice, parameters: CopiedReceiptParameters) -> tuple[Rows, Verdict]:
        """Return single receipts with a scan time, and the shipments they answer."""
        batch = data.batch
        if not names_instruments(data):
            total = data.count_of(Role.RECEIVE)
            return self._columns(data, np.empty(0, np.int64)), Verdict(
                skipped={"no_device": total} if total else {}
            )
        rows = data.rows_of(Role.RECEIVE)
        total = len(rows)
        rows = rows[(optional(data, "device", rows) >= 0) | (optional(data, "operator", rows) >= 0)]
        billed = rows[(batch.bill[rows] != 0) & (batch.target[rows] >= 0)]
        kept = billed[single(data, billed) & timed(batch.time[billed])]
        skipped = {
            "no_device": total - len(rows),
            "no_bill": len(rows) - len(billed),
            "no_scan_time": len(billed) - len(kept),
        }
        return self._columns(data, kept), Verdict(
            judged=len(kept), skipped={reason: n for reason, n in skipped.items() if n}
        )

    @staticmethod
    def _columns(data: Slice, rows: Int64) -> Rows:
        batch = data.batch
        before = data.custody.previous[rows]
        known = np.flatnonzero(before >= 0)
        ship_time = np.full(len(rows), -1, np.int64)
        ship_bill = np.zeros(len(rows), np.uint64)
        km = np.full(len(rows), -1.0)
        if len(known):
            at = rows[known]
            past = data.look_up(_PAST, before[known])
            answers = (
                (ROLE_OF[past["kind"]] == int(Role.SHIP))
                & (past["bill"] != 0)
                & (past["source"] == batch.source[at])
                & (past["target"] == batch.target[at])
                & timed(past["time"])
                & (past["time"] <= batch.time[at])
            )
            ship_time[known[answers]] = past["time"][answers]
            ship_bill[known[answers]] = past["bill"][answers]
            km[known] = _distance(past["source_region"], batch.target_region[at])
        skew = data.policy.general(data.first_day).clock_skew_minutes
        return {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "source": batch.source[rows],
            "target": batch.target[rows],
            "bill": batch.bill[rows],
            "ship_bill": ship_bill,
            "ship_time": ship_time,
            "km": km,
            "skew": np.full(len(rows), skew, np.int32),
        }

    def new_state(self) -> State:
        """Return empty state: a bill is judged by what was scanned on one day."""
        return {}

    def advance(
        self, rows: Rows, state: State, parameters: CopiedReceiptParameters, last_day: int
    ) -> Hits | None:
        """Judge the bills of each day."""
        parts = []
        for _, today in days_in(rows):
            order, starts = runs(today["target"], today["bill"])
            for i in np.flatnonzero(np.diff(starts) >= parameters.codes).tolist():
                part = _judge_bill(today, order[starts[i] : starts[i + 1]], parameters)
                if part is not None:
                    parts.append(part)
        if not parts:
            return None
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        why = joined["why"]
        return Hits(
            seq=joined["seq"],
            observed=joined["codes"].astype(np.float64),
            threshold=np.full(len(why), float(parameters.codes)),
            severity=np.where(why == _FAST | _EARLY, 0.8, 0.6).astype(np.float32),
            extra={
                "seconds": joined["seconds"],
                "hours": joined["hours"],
                "why_zh": _WHY_ZH[why],
                "why_en": _WHY_EN[why],
            },
        )


def _distance(
    origin: npt.NDArray[np.int16], goal: npt.NDArray[np.int16]
) -> npt.NDArray[np.float64]:
    """Return km between two places, -1 where one is unknown or a whole province."""
    regions = load_regions()
    out = np.full(len(origin), -1.0)
    known = (origin >= 0) & (goal >= 0)
    known &= ~regions.is_province[origin] & ~regions.is_province[goal]
    at = np.flatnonzero(known)
    if len(at) == 0:
        return out
    pairs, inverse = np.unique(np.stack([origin[at], goal[at]]), axis=1, return_inverse=True)
    km = np.array(
        [float(regions.distance_km(pairs[:1, i], pairs[1, i])[0]) for i in range(pairs.shape[1])]
    )
    out[at] = np.where(np.isnan(km), -1.0, km)[inverse.reshape(-1)]
    return out


def _log_ties(counts: Int64) -> float:
    """Return the logarithm of the product of the factorials of ``counts``."""
    return sum(math.lgamma(count + 1) for count in counts.tolist())


def _judge_bill(
    today: Rows, bill: Int64, p: CopiedReceiptParameters
) -> dict[str, npt.NDArray[Any]] | None:
    """Return the events of a bill with its figures if it fires."""
    time, shipped = today["time"][bill], today["ship_time"][bill]
    one_shipment = (today["ship_bill"][bill] == today["ship_bill"][bill[0]]).all()
    if (
        shipped.min() < 0
        or not one_shipment
        or (today["source"][bill] != today["source"][bill[0]]).any()
    ):
        return None
    n = len(bill)
    span, gap = int(time.max() - time.min()), int(time.min() - shipped.max())
    why = _FAST if (span + SECOND) * 100 < p.seconds_per_100_codes * SECOND * n else 0
    km = float(today["km"][bill].min())
    allowed = gap + 2 * int(today["skew"][bill[0]]) * MINUTE
    if km >= p.min_km and km >= 0 and allowed < km / p.speed_kmh * HOUR:
        why |= _EARLY
    if why == 0:
        return None
    order, starts = runs(shipped)
    ties = _log_ties(np.diff(starts)) + _log_ties(np.unique(time, return_counts=True)[1])
    if ties - math.lgamma(n + 1) > math.log(p.chance):
        return None
    latest = np.maximum.reduceat(time[order], starts[:-1])
    soonest = np.minimum.reduceat(time[order], starts[:-1])
    # What was shipped earlier was all received no later than the soonest of what came after.
    if (np.maximum.accumulate(latest)[:-1] > soonest[1:]).any():
        return None
    return {
        "seq": today["seq"][bill],
        "codes": np.full(n, n),
        "why": np.full(n, why),
        "seconds": np.full(n, np.ceil(span / SECOND)),
        "hours": np.full(n, gap / HOUR),
    }
