"""Rapid turnover 快进快出 (G3): several hops in a row, each soon after the one before.

Fires on each hop that makes a run of ``k`` or more hops, each within ``dwell_hours`` of the one
before it (for bills that carry a day only: within it at every moment of that day). observed = hops
in the run. Severity = 0.4 + 0.15 for each hop beyond ``k``.
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


class RapidTurnoverParameters(Parameters, frozen=True):
    """Limits of rapid turnover."""

    k: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=50,
            description="Hops in a row at which a pack is reported",
            extra_json_schema={"unit": "hops", "zh": "连续快速易手次数"},
        ),
    ] = 3
    dwell_hours: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=8760,
            description="Longest time between a hop and the one before it",
            extra_json_schema={"unit": "hours", "zh": "相邻两次易手的最长间隔"},
        ),
    ] = 72.0


class RapidTurnover(Detector[RapidTurnoverParameters]):
    """See the module."""

    id = "rapid_turnover"
    title_zh = "快进快出"
    title_en = "Rapid turnover"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CUSTODY
    key = "code"
    rows = ("G3",)
    basis = "药品经营环节“清源”巩固提升行动：产品多次倒手、快进快出的药品经营企业"
    unit = "hops"
    needs: ClassVar[tuple[str, ...]] = ("from_id", "to_id")
    false_positives: ClassVar[str] = (
        "Wholesale hubs: several quick changes of owner in a row are needed, and a return breaks "
        "the run."
    )
    false_positives_zh: ClassVar[str] = "批发集散环节：须连续多次快速易手，退货使其中断。"
    parameters = RapidTurnoverParameters
    sentence_zh: ClassVar[str] = (
        "{drug}（批号{batch_no}）{packs_zh}连续{observed:.0f}次快速易手，每次间隔不超过{hours:g}小时（"
        "限值{threshold:.0f}次），最近一次于{time}由{subject}售予{counterparty}。流转路径：{path}。"
    )
    sentence_en: ClassVar[str] = (
        "{code_count} pack(s) of {drug} (batch {batch_no}), e.g. code {code}, changed owner "
        "{observed:.0f} times in a row within {hours:g} hours of the time before (limit "
        "{threshold:.0f}), last from {subject} to {counterparty} at {time}. Path: {path}."
    )

    def judge(self, data: Slice, parameters: RapidTurnoverParameters) -> Verdict:
        """Judge every hop of the slice."""
        c = data.custody
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.HOP)))
        rows = np.flatnonzero(c.run >= parameters.k)
        rows = rows[(c.signal[rows] & np.uint32(signals.HOP)) != 0]
        observed = c.run[rows].astype(np.int64)
        hours = np.full(len(rows), parameters.dwell_hours)
        return Verdict(
            hits_of(
                data,
                rows,
                observed=observed,
                threshold=parameters.k,
                severity=0.4 + 0.15 * (observed - parameters.k),
                extra={"hours": hours},
            ),
            judged,
        )
