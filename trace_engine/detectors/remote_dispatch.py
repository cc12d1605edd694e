"""Remote dispatch 异地发货 (G1): goods leave from a place the seller has no premises in.

Definition
----------
Judged: events of role ``SHIP`` other than direct shipment (207) and of role ``PERSON_SALE``, with a
ship-from region stated, whose giver the registry knows with at least one place it may ship from (its
own region, its registered or entrusted warehouses, those of its group's headquarters:
``dispatch_regions``). Of the others, those without a stated region are skipped as
``no_region_stated``, then those whose giver or its places are not known as ``unknown_seller``; without
an enterprise registry all are ``no_registry``.

Two regions *agree* at a level of

* ``province``: if their provinces (first two digits) are equal;
* ``city``: if their city keys are equal, or one of them names only a province and the provinces are
  equal;
* ``county``: if they are the same region, or the coarser of them contains the other: a province its
  counties, a city (code ``xxyy00``) the regions with its city key. (Codes that were renumbered agree
  when their successors in force do.)

*Fires* when the stated region agrees with none of the seller's places at ``level``. observed =
distance in km between the stated region and the nearest of the seller's places (0 where no point is
known), threshold = 0. Hits of one day, seller, receiver, drug, batch number and stated region are one
finding. Severity: no place in that province 0.8, else none in that city 0.5, else 0.3.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._places import Level, apart_from_places
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
from trace_engine.events.kinds import EventKind, Role

_SEVERITY = np.array([0.8, 0.5, 0.3])  # by the coarsest level that no place agrees at
_WHERE_ZH = np.array(["外省", "本省外市", "本市外县"])
_WHERE_EN = np.array(["another province", "another city", "another county"])


class RemoteDispatchParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`RemoteDispatch`."""

    level: Annotated[
        Level,
        msgspec.Meta(
            description="How near to a registered place goods must be shipped from",
            extra_json_schema={"unit": "level", "zh": "判定层级：province 省、city 市、county 县"},
        ),
    ] = "city"


class RemoteDispatch(Detector[RemoteDispatchParameters]):
    """Ship-from regions against the seller's registered places."""

    id: ClassVar[str] = "remote_dispatch"
    title_zh: ClassVar[str] = "异地发货"
    title_en: ClassVar[str] = "Shipped from elsewhere"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.REGION
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("G1",)
    basis: ClassVar[str] = "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：异地发货"
    unit: ClassVar[str] = "km"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "from_region")
    false_positives: ClassVar[str] = (
        "Third-party or platform warehouses that are registered (allowed), central dispatch by "
        "the headquarters of a chain (allowed), emergency direct shipment (left out). Not kept "
        "out: new warehouses not yet in the registry, addresses read wrongly."
    )
    false_positives_zh: ClassVar[str] = (
        "已登记的第三方仓库或平台仓库（允许）、连锁总部集中配送（允许）、应急直调（不计）。未排除："
        "尚未登记的新仓库、地址识别错误。"
    )
    parameters: ClassVar[type[Parameters]] = RemoteDispatchParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}从{shipped_from_region}（{where_zh}）发出{drug}追溯码{code_count}个，"
        "其登记地址及仓库（{registered_region}等）均不在该地，最近相距{observed:.0f}公里。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} shipped {code_count} code(s) of {drug} from {shipped_from_region} "
        "({where_en}); its premises and warehouses ({registered_region} and others registered) are "
        "not there, the nearest is {observed:.0f} km away."
    )

    def judge(self, data: Slice, parameters: RemoteDispatchParameters) -> Verdict:
        """Judge the ship-from regions of a slice."""
        batch, view = data.batch, data.registry
        sales = has_role(batch, (Role.SHIP, Role.PERSON_SALE), (EventKind.DIRECT_SHIPMENT,))
        total = int(np.count_nonzero(sales))
        if not view.has("enterprises"):
            return Verdict(skipped={"no_registry": total} if total else {})
        # One entry more, for the party -1.
        placed = np.append(np.diff(view.dispatch_offsets) > 0, False)
        stated = sales & (batch.source_region >= 0)
        rows = np.flatnonzero(stated & placed[batch.source])
        apart = apart_from_places(data, rows, parameters.level)
        with_region = int(np.count_nonzero(stated))
        skipped = {
            "no_region_stated": total - with_region,
            "unknown_seller": with_region - len(rows),
        }
        judged = len(rows)
        rows, apart = rows[apart >= 0], apart[apart >= 0]
        source, region = batch.source[rows], batch.source_region[rows]
        return Verdict(
            hits=hits_of(
                data,
                rows,
                observed=self._distance(data, source, region),
                threshold=0,
                severity=_SEVERITY[apart],
                group=region.astype(np.uint64) + np.uint64(1),
                extra={
                    "shipped_from_region": region,
                    "registered_region": view.party_region[source],
                    "where_zh": _WHERE_ZH[apart],
                    "where_en": _WHERE_EN[apart],
                },
            ),
            judged=judged,
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    @staticmethod
    def _distance(
        data: Slice, source: npt.NDArray[np.int32], region: npt.NDArray[np.int16]
    ) -> npt.NDArray[np.float64]:
        """Return km from each region to the nearest place of its seller, shape ``(m,)``."""
        if len(source) == 0:
            return np.zeros(0)
        view = data.registry
        pairs, inverse = np.unique(
            np.stack([source.astype(np.int64), region]), axis=1, return_inverse=True
        )
        nearest = np.zeros(pairs.shape[1])
        for i, (giver, place) in enumerate(pairs.T):
            begin, end = view.dispatch_offsets[giver], view.dispatch_offsets[giver + 1]
            km = data.registry.regions.distance_km(view.dispatch_regions[begin:end], place)
            known = km[~np.isnan(km)]
            nearest[i] = known.min() if len(known) else 0.0
        result: npt.NDArray[np.float64] = nearest[inverse.reshape(-1)]
        return result
