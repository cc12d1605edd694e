"""Aggregation conflict 关联关系矛盾 (C9): what is said of packing contradicts itself.

What was in what is custody's affair (``docs/semantics.md``, "Aggregation"). Fires on an event of a code
that custody finds in another code, the parent, when

* ``two_parents``: it is packed into a second parent by an enterprise unrelated to the one that packed
  it into the first, though nobody took it out and the first parent was never with the second packer;
* ``elsewhere``: it is shipped or sold by an enterprise that never had it (``unrecorded_source`` says
  so too) while the closed parent has moved to another;
* ``one_bill``: it stands in one bill, day and kind of event with the parent, without naming it (a
  platform that expands a case names it on each row), and the parent does not stand there for fewer
  packs than were packed into it.

observed = 1, threshold 0. Severity: two_parents 0.3, elsewhere 0.4, one_bill 0.15. Hits of one parent,
pair of enterprises, drug, batch and day are one finding.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np

from trace_engine.core.conflicts import TWO_PARENTS
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import NO_CODE

_SEVERITY = np.array([0.3, 0.4, 0.15], np.float32)
_REASON_ZH = np.array(
    [
        "此前已由其他企业装入该包装且未见拆箱记录，现又装入另一包装",
        "该上级包装已流向其他企业且未见拆箱记录，本企业从未取得过该包装或其上级包装",
        "与该上级包装一并出现在同一单据中",
    ]
)
_REASON_EN = np.array(
    [
        "another enterprise packed it there, nobody took it out on record, and it is packed again",
        "that parent had gone to another enterprise unopened, and this one never had either of them",
        "it stands in one bill with that parent",
    ]
)


class AggregationConflict(Detector[Parameters]):
    """See the module."""

    id: ClassVar[str] = "aggregation_conflict"
    title_zh: ClassVar[str] = "关联关系矛盾"
    title_en: ClassVar[str] = "Contradictory packing"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.CODE
    key: ClassVar[str] = "code"
    rows: ClassVar[tuple[str, ...]] = ("C9",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：追溯码异常（码上下级关联矛盾）"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = ("parent_code",)
    false_positives: ClassVar[str] = (
        "Part cases and mixed cases (拼箱, 零箱): whoever had the parent may repack what is in it "
        "without unbinding it, and a case listed for fewer packs than it held may stand beside them; "
        "packs scanned elsewhere than their case count as taken out, so that an unbinding that was "
        "not uploaded accuses nobody; rows of an expanded case scan name their parent."
    )
    false_positives_zh: ClassVar[str] = (
        "拼箱、零箱：持有上级包装者可不解除关联而重新装箱，整箱也可能只列出其中一部分小包装，均不判定；"
        "小包装在箱外另处被扫码视为已取出，漏传一次解除关联不会被追究；"
        "由整箱扫码展开的记录注明其上级包装，不判定。"
    )
    parameters: ClassVar[type[Parameters]] = Parameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}上传的{drug}（批号{batch_no}）{packs_zh}与其上级包装{parent_code}"
        "的关联关系矛盾：{reason_zh}。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} recorded {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code} ("
        "{time}), which contradicts the packing in the parent {parent_code}: {reason_en}. Path: "
        "{path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Report what custody found; there is nothing to set."""
        parent = data.batch.optional.get("parent")
        stated = 0 if parent is None else int(np.count_nonzero(parent != NO_CODE))
        found = data.custody.conflicts
        if found is None or len(found.rows) == 0:
            return Verdict(None, stated, {"no_parent": len(data)} if parent is None else {})
        b, rows = data.batch, found.rows
        names = np.array([data.vocabulary.code_text(int(key)) for key in found.parent])
        # Keys of other than national codes were given on arrival: group by what is printed.
        groups = [
            int.from_bytes(hashlib.blake2b(f"{why}:{name}".encode(), digest_size=8).digest())
            for why, name in zip(found.why.tolist(), names.tolist(), strict=True)
        ]
        giver = b.source[rows]
        hits = hits_of(
            data,
            rows,
            observed=1,
            threshold=0,
            severity=_SEVERITY[found.why],
            subject=np.where((found.why == TWO_PARENTS) | (giver < 0), b.actor[rows], giver),
            counterparty=found.party,
            group=np.array(groups, np.uint64),
            extra={
                "parent_code": names,
                "reason_zh": _REASON_ZH[found.why],
                "reason_en": _REASON_EN[found.why],
            },
        )
        return Verdict(hits, max(len(rows), stated))
