"""Serial run 连号销售 (C13): packs with consecutive serials "sold" one right after the other.

Definition
----------
A national code is 7 digits of drug and pack level, 9 of serial and 4 of check; the serial is read
from its place (the check digits are not public and are left out).

Looked at: new sales to persons (role ``PERSON_SALE``, signal ``NEW_SALE``) with a known giver. Skipped,
in this order: vaccinations and dispensing, and every sale by a medical institution of the registry
(``medical``: wards and campaigns use up a case in its order); codes without such a serial
(``no_serial``); packs not at the scanned level of ``_scanning`` (``case``); sales that bear a date only
(``date_only``). The rest is judged, day by day, seller by seller and drug by drug. A sale that is
made void on its day does not count.

Of several sales of one serial on a day the earliest counts (by time, event key). Two neighbouring
serials s and s + 1 are *linked* when their sales lie at most ``gap_seconds`` apart, whichever came
first; a *run* is a longest chain of links. Neither the order of rows nor that of the day matters.

*Fires* for a run of at least ``serials`` packs with at least ``sales`` different precise times (see
``_scanning``) and ``sales`` different sales (order, else bill, else buyer, else the event itself): one
buyer who takes a whole case, and a till that uploads its day at one moment, are no run. observed =
packs, threshold = ``serials``. The packs of a run are one finding (group: its first serial). Subject:
the seller. Severity 0.5 + 0.1 × (packs / ``serials`` - 1), at most 0.9.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._scanning import days_in, earliest, precise, single, taken, timed
from trace_engine.detectors._shared import parties_of_type
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
from trace_engine.events.batch import DAY, NATIONAL_LIMIT, SECOND
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import MEDICAL_TYPES

Int64 = npt.NDArray[np.int64]

_CHECKS = np.uint64(10**4)  # codes with one serial: four check digits
_SERIALS = 10**9  # serials of one drug and pack level
_VOID = -1  # in place of a serial: the event makes the sale void that stands in ``sale``
_REASONS = ("medical", "no_serial", "case", "date_only")
_RETAIL_SALE, _NEW_SALE = int(EventKind.RETAIL_SALE), np.uint32(NEW_SALE)
_NATIONAL_LIMIT, _DAY = np.uint64(NATIONAL_LIMIT), np.int64(DAY)
_BUCKETS = 1 << 16
_BLOCK = 5  # serials are counted in blocks of 32


class SerialRunParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`SerialRun`."""

    serials: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100_000,
            description="Consecutive serials that make a run",
            extra_json_schema={"unit": "packs", "zh": "连号达到该包装数"},
        ),
    ] = 20
    sales: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Different sales, and different times, that a run must span",
            extra_json_schema={"unit": "sales", "zh": "连号须分属的销售笔数和时刻数"},
        ),
    ] = 5
    gap_seconds: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=86_400,
            description="Longest time between the sales of two neighbouring serials",
            extra_json_schema={"unit": "seconds", "zh": "相邻序号销售的最长间隔"},
        ),
    ] = 60


