"""Quotas of restricted classes, from the definitions in their modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.reference.events import DAY, MINUTE, Event
from tests.reference.history import History, RawHit
from trace_engine.core import signals as s
from trace_engine.events.kinds import Role

FOR_EVER = 2**62


@dataclass(eq=False)
class Sale:
    """A restricted sale, and the interval during which it counts as never made."""

    event: Event
    packs: int
    gone_from: int = FOR_EVER
    gone_to: int = FOR_EVER
    gone_by: int = 0  # key of the return that took it back

    def gone(self, moment: int) -> bool:
        return self.gone_from <= moment < self.gone_to


def in_class(history: History, event: Event, name: str) -> bool:
    return name in history.world.classes(event.drug)


def restricted_sales(history: History, name: str, buyer_needed: bool) -> dict[int, list[Sale]]:
    """Return sales of one restricted class by day."""
    by_day: defaultdict[int, list[Sale]] = defaultdict(list)
    for row in history.by_time():
        event = row.event
        if (
            event.role == Role.PERSON_SALE
            and row.has(s.NEW_SALE)
            and in_class(history, event, name)
            and not event.prescription
            and not (buyer_needed and event.buyer is None)
        ):
            by_day[event.day].append(Sale(event, 1 if event.split else max(event.quantity, 1)))
    return by_day


def take_back(event: Event, remembered: list[Sale]) -> None:
    """Apply a consumer return or a void."""
    r = event.time
    last = r + (DAY - 1 if event.date_only else 0)
    if event.role == Role.CONSUMER_RETURN:
        open_ones = [x for x in remembered if x.event.code == event.code and not x.gone(r)]
        before = [x for x in open_ones if x.event.time <= r]
        later = [x for x in open_ones if r < x.event.time <= last]
        if before:
            taken = min(before, key=lambda x: (-x.event.time, x.event.key))
        elif later:
            taken = min(later, key=lambda x: (x.event.time, x.event.key))
        else:
            return
        taken.gone_from, taken.gone_to, taken.gone_by = r, FOR_EVER, event.key
        return
    for sale in remembered:
        if sale.event.key == event.voids and sale.event.time <= last and not sale.gone(r):
            sale.gone_from, sale.gone_to, sale.gone_by = r, FOR_EVER, 0
        elif sale.gone_by == event.voids and sale.gone_to == FOR_EVER:
            sale.gone_to = r


def taken_back_by_day(history: History) -> dict[int, list[Event]]:
    """Return returns and voids by day, but those of drugs known to be unrestricted."""
    restricted = set(history.lists.get("quotas", {}))
    world = history.world
    by_day: defaultdict[int, list[Event]] = defaultdict(list)
    for row in history:
        event = row.event
        known = event.drug in world.drugs
        classes = world.classes(event.drug) | world.classes(event.code_drug)
        if known and not classes & restricted:
            continue
        if event.role == Role.CONSUMER_RETURN or (event.role == Role.VOID and event.voids):
            by_day[event.day].append(event)
    for events in by_day.values():
        events.sort(key=lambda e: (e.time, e.role == Role.VOID, e.key))
    return by_day


def hits_on(
    detector: str, now: Iterable[Sale], lead: Sale, total: int, moment: int
) -> list[RawHit]:
    """Return hits on those of ``now`` that are of one seller, drug and batch with the lead."""

    def kind(sale: Sale) -> tuple[str | None, str | None, str | None]:
        return sale.event.giver, sale.event.drug, sale.event.batch_no

    return [
        RawHit(detector, sale.event.event_id, float(total), sale.event.giver, None, moment)
        for sale in now
        if kind(sale) == kind(lead)
    ]


def by_key(sale: Sale) -> int:
    return sale.event.key


# ---------------------------------------------------------------- quota_per_sale


@dataclass(eq=False)
class Basket:
    """What counts as one sale."""

    opened: int
    sales: list[Sale]
    peak: int = 0


def quota_per_sale(history: History) -> list[RawHit]:
    hits: list[RawHit] = []
    for name, quota in history.lists.get("quotas", {}).items():
        if quota["per_sale"] is not None:
            hits += _per_sale(history, name, quota["per_sale"])
    return hits


def _basket_key(event: Event) -> tuple[object, ...]:
    if event.order is not None:
        return (event.giver, "order", event.order)
    if event.bill is not None:
        return (event.giver, "bill", event.bill)
    if event.buyer is not None and not event.date_only:
        return (event.giver, "buyer", event.buyer)
    return (event.giver, "alone", event.key)


def _per_sale(history: History, name: str, limit: int) -> list[RawHit]:
    p = history.p("quota_per_sale")
    by_day = restricted_sales(history, name, buyer_needed=False)
    back = taken_back_by_day(history)
    baskets: dict[tuple[object, ...], Basket] = {}
    remembered: list[Sale] = []
    hits: list[RawHit] = []
    for day in sorted({*by_day, *back}):
        horizon = (day - p.order_days) * DAY
        remembered = [x for x in remembered if x.event.time >= horizon] + by_day.get(day, [])
        for event in back.get(day, []):
            take_back(event, remembered)
        moments: defaultdict[tuple[int, tuple[object, ...]], list[Sale]] = defaultdict(list)
        for sale in by_day.get(day, []):
            moments[sale.event.time, _basket_key(sale.event)].append(sale)
        for (moment, key), new in sorted(moments.items(), key=lambda item: item[0][0]):
            span = {"buyer": p.window_minutes * MINUTE, "alone": 0}.get(
                str(key[1]), p.order_days * DAY
            )
            basket = baskets.get(key)
            if basket is None or moment > basket.opened + span:
                basket = baskets[key] = Basket(moment, [])
            basket.sales += new
            counted = [x for x in basket.sales if not x.gone(moment)]
            total = sum(x.packs for x in counted)
            if total <= max(limit, basket.peak):
                continue
            now = [x for x in counted if x.event.time == moment] or counted
            lead = min(now, key=by_key)
            if basket.peak == 0:
                now = [x for x in counted if x in now or x.event.day == day]
            basket.peak = total
            hits += hits_on("quota_per_sale", now, lead, total, moment)
    return hits


# ---------------------------------------------------------------- quota_rolling


def quota_rolling(history: History) -> list[RawHit]:
    hits: list[RawHit] = []
    for name, quota in history.lists.get("quotas", {}).items():
        for days, packs in quota["windows"]:
            hits += _rolling(history, name, days, packs)
    return hits


def in_window(sale: Sale, moment: int, days: int) -> bool:
    """Whether a sale lies in the window that ends at a moment, or with the day if it is midnight."""
    event, day = sale.event, moment // DAY
    if moment % DAY == 0:
        return day - days < event.day <= day
    if event.date_only:
        return event.day < day and event.time > moment - days * DAY
    return moment - days * DAY < event.time <= moment


def _rolling(history: History, name: str, days: int, limit: int) -> list[RawHit]:
    by_day = restricted_sales(history, name, buyer_needed=True)
    back = taken_back_by_day(history)
    peaks: defaultdict[object, int] = defaultdict(int)
    remembered: list[Sale] = []
    hits: list[RawHit] = []
    for day in sorted({*by_day, *back}):
        remembered += by_day.get(day, [])
        for event in back.get(day, []):
            take_back(event, remembered)
        today = by_day.get(day, [])
        timed = sorted({x.event.time for x in today if not x.event.date_only})
        for moment in [*timed, day * DAY]:  # those that state only the date come last
            end = moment + DAY - 1 if moment == day * DAY else moment

            for buyer in dict.fromkeys(x.event.buyer for x in today if x.event.time == moment):
                mine = [
                    x for x in remembered if x.event.buyer == buyer and in_window(x, moment, days)
                ]
                counted = [x for x in mine if not x.gone(end)]
                total = sum(x.packs for x in counted)
                before = sum(x.packs for x in counted if x.event.time != moment)
                if before <= limit:
                    peaks[buyer] = 0
                if total <= max(limit, peaks[buyer]):
                    continue
                peaks[buyer] = total
                now = [x for x in counted if x.event.time == moment] or counted
                lead = min(now, key=by_key)
                hits += hits_on("quota_rolling", now, lead, total, moment)
    return hits
