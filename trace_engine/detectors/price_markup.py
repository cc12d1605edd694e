"""Price markup 过票加价/高开 (P3): sold on between enterprises for a multiple of what it cost.

A price that doubles at a hop in the middle pays for something other than trade: invoices that hide
commissions, a step put in to wash money out.

Definition
----------
Prices are fen per smallest pack. Judged: events of role ``SHIP`` other than direct shipment (207) with
a known giver and a known receiver that differ. Skipped, in this order: the gift flag or a gift shipment
(``gift``), no price above 0 (``no_price``), nothing known of what the giver paid for this very code
(``no_cost``: ``custody.cost`` not above 0, as for a maker). Only the price of the code itself counts as
cost: an average of a stock says little about one pack.

*Fires* when ``price >= ratio × cost`` and ``price - cost >= minimum_difference`` (CNY), unless

* ``price > maximum_ratio × cost``: prices of a pack and of a case were mixed up (``unit_doubt``); or
* giver and receiver are related (one registered group), or the code's event before this one went to the
  giver and came from an enterprise related to it: the price was set inside a group (``internal``).

The subject is the giver, the counterparty the receiver. observed = price, threshold = ratio × cost, both
in CNY; amount = (price - cost) × quantity (at least 1). Severity = 0.4 + 0.1 × (price / cost - ratio), at
most 0.9. One bill is one finding (the default grouping).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import GIFT
from trace_engine.events.kinds import EventKind, Role

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class PriceMarkupParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PriceMarkup`."""

    ratio: Annotated[
        float,
        msgspec.Meta(
            gt=1.0,
            le=100.0,
            description="Lowest multiple of the cost that is a markup without a trade reason",
            extra_json_schema={"unit": "ratio", "zh": "转售价不低于购进价的倍数"},
        ),
    ] = 2.0
    maximum_ratio: Annotated[
        float,
        msgspec.Meta(
            gt=1.0,
            le=10_000.0,
            description="Multiple above which pack and case prices were mixed up",
            extra_json_schema={"unit": "ratio", "zh": "超过该倍数视为计价单位混淆，不判"},
        ),
    ] = 20.0
    minimum_difference: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=1_000_000.0,
            description="Smallest difference a pack (CNY) worth looking at",
            extra_json_schema={"unit": "CNY", "zh": "每个最小包装的最低差价"},
        ),
    ] = 1.0


class PriceMarkup(Detector[PriceMarkupParameters]):
    """Resale prices against what the seller paid for the same code."""

    id: ClassVar[str] = "price_markup"
    title_zh: ClassVar[str] = "过票加价/高开"
    title_en: ClassVar[str] = "Price multiplied in the middle of the chain"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.PRICE
    key: ClassVar[str] = "code"
    rows: ClassVar[tuple[str, ...]] = ("P3",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：药品批发企业“走票”、为违法经营提供票据"
    )
    unit: ClassVar[str] = "CNY"
    needs: ClassVar[tuple[str, ...]] = ("unit_price", "to_id")
    false_positives: ClassVar[str] = (
        "Prices inside a group (left out where the register names it), a case price beside a "
        "pack price (ratios beyond reason are not judged), gifts (left out), cheap drugs (a "
        "least difference in price is needed). Not kept out: promotion done by the buyer under a "
        "contract; ask for it."
    )
    false_positives_zh: ClassVar[str] = (
        "集团内部价格（名录注明的不计）、箱价与盒价混用（倍数过大不判定）、赠品（不计）、低价药（"
        "加价金额须达下限）。未排除：由买方按合同承担推广，请调取合同。"
    )
    parameters: ClassVar[type[Parameters]] = PriceMarkupParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}（批号{batch_no}）追溯码{code_count}个以单价{observed:.2f}元售予"
        "{counterparty}，其购进价为{cost:.2f}元，加价至{times:.1f}倍（判定线{threshold:.2f}元），"
        "涉嫌过票加价。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}) to {counterparty} "
        "at {observed:.2f} CNY a pack, {times:.1f} times the {cost:.2f} CNY it had paid "
        "(limit {threshold:.2f} CNY)."
    )

    def judge(self, data: Slice, parameters: PriceMarkupParameters) -> Verdict:
        """Judge the sales between enterprises of a slice."""
        batch = data.batch
        rows = data.rows_of(Role.SHIP)
        giver, receiver = batch.source[rows], batch.target[rows]
        traded = (giver >= 0) & (receiver >= 0) & (giver != receiver)
        rows = rows[traded & (batch.kind[rows] != int(EventKind.DIRECT_SHIPMENT))]
        gift = (batch.flags[rows] & GIFT) != 0
        gift |= batch.kind[rows] == int(EventKind.GIFT_SHIPMENT)
        price, cost = batch.price[rows], data.custody.cost[rows]
        priced = ~gift & (price > 0)
        known = priced & (cost > 0)
        skipped = {
            "gift": int(np.count_nonzero(gift)),
            "no_price": int(np.count_nonzero(~gift & ~priced)),
            "no_cost": int(np.count_nonzero(priced & ~known)),
        }
        dear = known & (price >= parameters.ratio * cost)
        dear &= price - cost >= parameters.minimum_difference * 100
        doubtful = dear & (price > parameters.maximum_ratio * cost)
        skipped["unit_doubt"] = int(np.count_nonzero(doubtful))
        found = np.flatnonzero(dear & ~doubtful)
        internal = self._internal(data, rows[found])
        skipped["internal"] = int(np.count_nonzero(internal))
        found = found[~internal]
        paid, asked = cost[found].astype(np.float64), price[found].astype(np.float64)
        packs = np.maximum(batch.quantity[rows[found]].astype(np.int64), 1)
        return Verdict(
            hits=hits_of(
                data,
                rows[found],
                observed=asked / 100,
                threshold=parameters.ratio * paid / 100,
                severity=np.minimum(0.4 + 0.1 * (asked / paid - parameters.ratio), 0.9),
                amount=np.rint((asked - paid) * packs).astype(np.int64),
                extra={"cost": np.round(paid / 100, 2), "times": np.round(asked / paid, 2)},
            ),
            judged=int(np.count_nonzero(known)) - skipped["unit_doubt"] - skipped["internal"],
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    @staticmethod
    def _internal(data: Slice, rows: Int64) -> Bools:
        """Return which of the rows follow a price that was set inside a group, ``(m,)``."""
        batch = data.batch
        group = np.append(data.registry.party_group, np.int32(-1))

        def related(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> Bools:
            same: Bools = (group[a] >= 0) & (group[a] == group[b])
            return same

        giver = batch.source[rows]
        internal = related(giver, batch.target[rows])
        previous = data.custody.previous[rows]
        known = np.flatnonzero(previous >= 0)
        before = data.look_up(("source", "target"), previous[known])
        supplied = (before["target"] == giver[known]) & (before["source"] >= 0)
        internal[known] |= supplied & related(before["source"], giver[known])
        return internal
