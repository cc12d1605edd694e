"""Quota per sale 单次超量 (P4): more packs of a restricted class in one sale than are allowed.

Definition
----------
Restricted sales, packs and *gone* are defined in ``_quota``; the limit is ``per_sale`` of the class's
quota on the day of the event (classes without one are not judged).

*One sale* of a class is what has the same seller (giver) and, the first of these that an event has,

1. the same order;
2. the same bill;
3. the same buyer, for timed events: opened by an event, it takes those up to ``window_minutes`` after
   that event, and the next one after them opens a new sale;
4. else (no order, bill or buyer; or date-only with a buyer alone): each event is a sale of its own.

A sale by order or bill takes the events up to ``order_days`` days after its first; the next one
opens a new sale. Gone sales keep their place in opening a sale, but do not count.

At each moment t at which the sale has an event, ``total`` = packs of its events with time <= t that
are not gone at t. *Fires* when total > limit and total > every total with which this sale fired
before. observed = total, threshold = limit, in packs.

The finding: of the events at t that are not gone (where there is none: of all that count) the one
with the smallest event_key leads, and with it the events of
the same day and sale up to t (when the sale had fired before: at t only) that are not gone and share
drug and batch number; the others are related events (at most 16). Its group is the order, else the
bill, else the event_key of the leading event. Severity = 0.4 + 0.3 × (total / limit - 1), at most 1.
Subject: the seller.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np

from trace_engine.core.keys import pair_all
from trace_engine.core.windows import RecentRows, judge_sales
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
from trace_engine.events.batch import DAY, MINUTE
from trace_engine.policy.values import Quota

_ORDER, _BILL, _BUYER, _ALONE = 0, 1, 2, 3


class QuotaPerSaleParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`QuotaPerSale`; the limits are the policy's quotas."""

    window_minutes: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=1440,
            description="Without order or bill, one buyer's purchases at one seller this near are one",
            extra_json_schema={"unit": "minutes", "zh": "无订单、单据时视为一次销售的时间窗"},
        ),
    ] = 10
    order_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="How long after its first event an order or bill is the same sale",
            extra_json_schema={"unit": "days", "zh": "同一订单、单据视为一次销售的最长天数"},
        ),
    ] = 31


class QuotaPerSale(KeyedDetector[QuotaPerSaleParameters]):
    """Packs of a restricted class in one sale."""

    id: ClassVar[str] = "quota_per_sale"
    title_zh: ClassVar[str] = "单次超量销售"
    title_en: ClassVar[str] = "Over the limit in one sale"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "order, bill, or buyer and seller; with class"
    rows: ClassVar[tuple[str, ...]] = ("P4",)
    basis: ClassVar[str] = (
        "《关于加强含麻黄碱类复方制剂管理有关事宜的通知》（国食药监办〔2012〕260号）；药品经营环节"
        "“清源”巩固提升行动（药监综药管〔2026〕22号）：超量销售有限售管理要求的药品品种"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs",)
    false_positives: ClassVar[str] = (
        "Sales on prescription by the dose prescribed (left out), packs returned (taken off), "
        "retried uploads (not new sales), split sales of one pack (count once)."
    )
    false_positives_zh: ClassVar[str] = (
        "凭处方按剂量销售（不计）、已退回的包装（抵减）、重复上传（不算新销售）、同一盒的拆零销售（"
        "算一盒）。"
    )
    parameters: ClassVar[type[Parameters]] = QuotaPerSaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}一次销售{class_zh}{observed:.0f}个最小包装（{drug}等，订单{order}，"
        "单据{bill}，购买人{buyer}），超过每次{threshold:.0f}个的限量。"
    )
    sentence_en: ClassVar[str] = (
        "At {time} {subject} sold {observed:.0f} packs of the class {class_en} in one sale ({drug}; "
        "order {order}, bill {bill}, buyer {buyer}); the limit is {threshold:.0f}."
    )

    def select(self, data: Slice, parameters: QuotaPerSaleParameters) -> tuple[Rows, Verdict]:
        """Return restricted sales, and the returns and voids that take them back."""

        def parts(quota: Quota) -> list[tuple[int, int]]:
            return [] if quota.per_sale is None else [(quota.per_sale, 0)]

        return restricted_rows(data, parts, buyer_needed=False)

    def new_state(self) -> State:
        """Return empty state: the recent rows by sale."""
        state: State = {}
        RecentRows(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: QuotaPerSaleParameters, last_day: int
    ) -> Hits | None:
        """Judge the sales day by day."""
        pool, found = RecentRows(state), HitList()
        for day, today in days_of(rows):
            pool.forget(day * DAY - parameters.order_days * DAY)
            sales = today["role"] == SALE
            self._judge_day(pool, part(today, sales), part(today, ~sales), parameters, found)
        result = found.hits()
        return None if result is None else result[0]

    @staticmethod
    def _judge_day(
        pool: RecentRows,
        sales: Rows,
        returns: Rows,
        parameters: QuotaPerSaleParameters,
        found: HitList,
    ) -> None:
        dated = sales["time"] % DAY == 0
        kind = np.where(
            sales["order"] != 0,
            _ORDER,
            np.where(
                sales["bill"] != 0, _BILL, np.where((sales["buyer"] != 0) & ~dated, _BUYER, _ALONE)
            ),
        )
        choices = [sales["order"], sales["bill"], sales["buyer"], sales["event_key"]]
        first = np.choose(kind, choices).astype(np.uint64)
        second = pair_all(sales["source"], 4 * sales["class_id"] + kind)
        short, long = parameters.window_minutes * MINUTE, parameters.order_days * DAY
        span = np.where(kind == _BUYER, short, np.where(kind == _ALONE, 0, long))
        begin, end = pool.append(sales | {"span": span}, first, second)
        pool.take_back(returns)
        state = pool.state
        fired = np.empty((end - begin, 3), np.int64)
        m = judge_sales(
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
            state["opened"],
            state["done"],
            fired,
        )
        time, keys = pool.column("time"), pool.column("key")
        for row, total, before in fired[:m].tolist():
            moment = int(time[row])
            opened = int(state["opened"][keys[row]])
            counted = pool.chain(int(keys[row]), opened, moment, moment)
            now = [r for r in counted if time[r] == moment] or counted
            lead = min(now, key=lambda r: int(pool.column("event_key")[r]))
            if not before:
                now += [r for r in counted if r not in now and time[r] // DAY == moment // DAY]
            i = row - begin
            named = kind[i] in (_ORDER, _BILL)
            group = int(first[i]) if named else int(pool.column("event_key")[lead])
            found.add(
                pool, lead, now, [r for r in counted if r not in now], total=total,
                moment=moment, group=group,
            )  # fmt: skip
