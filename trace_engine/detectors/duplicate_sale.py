"""Duplicate sale 重复销售 (C4, C5, C6): a code sold to persons more than once, net.

Fires on each further net sale to a person. A split pack (拆零) is one sale while its quantities fit
in the pack; a bill uploaded again is one sale; consumer returns and voids take theirs back. The class
follows the health insurance administration's notice on repeated settlement of trace codes: the same
seller again → 疑似串换 (swapped goods); another seller, more than ``long_gap_days`` later → 疑似回流药
(returned into trade); another seller, sooner → 疑似假药/复制码 (copied code). The gap is the shortest
the two sales can have had where a bill carries a day only (a doubtful case is not called returned).

observed = net sales, threshold 1. Severity 0.7 for a second sale by the same seller, 0.8 by another,
and 0.05 more for each sale beyond the second.
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
    Jurisdiction,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DAY


class DuplicateSaleParameters(Parameters, frozen=True):
    """Limit between a copied code and goods returned into trade."""

    long_gap_days: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=3650,
            description="Gap between sales beyond which goods are taken for returned into trade",
            extra_json_schema={"unit": "days", "zh": "两次销售间隔超过该值判为疑似回流药"},
        ),
    ] = 15.0


class DuplicateSale(Detector[DuplicateSaleParameters]):
    """See the module."""

    id = "duplicate_sale"
    title_zh = "重复销售"
    title_en = "Duplicate sale"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.CODE
    key = "code"
    rows = ("C4", "C5", "C6")
    basis = "国家医保局关于药品追溯码重复结算的公告（2024-11）：一盒药品的追溯码只应有一次被扫码销售的记录"
    unit = "sales"
    needs: ClassVar[tuple[str, ...]] = ("retail sales",)
    jurisdiction = Jurisdiction.HEALTH_INSURANCE
    false_positives: ClassVar[str] = (
        "Split sales while they fit in the pack, a bill uploaded again, consumer return and "
        "resale, voided sales, look-ups by consumers: none of them counts as a second sale."
    )
    false_positives_zh: ClassVar[str] = (
        "拆零销售合计未超过整盒数量、单据重复上传、消费者退货后再售、冲红的销售、消费者查询，"
        "均不算重复销售。"
    )
    parameters = DuplicateSaleParameters
    sentence_zh = (
        "{drug}（批号{batch_no}）追溯码{code}已由{sold_by_party}于{sold_time}售出，"
        "{subject}于{time}再次售出，扣除退货后共售出{observed:.0f}次，属{class_zh}。流转路径：{path}。"
    )
    sentence_en = (
        "Code {code} of {drug} (batch {batch_no}), sold by {sold_by_party} ({sold_time}), was sold "
        "again by {subject} ({time}): {observed:.0f} net sales, class: {class_en}. Path: {path}."
    )

    def judge(self, data: Slice, parameters: DuplicateSaleParameters) -> Verdict:
        """Judge every sale to a person."""
        c, b = data.custody, data.batch
        judged = int(np.count_nonzero(c.signal & np.uint32(signals.NEW_SALE)))
        rows = c.rows(signals.REPEAT_SALE)
        before = c.sale_giver(rows)
        sold = c.sale_time(rows)
        first_moment_later = b.time[rows]
        first_day_only = (c.signal[rows] & np.uint32(signals.SALE_DATE_ONLY)) != 0
        gap = first_moment_later - sold - np.where(first_day_only, DAY, 0)
        same = before == b.source[rows]
        late = gap > parameters.long_gap_days * DAY
        sales = c.sales[rows].astype(np.int64)
        severity = np.where(same, 0.7, 0.8) + 0.05 * (sales - 2)
        choice = np.where(same, 0, np.where(late, 1, 2))
        return Verdict(
            hits_of(
                data,
                rows,
                observed=sales,
                threshold=1,
                severity=severity,
                counterparty=before,
                extra={
                    "sold_by_party": before,
                    "sold_time": sold,
                    "class_zh": _CLASS_ZH[choice],
                    "class_en": _CLASS_EN[choice],
                },
            ),
            judged,
        )


_CLASS_ZH = np.array(["疑似串换", "疑似回流药", "疑似假药/复制码"])
_CLASS_EN = np.array(
    ["suspected swapping of goods", "suspected return into trade", "suspected copied code"]
)
