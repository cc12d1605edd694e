"""Unrecorded source 非法渠道购进/无来源 (G6): X ships or sells a code it cannot have.

Fires on each shipment (but direct shipments) or sale to a person by an enterprise that neither owns
the code, nor has it in hand, nor ever owned it, nor belongs to the owner's registered group, while the
owner on record is another. Where nobody is on record it fires only inside whole history: the policy
states ``history_from`` and the pack was produced on that day or later. observed 1, threshold 0.
Severity 0.6; 0.5 where nobody is on record.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

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


class UnrecordedSource(Detector[Parameters]):
    """See the module."""

    id = "unrecorded_source"
    title_zh = "非法渠道购进/无来源"
    title_en = "Goods without a recorded source"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G6",)
    basis = (
        "药品管理法第五十五条：应当从药品上市许可持有人或者具有药品生产、经营资格的企业购进药品；"
        "第一百二十九条"
    )
    unit = "events"
    needs: ClassVar[tuple[str, ...]] = ("from_id",)
    false_positives: ClassVar[str] = (
        "A receipt or a shipment alone is enough to make an owner, so one missing upload accuses "
        "nobody; chains that buy centrally are one group; direct shipments (207) are left out; "
        "what came in before the data began is not held against anybody."
    )
    false_positives_zh: ClassVar[str] = (
        "收货或发货任有一方记录即可确认货主，漏传一次不会被追究；集中采购的连锁算同一集团；直调（207）"
        "不计；数据开始之前的来源不明者，不作认定。"
    )
    sentence_zh = (
        "{subject}于{time}出库或售出{drug}（批号{batch_no}）{packs_zh}，但其既不是"
        "登记在案的货主（在案货主：{owner_party}），也没有购进、收货记录，来源不明。流转路径：{path}。"
    )
    sentence_en = (
        "{subject} shipped or sold {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code} "
        "({time}), without being the owner on record ({owner_party}) and without any purchase or "
        "receipt. Path: {path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the events of the slice; there is nothing to set."""
        c = data.custody
        b = data.batch
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.SOURCE_CHECKED)))
        unknown = c.rows(signals.UNKNOWN_SOURCE)
        whole_from = data.policy.history_from
        if whole_from is None:
            inside = unknown[:0]
        else:
            inside = unknown[b.production[unknown] >= whole_from]
        rows = np.sort(np.concatenate([c.rows(signals.NO_SOURCE), inside]))
        on_record = c.owner_before[rows] >= 0
        skipped = len(unknown) - len(inside)
        return Verdict(
            hits_of(
                data,
                rows,
                observed=1,
                threshold=0,
                severity=np.where(on_record, 0.6, 0.5),
                extra={"owner_party": c.owner_before[rows]},
            ),
            judged + len(inside),
            {"before_recorded_history": skipped} if skipped else {},
        )
