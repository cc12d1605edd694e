"""Detectors that read custody, each as one plain function over the whole history.

A function gives its raw hits: event, observed value, subject, counterparty, time. How hits of one
cause become one finding is not its matter.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.reference.categories import (
    online_banned_sale,
    recalled_sale,
    remote_dispatch,
    unlicensed_party,
)
from tests.reference.events import DAY, HOUR, MINUTE, SECOND
from tests.reference.history import NOBODY, History, RawHit, hit
from tests.reference.lone import malformed_code, time_disorder, unknown_product
from tests.reference.prices import abnormal_low_price, price_inversion
from tests.reference.quotas import quota_per_sale, quota_rolling
from tests.reference.state import Enriched, Waiting
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role


def answered(detector: str, row: Enriched, observed: float) -> RawHit:
    """Build a hit whose subject is the giver, or where none is known the receiver."""
    event = row.event
    if event.giver is None:
        return hit(detector, row, observed, event.receiver, NOBODY)
    return hit(detector, row, observed, event.giver, event.receiver or NOBODY)


RECEIPTS = {Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE}
RETAIL_LEVEL = {"pharmacy", "chain_store", "medical", "public_hospital"}
ENTERPRISE_SALES = {
    EventKind.SALE_SHIPMENT,
    EventKind.DIRECT_SHIPMENT,
    EventKind.SUPPLY_SHIPMENT,
    EventKind.GIFT_SHIPMENT,
}


# ---------------------------------------------------------------- how often it changed hands


def repeated_transfer(history: History) -> list[RawHit]:
    p = history.p("repeated_transfer")

    def limit(row: Enriched) -> int:
        hospital = history.world.kind(row.event.receiver) == "public_hospital"
        return int(p.max_hops_public_hospital if hospital else p.max_hops)

    return [
        hit("repeated_transfer", row, row.hops)
        for row in history
        if row.has(s.HOP) and row.hops >= limit(row)
    ]


def cross_region_resale(history: History) -> list[RawHit]:
    p = history.p("cross_region_resale")
    return [
        hit("cross_region_resale", row, row.crossings)
        for row in history
        if row.has(s.HOP | s.REDIRECTED) and row.has(s.CROSSED) and row.crossings >= p.max_crossings
    ]


def rapid_turnover(history: History) -> list[RawHit]:
    p = history.p("rapid_turnover")
    return [
        hit("rapid_turnover", row, row.run) for row in history if row.has(s.HOP) and row.run >= p.k
    ]


def ownership_cycle(history: History) -> list[RawHit]:
    return [hit("ownership_cycle", row, row.hops) for row in history if row.has(s.EARLIER_OWNER)]


def reverse_flow(history: History) -> list[RawHit]:
    """A hop away from a retailer or a medical institution, outside its own group."""
    hits = []
    for row in history:
        # An owner nobody knew before is the one the event itself names as giver.
        before = row.owner_before or row.event.giver
        if (
            row.has(s.HOP)
            and history.world.kind(before) in RETAIL_LEVEL
            and not history.world.related(before, row.event.receiver)
        ):
            hits.append(hit("reverse_flow", row, row.hops, subject=before))
    return hits


# ---------------------------------------------------------------- sold, and then


def sold_code_moves(history: History) -> list[RawHit]:
    return [hit("sold_code_moves", row, row.sales) for row in history if row.has(s.AFTER_SALE)]


def duplicate_sale(history: History) -> list[RawHit]:
    return [
        hit("duplicate_sale", row, row.sales, counterparty=row.sale_giver)
        for row in history
        if row.has(s.REPEAT_SALE)
    ]


def sale_class(history: History, row: Enriched) -> str:
    """Return which of the three explanations a repeated sale suggests."""
    if row.sale_giver == row.event.giver:
        return "same_seller"
    assert row.sale_time is not None
    # The shortest gap the two can have had: a doubtful case is not called returned.
    gap = row.event.time - row.sale_time - (DAY if row.has(s.SALE_DATE_ONLY) else 0)
    long_gap = history.p("duplicate_sale").long_gap_days * DAY
    return "long_gap" if gap > long_gap else "short_gap"


def dead_code_use(history: History) -> list[RawHit]:
    hits = []
    for row in history:
        event = row.event
        sale = event.role == Role.PERSON_SALE or event.kind in ENTERPRISE_SALES
        # A clock may be off: the day it was at least, and the day it was at most.
        skew = 0 if event.date_only else history.settings.clock_skew_minutes * MINUTE
        at_least, at_most = (event.time - skew) // DAY, (event.time + skew) // DAY
        expired = sale and event.expiry is not None and at_least > event.expiry
        unborn = (
            event.role not in (Role.NONE, Role.VOID)
            and event.production is not None
            and at_most < event.production
        )
        if not (row.has(s.AFTER_DEAD) or expired or unborn):
            continue
        hits.append(answered("dead_code_use", row, 1))
    return hits


# ---------------------------------------------------------------- where it was


def impossible_travel(history: History) -> list[RawHit]:
    p = history.p("impossible_travel")
    hits = []
    for row in history:
        if not row.has(s.PLACED):
            continue
        assert row.last_place
        assert row.place
        assert row.last_time is not None
        distance = history.world.distance_km(row.last_place, row.place)
        if distance is None or distance < p.min_km:
            continue
        event = row.event
        gap = event.time // SECOND * SECOND - row.last_time + (DAY if event.date_only else 0)
        gap = max(gap + 2 * history.settings.clock_skew_minutes * MINUTE, 1)
        allowed = p.speed_shipped_kmh if row.has(s.SHIPPED_BETWEEN) else p.speed_kmh
        speed = distance / (gap / HOUR)
        if speed > allowed:
            giver, receiver = row.event.giver, row.event.receiver
            booked_in = row.event.role in RECEIPTS and receiver is not None
            subject, other = (receiver, giver) if booked_in or giver is None else (giver, receiver)
            hits.append(hit("impossible_travel", row, speed, subject, other or NOBODY))
    return hits


# ---------------------------------------------------------------- bills that do not meet


def unrecorded_source(history: History) -> list[RawHit]:
    whole_from = history.settings.history_from
    hits = []
    for row in history:
        production = row.event.production
        judged_unknown = (
            row.has(s.UNKNOWN_SOURCE)
            and whole_from is not None
            and production is not None
            and production >= whole_from
        )
        if row.has(s.NO_SOURCE) or judged_unknown:
            hits.append(hit("unrecorded_source", row, 1))
    return hits


def _late(detector: str, history: History, waiting: Waiting, subject_is_giver: bool) -> RawHit:
    event = waiting.event
    days = history.p(detector).days + 1
    sides = (event.giver, event.receiver)
    subject, other = sides if subject_is_giver else sides[::-1]
    return RawHit(detector, event.event_id, float(days), subject, other, waiting.deadline * DAY)


def unmatched_shipment(history: History) -> list[RawHit]:
    return [
        _late("unmatched_shipment", history, late, True)
        for late in history.waiting
        if late.shipment
    ]


def unmatched_receipt(history: History) -> list[RawHit]:
    days = history.p("unmatched_receipt").history_days
    hits = []
    for late in history.waiting:
        stands = (
            late.owner_on_record
            or history.settings.history_from is not None
            or late.event.day * DAY >= history.data_begin + days * DAY
        )
        if not late.shipment and stands:
            late_hit = _late("unmatched_receipt", history, late, False)
            hits.append(replace(late_hit, observed=1.0))
    for row in history:
        if row.has(s.RECEIPT_MISMATCH):
            event = row.event
            hits.append(
                hit("unmatched_receipt", row, 1, subject=event.receiver, counterparty=event.giver)
            )
    return hits


def _found() -> dict[str, Callable[[History], list[RawHit]]]:
    """Return those of this module and of every module beside it that ends with ``DETECTORS``."""
    found: dict[str, Callable[[History], list[RawHit]]] = {
        function.__name__: function
        for function in (
            abnormal_low_price,
            cross_region_resale,
            dead_code_use,
            duplicate_sale,
            impossible_travel,
            malformed_code,
            online_banned_sale,
            ownership_cycle,
            price_inversion,
            quota_per_sale,
            quota_rolling,
            rapid_turnover,
            recalled_sale,
            remote_dispatch,
            repeated_transfer,
            reverse_flow,
            sold_code_moves,
            time_disorder,
            unknown_product,
            unlicensed_party,
            unmatched_receipt,
            unmatched_shipment,
            unrecorded_source,
        )
    }
    folder = Path(__file__).parent
    for path in sorted(folder.glob("*.py")):
        if path.stem in ("__init__", "detectors"):
            continue
        module = importlib.import_module(f"tests.reference.{path.stem}")
        for name, function in getattr(module, "DETECTORS", {}).items():
            assert name not in found, f"{name} is told twice"
            found[name] = function
    return found


REFERENCE: dict[str, Callable[[History], list[RawHit]]] = _found()
