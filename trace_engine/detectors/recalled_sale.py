"""Recalled sale 召回/停售后销售 (B10): a recalled batch is sold after the seller had time to stop.

Definition
----------
Judged: events of role ``SHIP`` and ``PERSON_SALE`` that name a drug, with a recall table in the
registry (else all are skipped as ``no_registry``; without a drug: ``no_drug``). Returns and recall
movements have roles of their own and are never judged.

A recall of the registry *applies* to an event when its drug is the event's and its batch number is
the event's or not stated (all batches), and the seller lies in its range: the whole country, or the
province or city of the recall. The seller's place is the registered region of the giver, else the
region the event states for it; a province alone does not answer for a city. Recalls that fit in all
but a batch number the event does not state, or a place that is not known, are not applied; an event
left without any recall for that reason is skipped as ``no_batch_no`` or ``no_region``.

The date of a recall is a whole day, so its ``limit`` is the end of that day plus the grace of its
level: ``(effective + 1) days + grace_hours_level_1/2/3`` (level not stated: that of level 3). It
*fires* when ``time >= limit`` for a recall that applies (``time`` of a date-only event is the
beginning of its day). Of several, that with the smallest limit counts, then the graver level.

observed = days from the beginning of the recall's day to the sale, threshold = those to the limit.
Severity: level 1 1.0, level 2 0.8, level 3 or not stated 0.6. Subject: the giver.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._shared import has_role
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DAY, HOUR
from trace_engine.events.kinds import Role

_SEVERITY = np.array([0.6, 1.0, 0.8, 0.6])
_LEVEL_ZH = np.array(["级别未注明的", "一级", "二级", "三级"])
_LEVEL_EN = np.array(["recall of no stated level", "level 1", "level 2", "level 3"])
_NO_LIMIT = np.iinfo(np.int64).max


class RecalledSaleParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`RecalledSale`."""

    grace_hours_level_1: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=8760,
            description="Hours after the day of a level 1 recall in which a sale may be in good faith",
            extra_json_schema={"unit": "hours", "zh": "一级召回生效日后的宽限小时数"},
        ),
    ] = 24
    grace_hours_level_2: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=8760,
            description="Hours after the day of a level 2 recall in which a sale may be in good faith",
            extra_json_schema={"unit": "hours", "zh": "二级召回生效日后的宽限小时数"},
        ),
    ] = 48
    grace_hours_level_3: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=8760,
            description="Hours after the day of a level 3 recall in which a sale may be in good faith",
            extra_json_schema={"unit": "hours", "zh": "三级召回生效日后的宽限小时数"},
        ),
    ] = 72


