"""Detectors of price, written from the definitions at the head of their modules."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from tests.reference.events import Event
from tests.reference.history import History, RawHit, hit
from tests.reference.state import Enriched
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role


def is_gift(event: Event) -> bool:
    return event.gift or event.kind in (EventKind.GIFT_SHIPMENT, EventKind.GIFT_RECEIPT)


def is_sale(row: Enriched) -> bool:
    """A sale to an enterprise or a new one to a person, by a known giver."""
    event = row.event
    if event.giver is None:
        return False
    if event.role == Role.SHIP:
        return (
            event.kind != EventKind.DIRECT_SHIPMENT
            and event.receiver is not None
            and event.receiver != event.giver
        )
    return event.role == Role.PERSON_SALE and row.has(s.NEW_SALE)


def is_priced(event: Event) -> bool:
    return not is_gift(event) and event.price is not None and event.price > 0 and not event.split


def near_expiry(event: Event, days: int) -> bool:
    return event.expiry is not None and event.expiry - event.day <= days


# ---------------------------------------------------------------- price_inversion


@dataclass
class Stock:
    """What one seller holds of one drug (or batch) and what it paid for it, fen."""

    value: int = 0
    packs: int = 0
    last: float | None = None

    def cost_with(self, purchases: list[Event]) -> float | None:
        value = self.value + sum(e.price * max(e.quantity, 1) for e in purchases if e.price)
        packs = self.packs + sum(max(e.quantity, 1) for e in purchases)
        return value / packs if packs > 0 else self.last

    def close_day(self, purchases: list[Event], sold: int) -> None:
        self.value += sum(e.price * max(e.quantity, 1) for e in purchases if e.price)
        self.packs += sum(max(e.quantity, 1) for e in purchases)
        if sold >= self.packs > 0:
            self.last = self.value / self.packs
            self.value = self.packs = 0
        elif self.packs > 0:
            self.value -= self.value * sold // self.packs
            self.packs -= sold


def keys_of(party: str | None, event: Event) -> list[tuple[object, ...]]:
    """Return the stocks an event touches, the most exact first."""
    by_drug = (party, event.drug)
    return [by_drug] if event.batch_no is None else [(party, event.drug, event.batch_no), by_drug]


def cost_at(sale: Event, stock: Stock, purchases: list[Event]) -> float | None:
    """Return the lower of the costs the stock may have had at the moment of the sale."""
    if sale.date_only:
        seen = [stock.cost_with([]), stock.cost_with(purchases)]
    else:
        before = [e for e in purchases if not e.date_only and e.time <= sale.time]
        dated = [e for e in purchases if e.date_only]
        seen = [stock.cost_with(before), stock.cost_with(before + dated)]
    known = [cost for cost in seen if cost is not None]
    return min(known) if known else None


def price_inversion(history: History) -> list[RawHit]:
    p = history.p("price_inversion")
    stocks: defaultdict[tuple[object, ...], Stock] = defaultdict(Stock)
    hits = []
    for day in sorted({row.event.day for row in history}):
        today = [row for row in history.by_time() if row.event.day == day]
        bought: defaultdict[tuple[object, ...], list[Event]] = defaultdict(list)
        sold: defaultdict[tuple[object, ...], int] = defaultdict(int)
        for row in today:
            event = row.event
            known = event.receiver is not None and event.drug is not None
            if row.has(s.HOP) and known and event.price and not is_gift(event):
                for key in keys_of(event.receiver, event):
                    bought[key].append(event)
        for row in today:
            event = row.event
            if not is_sale(row) or not is_priced(event):
                continue
            keys = keys_of(event.giver, event)
            for key in keys:
                sold[key] += max(event.quantity, 1)
            if near_expiry(event, p.near_expiry_days):
                continue
            costs = [float(row.cost) if row.cost else None]
            costs += [cost_at(event, stocks[key], bought[key]) for key in keys]
            cost = next((c for c in costs if c is not None), None)
            assert event.price is not None
            if cost is not None and event.price < cost * (1.0 - p.tolerance):
                hits.append(hit("price_inversion", row, event.price / 100))
        for key in {*bought, *sold}:
            stocks[key].close_day(bought[key], sold[key])
    return hits


# ---------------------------------------------------------------- abnormal_low_price

BINS_PER_UNIT = 200  # bins of ln price


def channel_of(history: History, event: Event) -> str:
    if event.role == Role.SHIP:
        return "wholesale"
    medical = history.world.kind(event.giver) in ("medical", "public_hospital")
    if medical or event.kind in (EventKind.VACCINATION, EventKind.DISPENSING):
        return "medical"
    return "online" if event.online else "retail"


def middle_and_spread(bins: list[int]) -> tuple[int, int]:
    """Return the median bin and the median distance from it in bins, at least 1."""
    half = (len(bins) + 1) // 2
    median = sorted(bins)[half - 1]
    return median, max(1, sorted(abs(value - median) for value in bins)[half - 1])


def abnormal_low_price(history: History) -> list[RawHit]:
    p = history.p("abnormal_low_price")
    judged = [
        row
        for row in history.by_time()
        if is_sale(row)
        and is_priced(row.event)
        and row.event.drug is not None
        and not near_expiry(row.event, p.near_expiry_days)
    ]
    seen: defaultdict[tuple[str | None, str, int], list[int]] = defaultdict(list)
    for row in judged:
        event = row.event
        assert event.price is not None
        key = (event.drug, channel_of(history, event), event.day)
        seen[key].append(math.floor(BINS_PER_UNIT * math.log(event.price)))
    hits = []
    for row in judged:
        event = row.event
        assert event.price is not None
        channel = channel_of(history, event)
        days = range(event.day - p.reference_days, event.day)
        bins = [value for day in days for value in seen.get((event.drug, channel, day), ())]
        if not bins or len(bins) < p.minimum_reference_sales:
            continue
        median, spread = middle_and_spread(bins)
        centre = (median + 0.5) / BINS_PER_UNIT
        z = 0.6745 * (math.log(event.price) - centre) / (spread / BINS_PER_UNIT)
        if event.price <= p.ratio * math.exp(centre) and z <= p.robust_z:
            hits.append(hit("abnormal_low_price", row, event.price / 100))
    return hits
