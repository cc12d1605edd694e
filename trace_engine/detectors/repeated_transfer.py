"""Repeated transfer 多次倒手 (G3): a pack that changed owners more often than trade needs.

Fires on each hop whose count of hops reaches ``max_hops`` (``max_hops_public_hospital`` where the
new owner is a public medical institution), and again on each further hop. observed = hops,
threshold = the limit. Severity = 0.4 + 0.15 for each hop beyond the limit.
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
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.registry.types import EnterpriseType


class RepeatedTransferParameters(Parameters, frozen=True):
    """Limits of repeated transfer."""

    max_hops: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=50,
            description="Changes of owner at which a pack is reported",
            extra_json_schema={"unit": "hops", "zh": "易手次数达到该值即报告"},
        ),
    ] = 4
    max_hops_public_hospital: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=50,
            description="The same, where the new owner is a public medical institution",
            extra_json_schema={"unit": "hops", "zh": "购入方为公立医疗机构时的易手次数（两票制）"},
        ),
    ] = 3


class RepeatedTransfer(Detector[RepeatedTransferParameters]):
    """See the module."""

    id = "repeated_transfer"
    title_zh = "多次倒手"
    title_en = "Repeated transfer"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G3",)
    basis = (
        "药品经营环节“清源”巩固提升行动：重点关注产品多次倒手的药品经营企业；公立医疗机构“两票制”"
    )
    unit = "hops"
    needs: ClassVar[tuple[str, ...]] = ("from_id", "to_id")
    false_positives = (
        "Returns take their hop back; transfers inside a group (203/104) are none; a shipment and "
        "its receipt are one."
    )
    false_positives_zh: ClassVar[str] = (
        "退货抵消其易手次数；集团内部调拨（203/104）不算易手；一次发货及其收货算一次。"
    )
    parameters = RepeatedTransferParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}（批号{batch_no}）{packs_zh}售予{counterparty}，至此已易手"
        "{observed:.0f}次，达到{threshold:.0f}次的限值。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} passed {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code "
        "{code}, to {counterparty}: by then {observed:.0f} changes of owner, limit "
        "{threshold:.0f}. Path: {path}."
    )

    def judge(self, data: Slice, parameters: RepeatedTransferParameters) -> Verdict:
        """Judge every hop of the slice."""
        c = data.custody
        least = min(parameters.max_hops, parameters.max_hops_public_hospital)
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.HOP)))
        rows = np.flatnonzero(c.hops >= least)
        rows = rows[(c.signal[rows] & np.uint32(signals.HOP)) != 0]
        hospital = (
            data.registry.party_type[data.batch.target[rows]] == EnterpriseType.PUBLIC_HOSPITAL
        )
        limit = np.where(hospital, parameters.max_hops_public_hospital, parameters.max_hops)
        hops = c.hops[rows].astype(np.int64)
        fired = hops >= limit
        rows, hops, limit = rows[fired], hops[fired], limit[fired]
        severity = 0.4 + 0.15 * (hops - limit)
        return Verdict(
            hits_of(data, rows, observed=hops, threshold=limit, severity=severity), judged
        )