class SerialRun(KeyedDetector[SerialRunParameters]):
    """Consecutive serials sold at one seller within moments of each other."""

    id: ClassVar[str] = "serial_run"
    title_zh: ClassVar[str] = "连号销售"
    title_en: ClassVar[str] = "Serials sold in a run"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "seller and drug"
    rows: ClassVar[tuple[str, ...]] = ("C13",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：严禁企业或运营服务商违规替代刷码"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ()
    false_positives: ClassVar[str] = (
        "Hospitals and vaccination campaigns that use up a case (left out), one buyer taking a "
        "whole case (several sales are needed), a till that uploads its day at one moment "
        "(several times are needed), a new case sold over a day (serials must follow within "
        "moments), bills with a date only and sales made void the same day (left out)."
    )
    false_positives_zh: ClassVar[str] = (
        "医院和接种活动用完整箱（不计）、一名购买人买整箱（须为多笔销售）、收银系统一次上传全天销售（"
        "须有多个时刻）、新开一箱卖了一天（各码须接连售出）、只有日期的单据、当日冲红的销售（不计）。"
    )
    parameters: ClassVar[type[Parameters]] = SerialRunParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}{observed:.0f}个序号连续的包装在{minutes:.0f}分钟内分{sale_count}笔"
        "售予个人（判定线{threshold:.0f}个），自追溯码{code}起，疑似替代刷码核销。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} booked {observed:.0f} packs of {drug} with consecutive serials as "
        "{sale_count} sales to persons within {minutes:.0f} minute(s) (limit {threshold:.0f}), "
        "beginning with code {code}: codes were probably read off, not sold."
    )

    def select(self, data: Slice, parameters: SerialRunParameters) -> tuple[Rows, Verdict]:
        """Return the retail sales of packs with a serial, and the voids of their days."""
        batch = data.batch
        sales = data.rows_of(Role.PERSON_SALE)
        medical = parties_of_type(data, MEDICAL_TYPES)
        rows, counts = np.empty(len(sales), np.int64), np.zeros(len(_REASONS), np.int64)
        m = _select(
            sales,
            batch.kind,
            data.custody.signal,
            batch.source,
            batch.code,
            batch.time,
            medical,
            np.empty(0, np.bool_) if _all_single(data) else single(data, sales),
            rows,
            counts,
        )
        kept = rows[:m]
        voids = data.rows_of(Role.VOID)
        voids = voids[batch.voids[voids] != 0]
        skipped = {reason: n for reason, n in zip(_REASONS, counts.tolist(), strict=True) if n}
        serial = (batch.code[kept] // _CHECKS).astype(np.int64)
        columns: Rows = {
            "seq": data.seq_base + kept,
            "time": batch.time[kept],
            "event_key": batch.event_key[kept],
            "source": batch.source[kept],
            "serial": serial,
            "sale": _sale(data, kept),
        }
        if len(voids):
            more: Rows = {
                "seq": data.seq_base + voids,
                "time": batch.time[voids],
                "event_key": batch.event_key[voids],
                "source": batch.source[voids],
                "serial": np.full(len(voids), _VOID),
                "sale": batch.voids[voids],
            }
            columns = {name: np.concatenate([columns[name], more[name]]) for name in columns}
            columns = taken(columns, np.argsort(columns["time"], kind="stable"))
        return columns, Verdict(judged=m, skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: a run does not go on into the next day."""
        return {}

    def advance(
        self, rows: Rows, state: State, parameters: SerialRunParameters, last_day: int
    ) -> Hits | None:
        """Judge day by day."""
        found = [_judge_day(today, parameters) for _, today in days_in(rows)]
        parts = [part for part in found if part is not None]
        if not parts:
            return None
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        packs = joined["packs"].astype(np.float64)
        return Hits(
            seq=joined["seq"],
            observed=packs,
            threshold=np.full(len(packs), float(parameters.serials)),
            severity=np.clip(0.5 + 0.1 * (packs / parameters.serials - 1), 0, 0.9).astype(
                np.float32
            ),
            group=(joined["first"] + 1).astype(np.uint64),
            extra={
                "sale_count": joined["sale_count"],
                "minutes": np.maximum(np.ceil(joined["span"] / (60 * SECOND)), 1.0),
            },
        )


def _all_single(data: Slice) -> bool:
    """Return whether nothing in a slice can be more than a single pack (cheaply; else look)."""
    batch = data.batch
    return not ({"parent", "pack_level"} & batch.optional.keys()) and bool(
        batch.quantity.max(initial=0) <= 1
    )


@kernel
def _select(
    sales: Int64,
    kind: npt.NDArray[np.int8],
    signal: npt.NDArray[np.uint32],
    source: npt.NDArray[np.int32],
    code: npt.NDArray[np.uint64],
    time: Int64,
    medical: npt.NDArray[np.bool_],
    alone: npt.NDArray[np.bool_],
    rows: Int64,
    counts: Int64,
) -> int:
    """Write the rows to judge; return how many. ``alone`` (empty: all are); ``counts`` skipped."""
    m = 0
    for k in range(len(sales)):
        i = sales[k]
        if (signal[i] & _NEW_SALE) == 0 or source[i] < 0:
            continue
        if kind[i] != _RETAIL_SALE or medical[source[i]]:
            counts[0] += 1
        elif code[i] >= _NATIONAL_LIMIT:
            counts[1] += 1
        elif len(alone) > 0 and not alone[k]:
            counts[2] += 1
        elif time[i] % _DAY == 0:
            counts[3] += 1
        else:
            rows[m] = i
            m += 1
    return m


def _sale(data: Slice, rows: Int64) -> npt.NDArray[np.uint64]:
    """Return what makes events one sale: order, else bill, else buyer, else the event itself."""
    batch = data.batch
    found = batch.event_key[rows]
    for column in (batch.buyer, batch.bill, batch.order):
        stated = column[rows]
        found = np.where(stated != 0, stated, found)
    return found


def _judge_day(today: Rows, p: SerialRunParameters) -> dict[str, npt.NDArray[Any]] | None:
    """Return the packs of all runs of a day that fire, with the run's figures."""
    is_void = today["serial"] == _VOID
    made_void = today["sale"][is_void]
    counted = ~is_void & timed(today["time"])
    if len(made_void):
        counted &= ~np.isin(today["event_key"], made_void)
    index = np.flatnonzero(counted)
    # Every pack of a run has the next ones in its block of 32 serials or the two beside it: where
    # too few sales fall together, there is none. (Blocks that share a bucket only keep more.)
    block = (today["serial"][index] >> _BLOCK) + today["source"][index].astype(np.int64) * 40_503
    bucket = block & (_BUCKETS - 1)
    count = np.bincount(bucket, minlength=_BUCKETS)
    around = count + np.roll(count, 1) + np.roll(count, -1)
    index = index[around[bucket] >= min(p.serials, 1 << _BLOCK)]
    if len(index) < p.serials:
        return None
    index = earliest(today, index)
    order = np.lexsort((today["serial"][index], today["source"][index]))
    index = index[order]
    source, serial = today["source"][index], today["serial"][index]
    first = np.ones(len(index), np.bool_)
    first[1:] = (source[1:] != source[:-1]) | (serial[1:] != serial[:-1])
    index, source, serial = index[first], source[first], serial[first]
    time = today["time"][index]
    linked = (
        (source[1:] == source[:-1])
        & (serial[1:] == serial[:-1] + 1)
        & (serial[1:] // _SERIALS == serial[:-1] // _SERIALS)
        & (np.abs(time[1:] - time[:-1]) <= p.gap_seconds * SECOND)
    )
    starts = np.append(np.flatnonzero(np.append(True, ~linked)), len(index))
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for run in np.flatnonzero(np.diff(starts) >= p.serials).tolist():
        mine = slice(int(starts[run]), int(starts[run + 1]))
        sales = len(np.unique(today["sale"][index[mine]]))
        moments = np.unique(time[mine])
        if min(sales, int(np.count_nonzero(precise(moments)))) < p.sales:
            continue
        n = mine.stop - mine.start
        parts.append(
            {
                "seq": today["seq"][index[mine]],
                "packs": np.full(n, n),
                "first": np.full(n, serial[mine.start]),
                "sale_count": np.full(n, sales),
                "span": np.full(n, time[mine].max() - time[mine].min()),
            }
        )
    if not parts:
        return None
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
