"""Sales linked by buyer, contact, address or device, and when they count: see ``split_purchase``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from trace_engine.core.windows import RecentRows
from trace_engine.detectors.base import Parameters
from trace_engine.events.batch import DAY

LINKS = ("contact", "address", "buyer_device")


class SplitPurchaseParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of ``split_purchase``; the limits are the policy's quotas."""

    orders: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100,
            description="Fewest purchases that are linked",
            extra_json_schema={"unit": "purchases", "zh": "关联订单数下限"},
        ),
    ] = 3
    household: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="Buyers under one address, telephone or device that may be one household",
            extra_json_schema={"unit": "buyers", "zh": "视为同一家庭的购买人数上限"},
        ),
    ] = 3
    reference_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="How far back purchases of other drugs show who shares an address",
            extra_json_schema={"unit": "days", "zh": "识别集体地址的参照天数"},
        ),
    ] = 30


class LinkedRows(RecentRows):
    """Recent restricted sales with what links them."""

    COLUMNS = (*RecentRows.COLUMNS, "buyer", "purchase", *LINKS)  # type: ignore[assignment]
    DTYPES: ClassVar[dict[str, Any]] = {
        **RecentRows.DTYPES,
        "buyer": np.uint64,
        "purchase": np.uint64,
        **dict.fromkeys(LINKS, np.uint64),
    }


@dataclass(frozen=True, slots=True)
class Sale:
    """One restricted sale, as plain numbers."""

    row: int
    time: int
    packs: int
    buyer: int
    purchase: int
    links: tuple[tuple[str, int], ...]

    @property
    def dated(self) -> bool:
        return self.time % DAY == 0


Group = list[Sale]


def may_count(group: Group, day: int, limit: int, p: SplitPurchaseParameters) -> bool:
    """Return whether linked sales are worth a look: the cheap part of what counts."""
    return (
        sum(sale.packs for sale in group) > limit
        and len({sale.purchase for sale in group}) >= p.orders
        and any(sale.time >= day * DAY for sale in group)
    )


def judge_group(
    pool: LinkedRows,
    day: int,
    sales: Group,
    excluded: set[int],
    limit: int,
    p: SplitPurchaseParameters,
    found: list[Any],
) -> None:
    """Judge, moment by moment, sales of one class that might be linked."""
    gone_from, gone_to = pool.column("gone_from"), pool.column("gone_to")
    event_key = pool.column("event_key")
    today = [sale for sale in sales if sale.time >= day * DAY]
    moments = sorted({sale.time for sale in today if not sale.dated})
    if any(sale.dated for sale in today):
        moments.append((day + 1) * DAY)  # the end of the day
    for moment in moments:
        end_of_day = moment == (day + 1) * DAY
        at = moment - 1 if end_of_day else moment
        seen = [
            sale
            for sale in (today if end_of_day else sales)
            if (end_of_day or (not sale.dated and moment - DAY < sale.time <= moment))
            and not gone_from[sale.row] <= at < gone_to[sale.row]
        ]
        now = {sale for sale in seen if (sale.dated if end_of_day else sale.time == moment)}
        before = [
            g
            for g in groups_of([s for s in seen if s not in now], excluded, p.household)
            if _counts(g, limit, p)
        ]
        for group in groups_of(seen, excluded, p.household):
            judged = [sale for sale in group if sale in now]
            if not judged or not _counts(group, limit, p):
                continue
            members = set(group)
            height = _height(group, limit)
            if any(_height(g, limit) >= height for g in before if not members.isdisjoint(g)):
                continue
            lead = min(judged, key=lambda sale: int(event_key[sale.row]))
            others = sorted(
                (sale for sale in group if sale is not lead),
                key=lambda sale: (-sale.time, int(event_key[sale.row])),
            )
            found.append(
                (
                    int(pool.column("seq")[lead.row]),
                    day * DAY if end_of_day else moment,
                    sum(sale.packs for sale in group),
                    limit,
                    int(pool.column("class_id")[lead.row]),
                    int(event_key[lead.row]),
                    len({sale.buyer for sale in group}),
                    len({sale.purchase for sale in group}),
                    pool.column("seq")[[sale.row for sale in others]].tolist(),
                )
            )


def _height(group: Group, limit: int) -> int:
    return (sum(sale.packs for sale in group) - 1) // limit


def _counts(group: Group, limit: int, p: SplitPurchaseParameters) -> bool:
    buyers = {sale.buyer for sale in group}
    return (
        sum(sale.packs for sale in group) > limit
        and len({sale.purchase for sale in group}) >= p.orders
        and (len(buyers) > 1 or 0 in buyers)
    )


def groups_of(sales: list[Sale], excluded: set[int], household: int) -> list[Group]:
    """Return the sales in groups that are linked, directly or through others."""
    at_address: defaultdict[int, set[int]] = defaultdict(set)
    for sale in sales:
        for name, value in sale.links:
            if name == "address" and sale.buyer:
                at_address[value].add(sale.buyer)
    leader = list(range(len(sales)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    seen: dict[tuple[str, int], int] = {}
    for i, sale in enumerate(sales):
        words = [("purchase", sale.purchase)]
        if sale.buyer:
            words.append(("buyer", sale.buyer))
        words += [
            (name, value)
            for name, value in sale.links
            if value not in excluded
            and not (name == "address" and len(at_address[value]) > household)
        ]
        for word in words:
            leader[find(seen.setdefault(word, i))] = find(i)
    groups: defaultdict[int, Group] = defaultdict(list)
    for i, sale in enumerate(sales):
        groups[find(i)].append(sale)
    return list(groups.values())
