"""Aggregation conflict 关联关系矛盾 (C9): what is said of packing contradicts itself.

What was in what is custody's affair (``docs/semantics.md``, "Aggregation"). Fires on an event of a code
that custody finds in another code, the parent, when

* ``two_parents``: it is packed into a second parent by an enterprise unrelated to the one that packed
  it into the first, though nobody took it out and the first parent was never with the second packer;
* ``elsewhere``: it is shipped or sold by an enterprise that never had it (``unrecorded_source`` says
  so too) while the closed parent has moved to another;
* ``one_bill``: it stands in one bill, day and kind of event with the parent, without naming it (a
  platform that expands a case names it on each row), and the parent does not stand there for fewer
  packs than were packed into it;
* ``overfull``: it is packed into a parent that at the end of the day holds at least ``excess`` more
  packs of the drug than its pack ratio (包装比例) allows. The ratio is read from ``drugs.pack_spec``
  (``24片/盒×400盒/箱``, ``1:400``); the parent must bear a code of a product. A pack counts if a
  ``pack`` of that day or before, as known then, put it there as this drug and it still is there when
  the day ends; cartons (others were packed into them) and codes that were replaced do not count. Of
  the packs put in that day those fire that came last (by time, then ``event_key``), as many as are
  too many. Not judged: a parent into which more than ten times its ratio was ever packed (a number
  typed for want of one).

observed = 1, threshold 0; overfull: packs in the parent, packs that it may hold. Severity:
two_parents 0.3, elsewhere 0.4, one_bill 0.15, overfull 0.2. An event is reported once, for the first
of these that holds. Hits of one parent, pair of enterprises, drug, batch and day are one finding.
Skipped: all events of inputs without parents (``no_parent``), and of packing events those whose
parent's ratio is not known (``no_pack_ratio``: for ``overfull`` only).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.conflicts import OVERFULL, TWO_PARENTS, Conflicts
from trace_engine.core.overfull import limits_of, packings
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Hits,
    Int64,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import NO_CODE

_SEVERITY = np.array([0.3, 0.4, 0.15, 0.2], np.float32)
_REASON_ZH = np.array(
    [
        "此前已由其他企业装入该包装且未见拆箱记录，现又装入另一包装",
        "该上级包装已流向其他企业且未见拆箱记录，本企业从未取得过该包装或其上级包装",
        "与该上级包装一并出现在同一单据中",
        "该上级包装当日终了时装有{inside}个最小包装，超过登记的包装比例（每箱{limit}个）",
    ],
    object,
)
_REASON_EN = np.array(
    [
        "another enterprise packed it there, nobody took it out on record, and it is packed again",
        "that parent had gone to another enterprise unopened, and this one never had either of them",
        "it stands in one bill with that parent",
        "that parent held {inside} packs when the day ended, and a case of the product holds {limit}",
    ],
    object,
)


class AggregationConflictParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`AggregationConflict`."""

    excess: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Packs beyond the pack ratio from which a package is overfull",
            extra_json_schema={"unit": "packs", "zh": "超出包装比例达到该数量即判定（最小包装数）"},
        ),
    ] = 1


class AggregationConflict(Detector[AggregationConflictParameters]):
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
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("parent_code",)
    false_positives: ClassVar[str] = (
        "Part cases and mixed cases (拼箱, 零箱): whoever had the parent may repack what is in it "
        "without unbinding it, and a case listed for fewer packs than it held may stand beside them; "
        "packs scanned elsewhere than their case count as taken out, so that an unbinding that was "
        "not uploaded accuses nobody; rows of an expanded case scan name their parent. A case counts "
        "as overfull by what is in it when the day ends: packs taken out before or after others were "
        "put in, packs sold, and codes that were replaced do not count; nor are pallets, totes and "
        "products judged of which the registry does not say what a case holds."
    )
    false_positives_zh: ClassVar[str] = (
        "拼箱、零箱：持有上级包装者可不解除关联而重新装箱，整箱也可能只列出其中一部分小包装，均不判定；"
        "小包装在箱外另处被扫码视为已取出，漏传一次解除关联不会被追究；"
        "由整箱扫码展开的记录注明其上级包装，不判定。"
        "是否超出包装比例按当日终了时箱内实有数判断：先取出后装入（或先装入后取出）、已售出、"
        "已换码的小包装均不计；托盘、周转箱以及未登记箱装数量的品种不判断。"
    )
    parameters: ClassVar[type[Parameters]] = AggregationConflictParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}上传的{drug}（批号{batch_no}）{packs_zh}与其上级包装{parent_code}"
        "的关联关系矛盾：{reason_zh}。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} recorded {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code} ("
        "{time}), which contradicts the packing in the parent {parent_code}: {reason_en}. Path: "
        "{path}."
    )

    def judge(self, data: Slice, parameters: AggregationConflictParameters) -> Verdict:
        """Report what custody found; packages that hold too much from ``excess`` packs on."""
        parent = data.batch.optional.get("parent")
        if parent is None:
            skipped = {"no_parent": len(data)}
        else:
            packed = packings(data.batch)
            limits = limits_of(data.batch, packed, data.registry.drug_packs_in_case)
            skipped = {"no_pack_ratio": int(np.count_nonzero(limits < 0))}
        stated = 0 if parent is None else int(np.count_nonzero(parent != NO_CODE))
        found = data.custody.conflicts
        if found is None:
            return Verdict(None, stated, skipped)
        kept = np.flatnonzero(
            (found.why != OVERFULL) | (found.inside - found.limit >= parameters.excess)
        )
        return Verdict(self._hits(data, found, kept), max(len(kept), stated), skipped)

    def _hits(self, data: Slice, found: Conflicts, kept: Int64) -> Hits | None:
        """Return the conflicts ``kept`` as hits."""
        b, rows, why = data.batch, found.rows[kept], found.why[kept]
        names = np.array([data.vocabulary.code_text(int(key)) for key in found.parent[kept]])
        # Keys of other than national codes were given on arrival: group by what is printed.
        groups = [
            int.from_bytes(hashlib.blake2b(f"{w}:{name}".encode(), digest_size=8).digest())
            for w, name in zip(why.tolist(), names.tolist(), strict=True)
        ]
        giver = b.source[rows]
        numbers = list(zip(found.inside[kept].tolist(), found.limit[kept].tolist(), strict=True))
        packer = (why == TWO_PARENTS) | (why == OVERFULL) | (giver < 0)
        return hits_of(
            data,
            rows,
            observed=found.inside[kept],
            threshold=found.limit[kept],
            severity=_SEVERITY[why],
            subject=np.where(packer, b.actor[rows], giver),
            counterparty=found.party[kept],
            group=np.array(groups, np.uint64),
            extra={
                "parent_code": names,
                "reason_zh": _told(_REASON_ZH[why], numbers),
                "reason_en": _told(_REASON_EN[why], numbers),
            },
        )


def _told(
    templates: npt.NDArray[np.object_], numbers: list[tuple[int, int]]
) -> npt.NDArray[np.str_]:
    """Return the reasons with their numbers (packs inside, packs allowed), shape ``(m,)``."""
    return np.array(
        [
            str(template).format(inside=inside, limit=limit)
            for template, (inside, limit) in zip(templates.tolist(), numbers, strict=True)
        ],
        np.str_,
    )
