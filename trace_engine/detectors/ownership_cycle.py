"""Ownership cycle 回流/对倒 (G3, G4): a hop gives the code to an enterprise that owned it before.

Fires on each such hop (returns are no hops and take theirs back, so goods sent back and sold again
do not fire). observed = hops so far, threshold 1. Severity 0.6.
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


class OwnershipCycle(Detector[Parameters]):
    """See the module."""

    id = "ownership_cycle"
    title_zh = "回流/对倒"
    title_en = "Goods back at an earlier owner"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G3", "G4")
    basis = "药品经营环节“清源”巩固提升行动：产品多次倒手；环形、对倒交易"
    unit = "hops"
    needs: ClassVar[tuple[str, ...]] = ("from_id", "to_id")
    false_positives = (
        "Returns (202, 103, 237, 116) move ownership back and are no hop; a return followed by a new "
        "sale to the same buyer is no cycle."
    )
    false_positives_zh: ClassVar[str] = (
        "退货（202、103、237、116）使所有权回退，不算易手；退货后再售给同一买方不算回流。"
    )
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}（批号{batch_no}）{packs_zh}售予{counterparty}，而{counterparty}"
        "此前曾拥有这些包装，其间没有退货记录。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} pack(s) of {drug} (batch {batch_no}), e.g. code "
        "{code}, to {counterparty}, which had owned them before, with no return between. Path: "
        "{path}."
    )

    def judge(self, data: Slice, parameters: Parameters) -> Verdict:
        """Judge the events of the slice; there is nothing to set."""
        c = data.custody
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.HOP)))
        rows = c.rows(signals.EARLIER_OWNER)
        return Verdict(
            hits_of(data, rows, observed=c.hops[rows], threshold=1, severity=0.6), judged
        )
