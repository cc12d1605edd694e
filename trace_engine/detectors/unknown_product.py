"""Unknown product 品种未登记 (C2, B11): a code of a drug nobody registered, or of another drug.

Definition
----------
Judged: every event that names a drug (declared, or by the identifier in the code), but look-ups
(``verification``, skipped as ``look_up``). Events that name none are skipped as ``no_identifier``;
without a drug registry all are skipped as ``no_registry``; foreign GTINs of no registered drug as
``foreign_gtin`` (``unapproved_product`` judges them when they are traded).

*Fires* when

* ``unregistered``: neither the drug of the event nor the identifier in its code is in the drug
  registry; or
* ``conflict``: the row declares a drug, the code holds an identifier, they differ, both are in the
  registry, and their approval numbers there are both stated and differ. (Every pack level of a
  product has an identifier of its own, so two identifiers may be one product.)

The subject is the enterprise that scanned (the actor). Hits of one actor, day, drug and case are one
finding. observed = 1 code, threshold = 0. Severity: unregistered 0.4, conflict 0.5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.detectors._approvals import foreign_drugs
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DRUG_DECLARED
from trace_engine.events.kinds import EventKind

_ZH = np.array(["药品标识不在药品登记数据中", "申报品种与追溯码标识的品种不一致"])
_EN = np.array(
    ["its drug is not in the drug register", "the drug stated is not the one the code belongs to"]
)


class UnknownProduct(Detector[Parameters]):
    """Drug identifiers against the drug registry."""

    id: ClassVar[str] = "unknown_product"
    title_zh: ClassVar[str] = "品种未登记"
    title_en: ClassVar[str] = "Unknown product"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.CODE
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("C2", "B11")
    basis: ClassVar[str] = "《药品追溯码编码要求》（NMPAB/T 1002—2019）：药品标识码"
    unit: ClassVar[str] = "codes"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs",)
    false_positives: ClassVar[str] = (
        "A drug registry that is not complete or not current, identifiers of larger packs that "
        "it does not list: neither is kept out. Many sellers with one identifier: complete the "
        "registry first."
    )
    false_positives_zh: ClassVar[str] = (
        "品种登记数据不完整或未更新、未列入的大包装标识码：均未排除。多家企业出现同一标识时，"
        "先补全登记数据。"
    )
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}扫描药品{drug}的追溯码{code_count}个（如{code}）：{problem_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} scanned {code_count} code(s) of drug {drug}, such as {code}: {problem_en}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the drugs of a slice."""
        batch, n = data.batch, len(data)
        if not data.registry.has("drugs"):
            return Verdict(skipped={"no_registry": n} if n else {})
        look_up = batch.kind == int(EventKind.VERIFICATION)
        named = ((batch.drug >= 0) | (batch.code_drug >= 0)) & ~look_up
        # One entry more, for the index -1 of "none".
        known = np.append(data.registry.drug_known, False)
        drug_known, code_known = known[batch.drug], known[batch.code_drug]
        unregistered = named & ~drug_known & ~code_known
        foreign = np.flatnonzero(unregistered)
        told = np.where(
            batch.code_drug[foreign] >= 0, batch.code_drug[foreign], batch.drug[foreign]
        )
        foreign = foreign[foreign_drugs(data.registry)[told] & (batch.code_problem[foreign] == 0)]
        unregistered[foreign] = False
        suspect = np.flatnonzero(
            named
            & drug_known
            & code_known
            & (batch.drug != batch.code_drug)
            & ((batch.flags & DRUG_DECLARED) != 0)
        )
        conflict = suspect[self._differ(data, batch.drug[suspect], batch.code_drug[suspect])]
        rows = np.concatenate([np.flatnonzero(unregistered), conflict])
        case = np.repeat([0, 1], [len(rows) - len(conflict), len(conflict)])
        skipped = {
            "look_up": int(np.count_nonzero(look_up)),
            "no_identifier": int(np.count_nonzero(~named & ~look_up)),
            "foreign_gtin": len(foreign),
        }
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=1,
                threshold=0,
                severity=np.array([0.4, 0.5])[case],
                subject=batch.actor[rows],
                counterparty=np.full(len(rows), -1, np.int32),
                group=(case + 1).astype(np.uint64),
                extra={"problem_zh": _ZH[case], "problem_en": _EN[case]},
            ),
            judged=int(np.count_nonzero(named)) - len(foreign),
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    @staticmethod
    def _differ(
        data: Slice, declared: npt.NDArray[np.int32], coded: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.bool_]:
        """Return which pairs of registered drugs have different approval numbers, ``(m,)``."""
        if len(declared) == 0:
            return np.zeros(0, np.bool_)
        pairs, inverse = np.unique(np.stack([declared, coded], 1), axis=0, return_inverse=True)
        differ = []
        for first, second in pairs:
            one = data.registry.drug_text(int(first), "approval_no")
            other = data.registry.drug_text(int(second), "approval_no")
            differ.append(bool(one and other and one != other))
        result: npt.NDArray[np.bool_] = np.array(differ, np.bool_)[inverse.reshape(-1)]
        return result
