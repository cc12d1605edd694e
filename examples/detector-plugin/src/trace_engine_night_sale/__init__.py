"""Night sale 夜间销售: sales to persons scanned in the dead of night.

A pharmacy that is closed sells nothing. Scans at such hours are sales entered afterwards, with a
time that cannot be right, or entered by somebody else.

Fires on each event of role ``PERSON_SALE`` that counts as a new sale, carries a time of day (a bill
with a date only has none) and lies between ``from_hour`` and ``to_hour``, Shanghai wall clock.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np

from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DATE_ONLY, DAY, HOUR


class NightSaleParameters(Parameters, frozen=True, kw_only=True):
    """Hours between which nobody is expected to sell."""

    from_hour: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=23,
            description="First hour of the night",
            extra_json_schema={"unit": "h", "zh": "夜间起始时刻"},
        ),
    ] = 1
    to_hour: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=24,
            description="Hour at which the night ends",
            extra_json_schema={"unit": "h", "zh": "夜间结束时刻"},
        ),
    ] = 5


class NightSale(Detector[NightSaleParameters]):
    """Sales to persons between ``from_hour`` and ``to_hour``."""

    id: ClassVar[str] = "night_sale"
    title_zh: ClassVar[str] = "夜间销售"
    title_en: ClassVar[str] = "Sold at night"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("C15",)
    basis: ClassVar[str] = "药品追溯数据应当真实、准确、完整"
    unit: ClassVar[str] = "h"
    false_positives: ClassVar[str] = "Pharmacies open at night, vending machines, wrong clocks."
    false_positives_zh: ClassVar[str] = "夜间营业的药店、自动售药机、时钟不准。"
    parameters: ClassVar[type[Parameters]] = NightSaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}扫码销售{drug}，共{code_count}个追溯码，处于夜间时段。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} scanned a sale of {drug} at {time}, {code_count} code(s), in the dead of night."
    )

    def judge(self, data: Slice, parameters: NightSaleParameters) -> Verdict:
        """Judge every new sale that carries a time of day."""
        batch = data.batch
        sales = data.custody.rows(NEW_SALE)
        timed = sales[(batch.flags[sales] & DATE_ONLY) == 0]
        hour = batch.time[timed] % DAY / HOUR
        night = (hour >= parameters.from_hour) & (hour < parameters.to_hour)
        hits = hits_of(
            data,
            timed[night],
            observed=np.floor(hour[night]),
            threshold=parameters.to_hour,
            severity=0.2,
        )
        skipped = {"date_only": len(sales) - len(timed)} if len(sales) > len(timed) else {}
        return Verdict(hits=hits, judged=len(timed), skipped=skipped)
