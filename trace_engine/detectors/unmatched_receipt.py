"""Unmatched receipt 有入无出 (C11, C12): goods received that the stated supplier never shipped.

Fires when a hop made by a receipt still awaits its shipment at the beginning of the day ``days`` + 1
days after its own; and at once when a shipment on its way from one enterprise is received as coming
from another. What happened before the data began is unknown: a receipt is judged only if the supplier
owned the code on record, or the receipt lies ``history_days`` after the beginning of the data, or the
policy says that history is whole. Grouped by bill; the subject is the receiver.
observed = 1 receipt, threshold = 0. Severity 0.2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np

from trace_engine.core import signals
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Hits,
    Parameters,
    Slice,
    Verdict,
)
from trace_engine.events.batch import DAY


class UnmatchedReceiptParameters(Parameters, frozen=True):
    """Time a supplier has to upload its shipment."""

    days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=365,
            description="Days a receipt may wait for its shipment",
            extra_json_schema={"unit": "days", "zh": "收货后等待上游发货记录的天数"},
        ),
    ] = 3
    history_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=365,
            description="Days of data before a receipt without which it is not judged",
            extra_json_schema={"unit": "days", "zh": "收货前须有的数据天数，不足则不判断"},
        ),
    ] = 30


class UnmatchedReceipt(Detector[UnmatchedReceiptParameters]):
    """See the module."""

    id = "unmatched_receipt"
    title_zh = "有入无出"
    title_en = "Receipt without shipment"
    family = Family.DATA_QUALITY
    evidence = Evidence.SCANNING
    key = "code"
    rows = ("C11", "C12")
    basis = "药品经营环节“清源”巩固提升行动：落实出入库扫码核销、采购销售环节追溯信息核对上传"
    unit = "events"
    needs: ClassVar[tuple[str, ...]] = ("from_id",)
    answerable = "receiver"
    false_positives: ClassVar[str] = (
        "The edge of the data (a receipt with too little data before it is not judged); clocks "
        "that are off (a shipment may carry a slightly later time)."
    )
    false_positives_zh: ClassVar[str] = (
        "数据起始阶段（收货前数据不足的不判定）；时钟误差（发货时间略晚于收货仍算相符）。"
    )
    parameters = UnmatchedReceiptParameters
    sentence_zh: ClassVar[str] = (
        "{subject}单据{bill}登记从{counterparty}购进的{drug}（批号{batch_no}）中，截至{date}有"
        "{code_count}个包装（如{code}）没有该供货方对应的发货记录。"
    )
    sentence_en: ClassVar[str] = (
        "Of {subject}'s bill {bill}, said to come from {counterparty}, {code_count} pack(s) of "
        "{drug} (batch {batch_no}), e.g. {code}, had by {date} no shipment by that supplier."
    )

    def judge(self, data: Slice, parameters: UnmatchedReceiptParameters) -> Verdict:
        """Report receipts whose time was up during the slice, and those of another's shipment."""
        c, b = data.custody, data.batch
        late = c.overdue_receipts
        whole = data.policy.history_from is not None
        mismatch = c.rows(signals.RECEIPT_MISMATCH)
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.RECEIPT_ONLY))) + len(mismatch)
        if len(late.seq) + len(mismatch) == 0:
            return Verdict(None, judged)
        made = (late.deadline - parameters.days - 1) * DAY  # beginning of the receipt's day
        always = np.iinfo(np.int64).max
        since = np.where(late.owner_on_record | whole, always, made - parameters.history_days * DAY)
        m, k = len(late.seq), len(mismatch)
        hits = Hits(
            seq=np.concatenate([late.seq, data.seq_base + mismatch]),
            observed=np.ones(m + k),
            threshold=np.zeros(m + k),
            severity=np.full(m + k, 0.2, np.float32),
            time=np.concatenate([late.deadline * DAY, b.time[mismatch]]),
            history_since=np.concatenate([since, np.full(k, always)]),
        )
        return Verdict(hits, judged)
