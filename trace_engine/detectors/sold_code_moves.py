"""Sold code moves 售后再流转 (C7): a receipt or shipment of a code after its sale to a person.

Fires on each receipt, shipment, return or transfer of a code with a net sale on record that is
certainly earlier (beyond what two clocks may be off; on another day where one carries a day only),
with no consumer return between. A second sale is ``duplicate_sale``. observed = net sales, threshold
0. Severity 0.7.
"""

from __future__ import annotations

from typing import ClassVar

from trace_engine.core import signals
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)


class SoldCodeMoves(Detector[Parameters]):
    """See the module."""

    id = "sold_code_moves"
    title_zh = "售后再流转"
    title_en = "Moved after its sale to a person"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CODE
    key = "code"
    rows = ("C7",)
    basis = "药品管理法第三十六条、第五十五条；药品经营环节“清源”巩固提升行动：追溯码状态异常"
    unit = "sales"
    needs: ClassVar[tuple[str, ...]] = ("retail sales",)
    false_positives = (
        "Late uploads: business time decides, not upload time. Clock skew and date-only bills are "
        "allowed for. Consumer returns (116) and voids reopen the code."
    )
    false_positives_zh: ClassVar[str] = (
        "补传：以业务时间而非上传时间为准。时钟误差和只有日期的单据（容许）。消费者退货（116）"
        "和冲红使该码恢复可售。"
    )
    sentence_zh = (
        "{drug}（批号{batch_no}）{packs_zh}已由{sold_by_party}于{sold_time}售出给"
        "个人，其后没有消费者退货记录，却又出现在{subject}与{counterparty}之间的出入库记录中（{time}）。"
        "流转路径：{path}。"
    )
    sentence_en = (
        "{code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code}, sold to a person by "
        "{sold_by_party} ({sold_time}) and never brought back, moved again between {subject} and "
        "{counterparty} ({time}). Path: {path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the events of the slice; there is nothing to set."""
        c = data.custody
        rows = c.rows(signals.AFTER_SALE)
        return Verdict(
            hits_of(
                data,
                rows,
                observed=c.sales[rows],
                threshold=0,
                severity=0.7,
                extra={"sold_by_party": c.sale_giver(rows), "sold_time": c.sale_time(rows)},
            ),
            len(data),
        )
