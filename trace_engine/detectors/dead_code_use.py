"""Dead code use 异常状态码流通 (C3, P10, B10): a code used that cannot be in use.

Fires on (a) any movement or sale of a code that was destroyed, scrapped or sampled out, and on a
shipment, receipt or sale of one that was recalled (goods on their way back after a recall may move),
where it is certainly later; (b) a sale (201, 207, 209, 212, 321, 322, 323) on a day after the expiry
date (a month-only expiry lasts to the end of that month); (c) any event on a day before the production
date. For (b) and (c) the clock of a timed event may be off by ``general.clock_skew_minutes`` either
way. observed: 1 event, threshold 0 (the sentence tells the days). Severity (a) 0.8, (b) 0.7, (c) 0.5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.core.kernel import kernel
from trace_engine.detectors._shared import with_days
from trace_engine.detectors.base import (
    ROLE_OF,
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DAY, MINUTE, MISSING_DAY
from trace_engine.events.kinds import EventKind, Role

_SALES = np.zeros(len(EventKind), np.bool_)
_SALES[
    [
        EventKind.SALE_SHIPMENT,
        EventKind.DIRECT_SHIPMENT,
        EventKind.SUPPLY_SHIPMENT,
        EventKind.GIFT_SHIPMENT,
        EventKind.RETAIL_SALE,
        EventKind.VACCINATION,
        EventKind.DISPENSING,
    ]
] = True
_ACTS = ~np.isin(ROLE_OF, [int(Role.NONE), int(Role.VOID)])
_AFTER_DEAD, _MISSING_DAY = np.uint32(signals.AFTER_DEAD), np.int32(MISSING_DAY)
_DAY = np.int64(DAY)


@kernel
def _select(
    sales: npt.NDArray[np.bool_],
    acts: npt.NDArray[np.bool_],
    kind: npt.NDArray[np.int8],
    time: npt.NDArray[np.int64],
    expiry: npt.NDArray[np.int32],
    production: npt.NDArray[np.int32],
    skew: np.int64,
    signal: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write the rows that fire; return how many. ``counts``: acts, sales without expiry."""
    m = 0
    for i in range(len(kind)):
        act, sale = acts[kind[i]], sales[kind[i]]
        counts[0] += act
        fires = (signal[i] & _AFTER_DEAD) != 0
        off = np.int64(0) if time[i] % _DAY == 0 else skew
        if sale:
            if expiry[i] == _MISSING_DAY:
                counts[1] += 1
            elif time[i] - off >= (np.int64(expiry[i]) + 1) * _DAY:
                fires = True
        born = np.int64(production[i]) * _DAY
        if act and production[i] != _MISSING_DAY and time[i] + off < born:
            fires = True
        if fires:
            rows[m] = i
            m += 1
    return m


class DeadCodeUse(Detector[Parameters]):
    """See the module."""

    id = "dead_code_use"
    title_zh = "异常状态码流通"
    title_en = "Use of a dead code"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CODE
    key = "code"
    rows = ("C3", "P10", "B10")
    basis = "药品管理法第八十三条、第九十八条（超过有效期的药品为劣药）；“清源”行动：追溯码状态异常"
    unit = "events"
    needs: ClassVar[tuple[str, ...]] = ("expiry_date", "production_date")
    false_positives: ClassVar[str] = (
        "Returns and destruction of expired or recalled goods (allowed), expiries given as a "
        "month (they last to its end), date-only bills of the same day (not judged), clocks a "
        "few minutes off (tolerated), destruction after scrapping (allowed)."
    )
    false_positives_zh: ClassVar[str] = (
        "过期、召回药品的退货与销毁（允许）；有效期只填到月的按月末计；只有日期的单据在当日不判定；"
        "时钟相差数分钟（容许）；报废后的销毁（允许）。"
    )
    sentence_zh = (
        "{subject}于{time}对{drug}（批号{batch_no}）{packs_zh}进行出入库或销售，"
        "但{reason_zh}。流转路径：{path}。"
    )
    sentence_en = (
        "{subject} moved or sold {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code} "
        "({time}), although {reason_en}. Path: {path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the events of the slice; there is nothing to set."""
        b = data.batch
        rows, counts = np.empty(len(data), np.int64), np.zeros(2, np.int64)
        signal = data.custody.signal
        skew = np.int64(data.policy.general(data.first_day).clock_skew_minutes * MINUTE)
        m = _select(
            _SALES, _ACTS, b.kind, b.time, b.expiry, b.production, skew, signal, rows, counts
        )  # fmt: skip
        rows = rows[:m].copy()
        time = b.time[rows]
        off = np.where(time % DAY == 0, 0, skew)
        past = np.where(b.expiry[rows] != MISSING_DAY, (time - off) // DAY - b.expiry[rows], 0)
        early = np.where(
            b.production[rows] != MISSING_DAY, b.production[rows] - (time + off) // DAY, 0
        )
        dead = (signal[rows] & _AFTER_DEAD) != 0
        expired = _SALES[b.kind[rows]] & (past > 0)
        choice = np.where(dead, 0, np.where(expired, 1, 2))
        days = np.where(expired, past, early)
        # Without a giver (a production receipt, say) the receiver is answerable.
        subject = np.where(b.source[rows] >= 0, b.source[rows], b.target[rows])
        counterparty = np.where(b.source[rows] >= 0, b.target[rows], np.int32(-1))
        hits = hits_of(
            data,
            rows,
            observed=1,
            threshold=0,
            severity=_SEVERITY[choice],
            subject=subject,
            counterparty=counterparty,
            extra={
                "reason_zh": with_days(_REASON_ZH, choice, days),
                "reason_en": with_days(_REASON_EN, choice, days),
            },
        )
        judged, undated = counts.tolist()
        return Verdict(hits, judged, {"no_expiry": undated} if undated else {})


_SEVERITY = np.array([0.8, 0.7, 0.5], np.float32)
_REASON_ZH = (
    "该码此前已销毁、报废、抽检或召回",
    "药品已超过有效期{}天",
    "业务日期比其生产日期早{}天",
)
_REASON_EN = (
    "the code had been destroyed, scrapped, sampled out or recalled",
    "the drug had expired {} day(s) before",
    "it was produced {} day(s) later only",
)