class RecalledSale(Detector[RecalledSaleParameters]):
    """Sales of recalled batches."""

    id: ClassVar[str] = "recalled_sale"
    title_zh: ClassVar[str] = "召回/停售后销售"
    title_en: ClassVar[str] = "Sold after recall"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("B10",)
    basis: ClassVar[str] = "《药品召回管理办法》（国家药监局2022年第92号公告）第十七条"
    unit: ClassVar[str] = "days"
    needs: ClassVar[tuple[str, ...]] = ("registry.recalls",)
    false_positives: ClassVar[str] = (
        "Goods on their way when the recall came (hours of grace). Not kept out: returns to the "
        "supplier booked as sales, and batch numbers written in several ways."
    )
    false_positives_zh: ClassVar[str] = (
        "召回发布时已在途的货物（有宽限时间）。未排除：误记为销售的退货；"
        "同一批号有多种写法时可能漏报或误报。"
    )
    parameters: ClassVar[type[Parameters]] = RecalledSaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}销售{drug}（批号{batch_no}）{code_count}个追溯码，该药品已于"
        "{recall_time}{level_zh}召回，至销售时已{observed:.1f}天，超过宽限期（{threshold:.1f}天）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}), recalled on "
        "{recall_time} ({level_en}): {observed:.1f} days after, limit {threshold:.1f} days."
    )

    def judge(self, data: Slice, parameters: RecalledSaleParameters) -> Verdict:
        """Judge the sales of a slice against every recall."""
        batch = data.batch
        sales = has_role(batch, (Role.SHIP, Role.PERSON_SALE))
        total = int(np.count_nonzero(sales))
        recalls = data.registry.recalls
        if not data.registry.has("recalls"):
            return Verdict(skipped={"no_registry": total} if total else {})
        named = sales & (batch.drug >= 0)
        judged = int(np.count_nonzero(named))
        skipped = {"no_drug": total - judged, "no_batch_no": 0, "no_region": 0}
        # Few drugs are recalled: look at their sales only, one recall at a time.
        recalled = np.zeros(len(data.vocabulary.drugs) + 1, np.bool_)
        recalled[recalls.drug] = True
        rows = np.flatnonzero(named & recalled[batch.drug])
        hours = np.array(
            [
                parameters.grace_hours_level_3,
                parameters.grace_hours_level_1,
                parameters.grace_hours_level_2,
                parameters.grace_hours_level_3,
            ],
            np.int64,
        )
        limits = (recalls.effective.astype(np.int64) + 1) * DAY + hours[recalls.level] * HOUR
        limit = np.full(len(rows), _NO_LIMIT, np.int64)
        chosen = np.full(len(rows), -1, np.int64)
        no_batch = np.zeros(len(rows), np.bool_)
        no_region = np.zeros(len(rows), np.bool_)
        region = self._seller_regions(data, rows)
        # By limit, then by severity: the first that applies is the one that counts.
        for k in np.lexsort((-_SEVERITY[recalls.level], limits)):
            fits = (batch.drug[rows] == recalls.drug[k]) & (batch.time[rows] >= limits[k])
            same = np.full(len(rows), recalls.batch[k] < 0) | (
                batch.batch_no[rows] == recalls.batch[k]
            )
            inside, unknown = self._in_range(
                data, region, int(recalls.province[k]), int(recalls.city[k])
            )
            applies = fits & same & inside & (chosen < 0)
            chosen[applies] = k
            limit[applies] = limits[k]
            no_batch |= fits & ~same & (batch.batch_no[rows] < 0)
            no_region |= fits & same & unknown
        fired = chosen >= 0
        skipped["no_batch_no"] = int(np.count_nonzero(no_batch & ~fired))
        skipped["no_region"] = int(np.count_nonzero(no_region & ~no_batch & ~fired))
        judged -= skipped["no_batch_no"] + skipped["no_region"]
        rows, chosen, limit = rows[fired], chosen[fired], limit[fired]
        begin = recalls.effective[chosen].astype(np.int64) * DAY
        level = recalls.level[chosen]
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=(batch.time[rows] - begin) / DAY,
                threshold=(limit - begin) / DAY,
                severity=_SEVERITY[level],
                extra={
                    "recall_time": begin,
                    "level_zh": _LEVEL_ZH[level],
                    "level_en": _LEVEL_EN[level],
                },
            ),
            judged=judged,
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    @staticmethod
    def _seller_regions(data: Slice, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        """Return the place of the giver: registered, else as stated in the event; -1 unknown."""
        registered = np.append(data.registry.party_region, np.int16(-1))[data.batch.source[rows]]
        return np.where(registered >= 0, registered, data.batch.source_region[rows])

    @staticmethod
    def _in_range(
        data: Slice, region: npt.NDArray[np.int16], province: int, city: int
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which places lie in a recall's range, and of which that cannot be said."""
        if province == 0:
            return np.ones(len(region), np.bool_), np.zeros(len(region), np.bool_)
        regions = data.registry.regions
        known = region >= 0
        inside = known & (regions.province[region] == province)
        if city < 0:
            return inside, ~known
        in_city = known & (regions.city[region] == city)
        return in_city, ~known | (inside & regions.is_province[region] & ~in_city)
