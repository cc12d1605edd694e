"""Unmatched shipment 有出无入 (C11, C12): a shipment its receiver never confirmed.

Fires when a hop made by a shipment still awaits its receipt at the beginning of the day ``days`` + 1
days after its own (a shipment younger than that at the end of the data is not judged yet). Grouped by
bill. observed = days waited, threshold = ``days``. Severity 0.2.
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


class UnmatchedShipmentParameters(Parameters, frozen=True):
    """Time a receiver has to confirm."""

    days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=365,
            description="Days a shipment may wait for its receipt",
            extra_json_schema={"unit": "days", "zh": "发货后等待收货确认的天数"},
        ),
    ] = 30


class UnmatchedShipment(Detector[UnmatchedShipmentParameters]):
    """See the module."""

    id = "unmatched_shipment"
    title_zh = "有出无入"
    title_en = "Shipment without receipt"
    family = Family.DATA_QUALITY
    evidence = Evidence.SCANNING
    key = "code"
    rows = ("C11", "C12")
    basis = "药品经营环节“清源”巩固提升行动：落实出入库扫码核销、采购销售环节追溯信息核对上传"
    unit = "days"
    needs: ClassVar[tuple[str, ...]] = ("to_id",)
    false_positives: ClassVar[str] = (
        "Receipts uploaded late (their business time counts); goods sent back (settled)."
    )
    false_positives_zh: ClassVar[str] = "补传的收货以业务时间为准；已退回的货物视为了结。"
    parameters = UnmatchedShipmentParameters
    sentence_zh: ClassVar[str] = (
        "{subject}单据{bill}发往{counterparty}的{drug}（批号{batch_no}）中，截至{date}有{code_count}"
        "个包装（如{code}）超过{threshold:.0f}天没有收货记录。"
    )
    sentence_en: ClassVar[str] = (
        "Of {subject}'s bill {bill} to {counterparty}, {code_count} pack(s) of {drug} (batch "
        "{batch_no}), e.g. {code}, had by {date} no receipt after {threshold:.0f} days."
    )

    def judge(self, data: Slice, parameters: UnmatchedShipmentParameters) -> Verdict:
        """Report hops whose time was up during the slice."""
        late = data.custody.overdue_shipments
        judged = int(np.count_nonzero(data.custody.signal & np.uint32(signals.HOP)))
        if len(late.seq) == 0:
            return Verdict(None, judged)
        m = len(late.seq)
        limit = np.full(m, float(parameters.days))
        hits = Hits(
            seq=late.seq,
            observed=limit + 1,
            threshold=limit,
            severity=np.full(m, 0.2, np.float32),
            time=late.deadline * DAY,
        )
        return Verdict(hits, judged)
