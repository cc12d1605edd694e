"""Sale without prescription 不凭处方销售处方药 (B6): prescription drugs sold without a prescription.

Definition
----------
Judged: prescription sales (see ``_retail``). A sale states a prescription if it carries a prescription
number. *Fires* as ``_statement`` says: where the platform, or over the counter the shop itself,
otherwise states prescription numbers, and the sales without one are more than its usual gaps. (A shop
that keeps its prescriptions on paper states none, and is not accused.) Subject: the seller. Severity:
online 0.7, over the counter 0.5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.detectors._retail import Int64, retail_sales
from trace_engine.detectors._statement import MissingStatement
from trace_engine.detectors.base import Evidence, Family, Slice
from trace_engine.events.batch import PRESCRIPTION


class NoPrescription(MissingStatement):
    """Prescription sales without a prescription number."""

    id: ClassVar[str] = "no_prescription"
    title_zh: ClassVar[str] = "不凭处方销售处方药"
    title_en: ClassVar[str] = "Sold without a prescription"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "seller and channel; platform"
    rows: ClassVar[tuple[str, ...]] = ("B6",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：不凭处方销售处方药；"
        "《内蒙古自治区药品网络销售监督管理实施办法（试行）》第二十八条"
    )
    unit: ClassVar[str] = "sales"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "registry.enterprises", "rx_no")
    false_positives: ClassVar[str] = (
        "Prescriptions on paper that the feed does not carry, and gaps in the feed (both "
        "compared with what the platform or shop states on earlier days), medical institutions "
        "(left out)."
    )
    false_positives_zh: ClassVar[str] = (
        "数据未接入的纸质处方、数据传输缺口（与该平台或该店以往填报比例相比）、医疗机构（不计）。"
    )
    severity: ClassVar[tuple[float, float]] = (0.5, 0.7)
    sentence_zh: ClassVar[str] = (
        "{subject}至{date}的{window_days}天内{channel_zh}销售处方药，有{observed:.0f}单未记录处方（"
        "按同一渠道平时的缺失比例，预计仅{threshold:.2f}单），其中{date}有{drug}（批号{batch_no}）追溯码"
        "{code_count}个。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date} {subject} sold prescription drugs {channel_en} "
        "without a prescription on record in {observed:.0f} purchases ({threshold:.2f} expected "
        "from the usual gaps), on {date} {code_count} code(s) of {drug} (batch {batch_no})."
    )

    def _sales(self, data: Slice) -> tuple[Int64, npt.NDArray[np.bool_], dict[str, int]]:
        rows, skipped = retail_sales(data, prescription=True)
        return rows, (data.batch.flags[rows] & PRESCRIPTION) != 0, skipped
