"""Online banned sale 网络禁售 (B1, B2, B3): a drug of the ban list is sold to a person online.

Definition
----------
Judged: events of role ``PERSON_SALE`` with the signal ``NEW_SALE`` that name a platform or a shop
(flag ``ONLINE``), of a drug of which the registry knows a generic name or a class. Without a drug
registry all of them are skipped as ``no_registry``; of the others those whose drug the lists cannot
be applied to as ``unknown_drug``.

*Fires* when the drug is on the policy's list ``online_ban`` on the day of the sale. The subject is the
giver. observed = packs (quantity, at least 1), threshold = 0. Severity: 0.9. One bill is one finding
(the default grouping).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import categories_of, has_role
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import ONLINE
from trace_engine.events.kinds import Role

_SEVERITY = 0.9


class OnlineBannedSale(Detector[Parameters]):
    """Online sales against the ban list of the day."""

    id: ClassVar[str] = "online_banned_sale"
    title_zh: ClassVar[str] = "网络销售禁售药品"
    title_en: ClassVar[str] = "Banned drug sold online"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("B1", "B2", "B3")
    basis: ClassVar[str] = (
        "《药品网络销售禁止清单（第一版）》（国家药监局2022年第111号公告）；"
        "《药品网络销售监督管理办法》第八条"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "platform_id or shop_id")
    false_positives: ClassVar[str] = (
        "Compounds of a drug that is banned only as a single ingredient, topical antibacterials, "
        "insulins and hypoglycaemic injections (excepted by the list's rules). Not kept out: "
        "drug names the registry spells wrongly."
    )
    false_positives_zh: ClassVar[str] = (
        "单方禁售而复方不禁、外用抗菌药、胰岛素和降糖类注射剂等清单所列例外（不触发）。未排除："
        "登记数据中品名写错。"
    )
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}通过网络销售{drug}（批号{batch_no}）追溯码{code_count}个，该药品属于"
        "网络禁止销售品种：{list_zh}。依据：{list_source}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}) online, which "
        "is banned: {list_en} ({list_source})."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the online sales of a slice; its days share one version of the list."""
        batch = data.batch
        sales = np.flatnonzero(
            has_role(batch, (Role.PERSON_SALE,))
            & ((data.custody.signal & np.uint32(NEW_SALE)) != 0)
            & ((batch.flags & ONLINE) != 0)
        )
        if len(sales) == 0:
            return Verdict()
        if not data.registry.has("drugs"):
            return Verdict(skipped={"no_registry": len(sales)})
        categories = categories_of(data)
        drug = batch.drug[sales]
        # One entry more, for a sale that names no drug (-1).
        judgeable = np.append(categories.judgeable, False)[drug]
        banned = np.append(categories.online_banned(data.first_day), False)[drug]
        rows = sales[banned & judgeable]
        unmatched = int(np.count_nonzero(~judgeable))
        found, inverse = np.unique(batch.drug[rows], return_inverse=True)
        reasons = [categories.reason(int(d), data.first_day) for d in found]
        texts = np.array(
            [["", "", ""] if r is None else [r.zh, r.en, r.source] for r in reasons], np.str_
        ).reshape(-1, 3)[inverse]
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=np.maximum(batch.quantity[rows], 1),
                threshold=0,
                severity=_SEVERITY,
                extra={
                    "list_zh": texts[:, 0],
                    "list_en": texts[:, 1],
                    "list_source": texts[:, 2],
                },
            ),
            judged=len(sales) - unmatched,
            skipped={"unknown_drug": unmatched} if unmatched else {},
        )
