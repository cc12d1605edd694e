"""Unlicensed party 无证/从非法单位购进 (G7, S1): trade with somebody who may not trade drugs.

Definition
----------
Needs ``registry.enterprises`` (else all are skipped as ``no_registry``). A party is *unlicensed* if
it is not in the enterprise registry, or is of a type that needs a drug licence to trade (MAH,
manufacturer, wholesaler, chain headquarters, chain store, pharmacy) and has no licence number there.
(A registry in which no enterprise states one says nothing of licence numbers.) Unknown parties are
not judged. Validity in time is another rule's.

Judged: events of role ``SHIP``, ``RECEIVE`` and ``PERSON_SALE`` with a known giver; the others of
these roles are skipped as ``no_giver``. A shipment or receipt whose giver is its receiver is judged
as if it had no receiver. The first case that holds *fires*:

1. ``SHIP`` or ``PERSON_SALE``, the giver is unlicensed: subject the giver, counterparty the receiver;
2. ``RECEIVE``, the giver is unlicensed and the receiver known: subject the receiver, which bought
   from it, counterparty the giver (no receiver: as case 1);
3. ``SHIP`` or ``RECEIVE``, the receiver is unlicensed: subject the giver, which sold to it,
   counterparty the receiver.

Hits of one day, subject, counterparty, drug, batch number and case are one finding. observed = 1
unlicensed party, threshold = 0. Severity: not in the registry 0.8, no licence number 0.6; case 2 adds
0.1.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors._shared import has_role
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
from trace_engine.events.kinds import Role
from trace_engine.registry.types import EnterpriseType

_NEEDS_LICENCE = np.zeros(len(EnterpriseType), np.bool_)
_NEEDS_LICENCE[
    [
        EnterpriseType.MAH,
        EnterpriseType.MANUFACTURER,
        EnterpriseType.WHOLESALER,
        EnterpriseType.CHAIN_HQ,
        EnterpriseType.CHAIN_STORE,
        EnterpriseType.PHARMACY,
    ]
] = True

_SHIP, _RECEIVE, _PERSON_SALE = int(Role.SHIP), int(Role.RECEIVE), int(Role.PERSON_SALE)


@kernel
def _select(
    role_of: npt.NDArray[np.int8],
    unlicensed: npt.NDArray[np.bool_],
    kind: npt.NDArray[np.int8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write the rows with an unlicensed party; return how many. ``counts``: judged, no giver."""
    m = 0
    for i in range(len(kind)):
        role = role_of[kind[i]]
        if role != _SHIP and role != _RECEIVE and role != _PERSON_SALE:
            continue
        giver, receiver = source[i], target[i]
        if giver < 0:
            counts[1] += 1
            continue
        counts[0] += 1
        traded = role != _PERSON_SALE and receiver >= 0 and receiver != giver
        if unlicensed[giver] or (traded and unlicensed[receiver]):
            rows[m] = i
            m += 1
    return m


_GIVER, _BOUGHT_FROM, _SOLD_TO = 0, 1, 2
_CASE_ZH = np.array(["无证经营", "从无证单位购进", "向无证单位销售"])
_CASE_EN = np.array(
    ["traded without a licence", "bought from an unlicensed party", "sold to an unlicensed party"]
)
_REASON_ZH = np.array(["未在企业名录中查到", "名录中无许可证编号"])
_REASON_EN = np.array(["not in the enterprise register", "no licence number in the register"])


class UnlicensedParty(Detector[Parameters]):
    """Givers and receivers against the enterprise registry."""

    id: ClassVar[str] = "unlicensed_party"
    title_zh: ClassVar[str] = "无证经营/从非法单位购进"
    title_en: ClassVar[str] = "Unlicensed party"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("G7", "S1")
    basis: ClassVar[str] = (
        "《药品管理法》第五十一条、第五十五条；药品经营环节“清源”巩固提升行动（药监综药管"
        "〔2026〕22号）：无证经营、从未经许可的单位或者个人购进药品"
    )
    unit: ClassVar[str] = "unlicensed parties"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises",)
    false_positives: ClassVar[str] = (
        "An enterprise registry that is not complete (other provinces, new licences), ids "
        "written in several ways: neither is kept out. Many counterparties of one region: "
        "complete the registry first."
    )
    false_positives_zh: ClassVar[str] = (
        "企业名录不完整（外省企业、新发证企业）、同一编号有多种写法：均未排除。"
        "某一地区的交易对方集中出现时，先补全名录。"
    )
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}涉嫌{case_zh}：{unlicensed_party}（{reason_zh}），涉及{drug}"
        "追溯码{code_count}个。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} {case_en}: {unlicensed_party} ({reason_en}), {code_count} code(s) of "
        "{drug}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the parties of a slice."""
        batch, view = data.batch, data.registry
        if not view.has("enterprises"):
            trade = has_role(batch, (Role.SHIP, Role.RECEIVE, Role.PERSON_SALE))
            total = int(np.count_nonzero(trade))
            return Verdict(skipped={"no_registry": total} if total else {})
        # One entry more, for the party -1: unknown is not unlicensed.
        registered = np.append(view.party_known, True)
        numberless = np.append(_NEEDS_LICENCE[view.party_type] & ~view.party_licensed, False)
        unlicensed = ~registered | numberless
        rows, counts = np.empty(len(data), np.int64), np.zeros(2, np.int64)
        m = _select(ROLE_OF, unlicensed, batch.kind, batch.source, batch.target, rows, counts)
        rows = rows[:m].copy()
        role = ROLE_OF[batch.kind[rows]]
        source, target = batch.source[rows], batch.target[rows]
        receiver = np.where((target == source) | (role == _PERSON_SALE), np.int32(-1), target)
        bought_from = (role == _RECEIVE) & (receiver >= 0)
        case = np.where(~unlicensed[source], _SOLD_TO, np.where(bought_from, _BOUGHT_FROM, _GIVER))
        culprit = np.where(case == _SOLD_TO, receiver, source).astype(np.int32)
        reason = registered[culprit].astype(np.int64)
        severity = np.array([0.8, 0.6])[reason] + 0.1 * (case == _BOUGHT_FROM)
        judged, no_giver = counts.tolist()
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=1,
                threshold=0,
                severity=severity,
                subject=np.where(case == _BOUGHT_FROM, receiver, source).astype(np.int32),
                counterparty=np.where(case == _BOUGHT_FROM, source, receiver).astype(np.int32),
                group=(case + 1).astype(np.uint64),
                extra={
                    "unlicensed_party": culprit,
                    "case_zh": _CASE_ZH[case],
                    "case_en": _CASE_EN[case],
                    "reason_zh": _REASON_ZH[reason],
                    "reason_en": _REASON_EN[reason],
                },
            ),
            judged=judged,
            skipped={"no_giver": no_giver} if no_giver else {},
        )
