"""Quota over time 累计超量 (P4): one buyer gathers more of a restricted class than a person needs.

Definition
----------
Restricted sales, packs and *gone* are defined in ``_quota``. A sale without a buyer is skipped as
``no_buyer``. The windows ``(days, packs)`` are those of the class's quota on the day of the event. Each
buyer, class and ``days`` is judged by itself, over all sellers. Remembered are sales up to ``days``
days and one day back.

*Moments*. A timed sale at t is judged at t. The date-only sales of a day are judged together at the
end of that day, after the timed ones.

*Sum* at t (timed): packs of the timed sales with t - days < time <= t and of the date-only sales of
earlier days whose day begins after t - days, that are not gone at t. (Date-only sales of the same day
may have come later.) *Sum* at the end of day D: packs of all sales of the days D - days + 1 to D that
are not gone then: whatever the moments of that day were, the last of them saw them all.

*Fires* when the sum is above ``packs`` and above the ``peak``, which it then becomes. The peak is the
highest sum with which this window fired; it is forgotten at a moment at which the sum without the
sales judged at that moment is at or below ``packs``. observed = sum, threshold = packs.

The finding: of the sales judged at that moment that are not gone (where there is none: of all in the
sum) the one with the smallest event_key leads, with those of them that share its seller, drug and
batch number; all others of the sum are related events (at most 16, latest first). Its time is t, or
the beginning of D. One finding for each day, lead, buyer and window: the group is the buyer's hash
plus ``days``. Severity = 0.4 + 0.3 × (sum / packs - 1), at most 1. Subject: the seller of the lead.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trace_engine.core.keys import pair_all
from trace_engine.core.windows import RecentRows, judge_windows
from trace_engine.detectors._quota import (
    SALE,
    HitList,
    days_of,
    part,
    restricted_rows,
)
from trace_engine.detectors.base import (
    Evidence,
    Family,
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY
from trace_engine.policy.values import Quota


class QuotaRolling(KeyedDetector[Parameters]):
    """Packs of a restricted class by buyer, in sliding windows."""

    id: ClassVar[str] = "quota_rolling"
    title_zh: ClassVar[str] = "累计超量购买"
    title_en: ClassVar[str] = "Over the limit over time"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "buyer and class"
    rows: ClassVar[tuple[str, ...]] = ("P4",)
    basis: ClassVar[str] = (
        "《关于加强含麻黄碱类复方制剂管理有关事宜的通知》（国食药监办〔2012〕260号）：超过正常医疗需求，"
        "大量、多次购买"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "buyer_id")
    false_positives: ClassVar[str] = (
        "Sales on prescription (left out), packs returned (taken off). Not kept out: a family "
        "buying under one name."
    )
    false_positives_zh: ClassVar[str] = (
        "凭处方销售（不计）、已退回的包装（抵减）。未排除：一家人以同一人名义购买。"
    )
    sentence_zh: ClassVar[str] = (
        "购买人{buyer}至{time}在{window_days}天内累计购买{class_zh}{observed:.0f}个最小包装，超过"
        "{threshold:.0f}个；最近一次由{subject}销售（{drug}）。"
    )
    sentence_en: ClassVar[str] = (
        "Buyer {buyer} had by {time} bought {observed:.0f} packs of the class {class_en} within "
        "{window_days} days (limit {threshold:.0f}), lastly from {subject} ({drug})."
    )

    def select(self, data: Slice, parameters: Parameters) -> tuple[Rows, Verdict]:
        """Return restricted sales by window, and the returns and voids that take them back."""

        def parts(quota: Quota) -> list[tuple[int, int]]:
            return [(packs, days) for days, packs in quota.windows]

        return restricted_rows(data, parts, buyer_needed=True)

    def new_state(self) -> State:
        """Return empty state: the recent rows by buyer, class and window."""
        state: State = {"longest_days": 0}
        RecentRows(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: Parameters, last_day: int
    ) -> Hits | None:
        """Judge the sales day by day."""
        pool, found = RecentRows(state), HitList()
        for day, today in days_of(rows):
            sales = today["role"] == SALE
            longest = max(int(today["span"].max(initial=0)), state["longest_days"])
            state["longest_days"] = longest
            pool.forget((day - longest - 1) * DAY)
            self._judge_day(pool, day, part(today, sales), part(today, ~sales), found)
        result = found.hits()
        if result is None:
            return None
        hits, span = result
        return Hits(
            seq=hits.seq,
            time=hits.time,
            observed=hits.observed,
            threshold=hits.threshold,
            severity=hits.severity,
            group=hits.group,
            related=hits.related,
            extra={**hits.extra, "window_days": span},
        )

    @staticmethod
    def _judge_day(pool: RecentRows, day: int, sales: Rows, returns: Rows, found: HitList) -> None:
        buyer = sales["buyer"]
        second = pair_all(sales["class_id"], sales["span"])
        begin, end = pool.append(sales, buyer, second)
        pool.take_back(returns)
        state = pool.state
        fired = np.empty((end - begin, 2), np.int64)
        m = judge_windows(
            begin,
            end,
            pool.column("time"),
            pool.column("key"),
            pool.column("packs"),
            pool.column("gone_from"),
            pool.column("gone_to"),
            pool.column("previous"),
            state["head"],
            pool.column("span"),
            pool.column("limit"),
            state["peak"],
            state["done"],
            fired,
        )
        time, keys, event_key = (pool.column(n) for n in ("time", "key", "event_key"))
        for row, total in fired[:m].tolist():
            moment, days = int(time[row]), int(pool.column("span")[row])
            if moment % DAY == 0:  # judged at the end of the day, over calendar days
                end_of_day = moment + DAY - 1
                counted = pool.chain(
                    int(keys[row]), moment - (days - 1) * DAY, end_of_day, end_of_day
                )
            else:
                counted = [
                    r
                    for r in pool.chain(int(keys[row]), moment - days * DAY + 1, moment, moment)
                    if time[r] % DAY != 0 or time[r] < day * DAY
                ]
            now = [r for r in counted if time[r] == moment] or counted
            lead = min(now, key=lambda r: int(event_key[r]))
            others = [r for r in counted if r not in now]
            group = (int(buyer[row - begin]) + days) % 2**64
            found.add(pool, lead, now, others, total=total, moment=moment, group=group)
