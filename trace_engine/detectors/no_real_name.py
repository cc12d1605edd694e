"""No real name 未实名购买处方药 (B9): prescription drugs sold online to nobody in particular.

Definition
----------
Judged: prescription sales (see ``_retail``) that name a platform or a shop. A sale states the person
if it carries a buyer. *Fires* as ``_statement`` says: where the platform (of a sale that names a shop
alone: the seller) otherwise states buyers, and the sales without one are more than its usual gaps.
Subject: the seller. Severity 0.5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.detectors._retail import Int64, retail_sales
from trace_engine.detectors._statement import MissingStatement
from trace_engine.detectors.base import Evidence, Family, Slice
from trace_engine.events.batch import ONLINE


class NoRealName(MissingStatement):
    """Online prescription sales without a buyer."""

    id: ClassVar[str] = "no_real_name"
    title_zh: ClassVar[str] = "网售处方药未实名"
    title_en: ClassVar[str] = "Prescription drug sold online without a name"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "seller and channel; platform"
    rows: ClassVar[tuple[str, ...]] = ("B9",)
    basis: ClassVar[str] = (
        "《内蒙古自治区药品网络销售监督管理实施办法（试行）》第二十九条：网络销售处方药实行实名制"
    )
    unit: ClassVar[str] = "sales"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.drugs", "registry.enterprises", "platform_id or shop_id", "buyer_id",
    )  # fmt: skip
    false_positives: ClassVar[str] = (
        "Feeds that carry no buyers at all, and gaps in those that do (compared with what the "
        "platform states on earlier days)."
    )
    false_positives_zh: ClassVar[str] = (
        "完全不含购买人的数据，以及含购买人的数据中的缺口（与该平台以往填报比例相比）。"
    )
    severity: ClassVar[tuple[float, float]] = (0.5, 0.5)
    sentence_zh: ClassVar[str] = (
        "{subject}至{date}的{window_days}天内网上销售处方药，有{observed:.0f}单没有实名购买人（"
        "按同一平台平时的缺失比例，预计仅{threshold:.2f}单），其中{date}有{drug}（批号{batch_no}）追溯码"
        "{code_count}个。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date} {subject} sold prescription drugs online to unnamed "
        "buyers in {observed:.0f} purchases ({threshold:.2f} expected from the usual gaps), on "
        "{date} {code_count} code(s) of {drug} (batch {batch_no})."
    )

    def _sales(self, data: Slice) -> tuple[Int64, npt.NDArray[np.bool_], dict[str, int]]:
        rows, skipped = retail_sales(data, prescription=True, having=ONLINE)
        return rows, data.batch.buyer[rows] != 0, skipped
