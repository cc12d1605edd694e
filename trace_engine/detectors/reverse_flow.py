"""Reverse flow 零售逆向流向批发 (G5): a hop from a pharmacy or medical institution to an enterprise.

Fires on each hop whose owner before (the stated giver where none is on record) is a pharmacy, chain
store or medical institution, unless both belong to one registered group. Returns are no hops.
observed = hops so far, threshold 0. Severity 0.6.
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
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

_RETAIL_LEVEL = [int(t) for t in RETAIL_TYPES | MEDICAL_TYPES]


class ReverseFlow(Detector[Parameters]):
    """See the module."""

    id = "reverse_flow"
    title_zh = "零售逆向流向批发"
    title_en = "Retail stock flowing back into trade"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G5",)
    basis = "药品管理法第五十一条、第五十五条；药品经营环节“清源”巩固提升行动：从非法渠道购进药品"
    unit = "hops"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises.type",)
    false_positives = (
        "Returns to the supplier (202/103), transfers (203/104) and sales inside one registered group "
        "do not fire."
    )
    false_positives_zh: ClassVar[str] = (
        "退回供货方（202/103）、调拨（203/104）以及同一登记集团内部的销售不触发。"
    )
    sentence_zh: ClassVar[str] = (
        "零售或使用环节单位{seller_party}持有的{drug}（批号{batch_no}）{packs_zh}于{date}流向"
        "{counterparty}，既非退货，也不属同一集团内部流转。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code}, went "
        "from the retail or medical level ({seller_party}) to {counterparty}; it is no return "
        "and they are of no common group. Path: {path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the events of the slice; there is nothing to set."""
        c = data.custody
        view, b = data.registry, data.batch
        hops = c.rows(signals.HOP)
        seller = np.where(c.owner_before[hops] >= 0, c.owner_before[hops], b.source[hops])
        named = seller >= 0
        kind = np.zeros(len(hops), np.int8)
        kind[named] = view.party_type[seller[named]]
        judged = int(np.count_nonzero(kind))
        retail = np.isin(kind, _RETAIL_LEVEL)
        rows, seller = hops[retail], seller[retail]
        buyer = b.target[rows]
        group = view.party_group[seller]
        same_group = (group >= 0) & (group == view.party_group[buyer])
        fired = (seller != buyer) & ~same_group
        rows, seller = rows[fired], seller[fired]
        return Verdict(
            hits_of(
                data,
                rows,
                observed=c.hops[rows],
                threshold=0,
                severity=0.6,
                subject=seller,
                extra={"seller_party": seller},
            ),
            judged,
            {"type_unknown": len(hops) - judged} if judged < len(hops) else {},
        )
