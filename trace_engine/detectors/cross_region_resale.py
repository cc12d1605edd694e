"""Cross-region resale 多次跨区域倒手 (G2): a pack sold back and forth across provinces.

Fires on each hop (or redirected hop) that crosses a province border and brings the count of
crossings to ``max_crossings`` or beyond. observed = crossings. Severity = 0.5 + 0.15 for each
crossing beyond the limit.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

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


class CrossRegionResaleParameters(Parameters, frozen=True):
    """Limit of cross-region resale."""

    max_crossings: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=50,
            description="Province crossings at which a pack is reported",
            extra_json_schema={"unit": "crossings", "zh": "跨省易手次数达到该值即报告"},
        ),
    ] = 2


class CrossRegionResale(Detector[CrossRegionResaleParameters]):
    """See the module."""

    id = "cross_region_resale"
    title_zh = "多次跨区域倒手"
    title_en = "Repeated cross-region resale"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G2",)
    basis = "药品经营环节“清源”巩固提升行动：重点关注产品多次跨区域倒手的药品经营企业"
    unit = "crossings"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises or from_region and to_region",)
    false_positives: ClassVar[str] = (
        "Internal transfers of national distributors (203/104, one group) are no change of "
        "owner; a return takes its crossing back; an owner whose province is unknown never "
        "counts."
    )
    false_positives_zh: ClassVar[str] = (
        "全国性企业内部调拨（203/104、同一集团）不算易手；退货抵消其跨省次数；省份不明的一方不计。"
    )
    parameters = CrossRegionResaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}（批号{batch_no}）{packs_zh}跨省售予{counterparty}，该批包装已"
        "{observed:.0f}次跨省易手（限值{threshold:.0f}次）。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code "
        "{code}, across a province border to {counterparty}: {observed:.0f} crossings so far, "
        "limit {threshold:.0f}. Path: {path}."
    )

    def judge(self, data: Slice, parameters: CrossRegionResaleParameters) -> Verdict:
        """Judge every hop with both provinces known; the others are counted as skipped."""
        c, b, view = data.custody, data.batch, data.registry
        moved = c.rows(signals.HOP | signals.REDIRECTED)
        giver = np.where(c.owner_before[moved] >= 0, c.owner_before[moved], b.source[moved])
        known = _has_province(view.party_province, giver, b.source_region[moved])
        known &= _has_province(view.party_province, b.target[moved], b.target_region[moved])
        judged = int(np.count_nonzero(known))
        rows = np.flatnonzero(c.crossings >= parameters.max_crossings)
        rows = rows[(c.signal[rows] & np.uint32(signals.CROSSED)) != 0]
        observed = c.crossings[rows].astype(np.int64)
        severity = 0.5 + 0.15 * (observed - parameters.max_crossings)
        return Verdict(
            hits_of(
                data,
                rows,
                observed=observed,
                threshold=parameters.max_crossings,
                severity=severity,
            ),
            judged,
            {"province_unknown": len(moved) - judged} if judged < len(moved) else {},
        )


def _has_province(
    province: npt.NDArray[np.integer[Any]],
    party: npt.NDArray[np.int32],
    stated: npt.NDArray[np.int16],
) -> npt.NDArray[np.bool_]:
    """Whether the registry or the event itself says where each party is."""
    known = np.zeros(len(party), np.bool_)
    named = party >= 0
    known[named] = province[party[named]] > 0
    return known | (named & (stated >= 0))
