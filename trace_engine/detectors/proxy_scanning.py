"""Proxy scanning 违规替代刷码 (C13): somebody else, or a machine, scans in an enterprise's name.

Definition
----------
Needs ``registry.enterprises`` (else all are skipped as ``no_registry``). *Worked at*, *instrument*,
*scanned level* and *precise time* are defined in ``_scanning``. Looked at: events that ship, receive,
return, transfer or sell to a person. Skipped, in this order: without instrument (``no_device``); where
the enterprise worked at is not registered as pharmacy, chain store, medical institution or public
hospital, or has a warehouse registered in another region (``not_retail``: distributors have sorting
lines, and a third-party warehouse scans for its principals). The rest is judged, day by day, for each
enterprise X and instrument i.

*Scans* of X, i and a day: the judged events at the scanned level with more than a date; none where
more than half of them have no precise time (the system writes minutes). A bill (or all that state
none) whose scans of that day bear one single time was confirmed as a whole and counts as one scan.

The five signals of X and i on day D:

1. *shared*: a device, or an operator, that i's events at X on D name has worked at between
   ``enterprises`` and ``most_enterprises`` unrelated enterprises (groups of the registry count once)
   on the days D - days + 1 to D. (An id at more places than that is a word many systems use.)
2. *fast*: some ``run_codes`` scans in a row, that is by time, are so near that
   (run_codes - 1) / (last - first + 1 s) > ``codes_per_second``;
3. *regular*: of some stretch of at least ``run_codes`` scans, each at most ``pause_seconds`` after the
   one before, the intervals vary (standard deviation / mean, mean above 0) by less than ``variation``;
4. *at once*: more than ``same_time_codes`` scans bear one time. (Such scans do not count for 2 and 3:
   one fact is one signal.)
5. *in and out*: at least ``quick_codes`` codes were sold to persons less than ``quick_seconds`` after
   their event before, which was their receipt by X; both with more than a date.

Order within a bill is that of scan times, never that of rows; equal times have no order.

*Fires* when at least ``signals`` hold, and more than in any firing of X and i on the ``days`` - 1 days
before. observed = signals, threshold = ``signals``. The events are those of X and i on D: the one with
the smallest (time, event key) leads, up to 16 more in that order are related: first those of bills
that bear one of the signals 2 to 4 by themselves and those sold as in 5, then the others. Subject X;
no counterparty. Severity 0.5, and 0.15 for each signal more than ``signals``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.detectors._proxy_signs import (
    Int64,
    ProxyScanningParameters,
    fired_of,
    judge_day,
    links_of,
)
from trace_engine.detectors._scanning import (
    HANDLED,
    days_in,
    instrument_rows,
    optional,
    related_of,
    single,
    timed,
    worked_at,
)
from trace_engine.detectors._shared import parties_of_type
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
from trace_engine.events.batch import SECOND
from trace_engine.events.kinds import Role
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

_NAMES_ZH = ("设备或操作员为多家单位共用", "扫码过快", "间隔过于均匀", "多码同一时刻", "入库即售")
_NAMES_EN = (
    "device or operator shared by enterprises",
    "faster than by hand",
    "evenly spaced",
    "many codes at one time",
    "received and sold at once",
)
_SIGNALS_ZH = np.array(
    ["、".join(n for b, n in enumerate(_NAMES_ZH) if mask >> b & 1) for mask in range(32)]
)
_SIGNALS_EN = np.array(
    [", ".join(n for b, n in enumerate(_NAMES_EN) if mask >> b & 1) for mask in range(32)]
)


class ProxyScanning(KeyedDetector[ProxyScanningParameters]):
    """Five signs of scanning by others, by enterprise and instrument."""

    id: ClassVar[str] = "proxy_scanning"
    title_zh: ClassVar[str] = "违规替代刷码"
    title_en: ClassVar[str] = "Scanning by proxy"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "enterprise and device"
    rows: ClassVar[tuple[str, ...]] = ("C13",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：严禁企业或运营服务商违规替代刷码"
    )
    unit: ClassVar[str] = "signals"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "device_id or operator_id")
    false_positives: ClassVar[str] = (
        "Case scans that expand by themselves (only the scanned level counts), head offices "
        "uploading for their stores (one group counts once), bills with a date or minutes only "
        "and bills confirmed as a whole (no rate, no rhythm), third-party warehouses and sorting "
        "lines (only retailers and medical institutions with one place are judged), device ids "
        "that many systems use as a default (left out above a number of enterprises)."
    )
    false_positives_zh: ClassVar[str] = (
        "整箱扫码自动展开（只计实际扫描的层级）、总部为门店上传（同一集团算一家）、"
        "只有日期或分钟的单据和整单确认（不计速度和节奏）、第三方仓库和分拣线（"
        "只判定单一场所的零售企业和医疗机构）、多个系统共用的默认设备号（使用单位过多的不计）。"
    )
    parameters: ClassVar[type[Parameters]] = ProxyScanningParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}的扫码具有{observed:.0f}项替代刷码特征（{signals_zh}），判定线为"
        "{threshold:.0f}项；所用设备或操作员近{window_days}天为{enterprise_count}家互不关联的单位扫码，"
        "当日扫码{scan_count}次。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} the scans of {subject} bear {observed:.0f} signs of scanning by proxy "
        "({signals_en}; limit {threshold:.0f}); the device or operator worked for "
        "{enterprise_count} unrelated enterprise(s) in {window_days} days and made {scan_count} "
        "scan(s) here that day."
    )

    def select(self, data: Slice, parameters: ProxyScanningParameters) -> tuple[Rows, Verdict]:
        """Return the events of retailers and medical institutions that name an instrument."""
        view = data.registry
        rows, skipped = instrument_rows(data, *HANDLED)
        retail = parties_of_type(data, RETAIL_TYPES | MEDICAL_TYPES)
        judged_here = retail & np.append(view.party_single_place, False)
        kept = rows[judged_here[worked_at(data, rows)]]
        skipped["not_retail"] = len(rows) - len(kept)
        return self._columns(data, kept, parameters), Verdict(
            judged=len(kept), skipped={reason: n for reason, n in skipped.items() if n}
        )

    @staticmethod
    def _columns(data: Slice, rows: Int64, parameters: ProxyScanningParameters) -> Rows:
        batch = data.batch
        party = worked_at(data, rows)
        exact = timed(batch.time[rows])
        return {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "worked_party": party,
            "group": data.registry.party_group[party].astype(np.int64),
            "device": optional(data, "device", rows),
            "operator": optional(data, "operator", rows),
            "bill": batch.bill[rows],
            "scan": single(data, rows) & exact,
            "quick": _quick(data, rows, party, exact, parameters.quick_seconds),
        }

    def new_state(self) -> State:
        """Return empty state: who used what on the last days, and what fired."""
        state: State = {}
        links_of(state)
        fired_of(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: ProxyScanningParameters, last_day: int
    ) -> Hits | None:
        """Judge each day with the days before it."""
        found: list[tuple[Any, ...]] = []
        for day, today in days_in(rows):
            found += judge_day(day, today, state, parameters)
        if not found:
            return None
        seq, party, mask, enterprises, scans, key, related = zip(*found, strict=True)
        masks = np.array(mask, np.int64)
        count = np.array([bin(one).count("1") for one in mask], np.float64)
        m = len(found)
        return Hits(
            seq=np.array(seq, np.int64),
            observed=count,
            threshold=np.full(m, float(parameters.signals)),
            severity=np.clip(0.5 + 0.15 * (count - parameters.signals), 0, 1).astype(np.float32),
            subject=np.array(party, np.int32),
            counterparty=np.full(m, -1, np.int32),
            group=np.array(key, np.uint64),
            related=related_of(related),
            extra={
                "signals_zh": _SIGNALS_ZH[masks],
                "signals_en": _SIGNALS_EN[masks],
                "enterprise_count": np.array(enterprises, np.int64),
                "scan_count": np.array(scans, np.int64),
                "window_days": np.full(m, parameters.days, np.int64),
            },
        )


def _quick(
    data: Slice, rows: Int64, party: npt.NDArray[np.int32], exact: Any, seconds: int
) -> npt.NDArray[np.bool_]:
    """Return which events sell a code that the same enterprise received moments before."""
    out = np.zeros(len(rows), np.bool_)
    before = data.custody.previous[rows]
    sale = ROLE_OF[data.batch.kind[rows]] == int(Role.PERSON_SALE)
    at = np.flatnonzero(sale & exact & (before >= 0))
    if len(at) == 0:
        return out
    past = data.look_up(["time", "kind", "target"], before[at])
    role = ROLE_OF[past["kind"]]
    gap = data.batch.time[rows[at]] - past["time"]
    out[at] = (
        ((role == int(Role.RECEIVE)) | (role == int(Role.TRANSFER_RECEIVE)))
        & (past["target"] == party[at])
        & timed(past["time"])
        & (gap >= 0)
        & (gap < seconds * SECOND)
    )
    return out
