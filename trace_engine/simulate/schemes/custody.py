"""Schemes of shops and clinics around the life of a code: resale, copies, the dead and unborn."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.cities import distances
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.flows import HOUR, retail_price
from trace_engine.simulate.market import MEDICAL, MEDICINE, PHARMACY, RETAIL
from trace_engine.simulate.schemes.cast import OWN_STOCK, Cast, Scene, SchemeKind
from trace_engine.simulate.truth import PARTICIPANT, SUBJECT


def _drug(desk: Desk, seller: int) -> int:
    medical = int(desk.market.type[seller]) == MEDICAL
    return desk.drug(MEDICINE if medical else RETAIL)


def _honest(desk: Desk, cast: Cast, near: int, far: bool = False) -> int:
    """Return an honest pharmacy in another city; ``far``: at least 900 km away."""
    m = desk.market
    guilty = [*cast.shops, *cast.online]
    km = distances()[m.city_of(near)][m.warehouse]
    ok = (m.type == PHARMACY) & (m.shop_of < 0) & ~m.apart & (km > (900 if far else 1))
    ok[guilty] = False
    return desk.pick(np.flatnonzero(ok))


def reverse_flow(scene: Scene, seller: int, cases: int) -> None:
    """A shop sells stock back up to a distributor that collects it (零售逆向流向批发)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 8))
        collector = scene.cast.collector(desk)
        day, batch = desk.supply(codes, drug, seller, desk.day(60))
        day += desk.number(3, 10)
        price = desk.price(drug, 0.8)
        events = desk.ship(codes, seller, collector, desk.office(day), batch, price)
        m = desk.market
        day += int(m.transit_days(m.city_of(seller), m.city_of(collector), desk.rng))
        desk.receive(codes, seller, collector, desk.office(day), batch, price)
        truth.add("reverse_flow", [(seller, SUBJECT), (collector, PARTICIPANT)], codes, events)


def sold_code_moves(scene: Scene, seller: int, cases: int) -> None:
    """Packs billed to a person's insurance never leave the shop and go to a collector.

    Shape: empty swiping (空刷) followed by resale; found as movement after sale (售后再流转).
    """
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 5))
        collector = scene.cast.collector(desk)
        day, batch = desk.supply(codes, drug, seller, desk.day(75))
        for code in codes:
            desk.sell([code], seller, desk.till(day + desk.number(1, 6)), batch)
        day += desk.number(9, 20)
        price = desk.price(drug, 0.75)
        events = desk.ship(codes, seller, collector, desk.office(day), batch, price)
        m = desk.market
        day += int(m.transit_days(m.city_of(seller), m.city_of(collector), desk.rng))
        events += desk.receive(codes, seller, collector, desk.office(day), batch, price)
        truth.add("sold_code_moves", [(seller, SUBJECT), (collector, PARTICIPANT)], codes, events)


def swapped(scene: Scene, seller: int, cases: int) -> None:
    """One pack settled again and again at one place: other goods are billed under its code.

    Shape: 疑似串换 of the insurance bureau's notice, 8 to 60 times over months at the worst.
    """
    desk, truth = scene.desk, scene.truth
    for i in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, 1)
        day, batch = desk.supply(codes, drug, seller, desk.day(90))
        day += 2
        desk.sell(codes, seller, desk.till(day), batch)
        again = desk.number(8, 30) if i % 6 == 5 else desk.number(1, 4)
        last = desk.market.first_day + desk.market.days - 1
        events = []
        for _ in range(again):
            day = min(day + desk.number(1, 12), last)
            events += desk.sell(codes, seller, desk.till(day), batch)
        truth.add("duplicate_sale", [(seller, SUBJECT)], codes, sorted(events), "same_seller")


def returned_medicine(scene: Scene, seller: int, cases: int) -> None:
    """A pack sold elsewhere one to two months ago is sold again, cheap, with no supplier.

    Shape: 疑似回流药, gaps of 30 to 68 days in the published cases, 20 to 40 % under the market.
    """
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 3))
        first = _honest(desk, scene.cast, seller)
        day, batch = desk.supply(codes, drug, first, desk.day(105))
        day += 1
        for code in codes:
            desk.sell([code], first, desk.till(day + desk.number(0, 3)), batch)
        events = []
        for code in codes:
            later = day + desk.number(34, 68)
            price = round(float(retail_price(desk.market, seller, drug, 1.0)) * 0.7)
            events += desk.sell([code], seller, desk.till(later), batch, price)
        truth.add(
            "duplicate_sale",
            [(seller, SUBJECT), (first, PARTICIPANT)],
            codes,
            events,
            "other_seller_late",
        )


def copied_code(scene: Scene, seller: int, cases: int) -> None:
    """The code of a genuine pack, just sold, turns up on packs of another batch elsewhere.

    Shape: 疑似假药, one code at three institutions within two days.
    """
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, 1)
        first = _honest(desk, scene.cast, seller)
        day, batch = desk.supply(codes, drug, first, desk.day(45))
        day += desk.number(1, 8)
        time = desk.till(day)
        desk.sell(codes, first, time, batch)
        false = int(m.batch_base[drug]) + desk.number(40, 55)
        events = desk.sell(codes, seller, time + desk.number(4, 20) * HOUR, false)
        other = scene.cast.accomplice(desk, m, seller)
        parties = [(seller, SUBJECT), (first, PARTICIPANT)]
        if other != seller:
            events += desk.sell(codes, other, time + desk.number(24, 47) * HOUR, false)
            parties.append((other, SUBJECT))
        truth.add("duplicate_sale", parties, codes, events, "other_seller_soon")


def unrecorded_source(scene: Scene, seller: int, cases: int) -> None:
    """A shop sells packs that lie, on record, with another shop (非法渠道购进)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 6))
        holder = _honest(desk, scene.cast, seller)
        day, batch = desk.supply(codes, drug, holder, desk.day(70))
        events = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(day + desk.number(7, 25)), batch)
        truth.add("unrecorded_source", [(seller, SUBJECT), (holder, PARTICIPANT)], codes, events)


def two_places(scene: Scene, seller: int, cases: int) -> None:
    """A pack received far away is sold here within two hours: one of the two is a copy.

    Found by ``impossible_travel`` (at least 900 km apart).
    """
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 2))
        m = desk.market
        holder = _honest(desk, scene.cast, seller, far=True)
        day = desk.day(40)
        batch, hub = desk.batch(drug, day), desk.distributor(holder)
        desk.commission(codes, batch)
        day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
        price = desk.price(drug, 1.07)
        day += desk.number(2, 5)
        desk.ship(codes, hub, holder, desk.office(day), batch, price)
        day += int(m.transit_days(m.city_of(hub), m.city_of(holder), desk.rng))
        time = desk.office(day)
        desk.receive(codes, hub, holder, time, batch, price)
        events = []
        for code in codes:
            events += desk.sell([code], seller, time + desk.number(2000, 7000), batch)
        truth.add(
            "impossible_travel",
            [(seller, SUBJECT), (holder, PARTICIPANT)],
            codes,
            events,
            "two_places",
        )


def destroyed_sold(scene: Scene, seller: int, cases: int) -> None:
    """Packs booked as destroyed, scrapped or given as samples are sold after all."""
    desk, truth = scene.desk, scene.truth
    for i in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 4))
        day, batch = desk.supply(codes, drug, seller, desk.day(60))
        day += desk.number(2, 8)
        kind = (K.DESTRUCTION, K.SCRAP, K.SAMPLING)[i % 3]
        desk.write(
            kind,
            codes,
            desk.office(day),
            batch,
            seller,
            source=seller,
            bill=desk.bill(),
            source_city=desk.market.city_of(seller),
        )
        events = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(day + desk.number(2, 15)), batch)
        truth.add("dead_code_use", [(seller, SUBJECT)], codes, events, "destroyed")


def expired_sold(scene: Scene, seller: int, cases: int) -> None:
    """Packs are sold five weeks or more past their expiry date."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 5))
        day = desk.day(105)
        expiry = day + 32
        batch = desk.market.add_batch(drug, expiry - 730, 730)
        desk.supply(codes, drug, seller, day, batch)
        events = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(expiry + desk.number(33, 60)), batch)
        truth.add("dead_code_use", [(seller, SUBJECT)], codes, events, "expired")


def unborn_sold(scene: Scene, seller: int, cases: int) -> None:
    """Packs are sold whose stated production date has not come yet: invented batches."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 3))
        day = desk.day(2)
        batch = desk.market.add_batch(drug, day + desk.number(5, 60))
        events = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(day), batch)
        truth.add("dead_code_use", [(seller, SUBJECT)], codes, events, "before_production")


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(reverse_flow, ("reverse_flow",), types=OWN_STOCK),
    SchemeKind(sold_code_moves, ("sold_code_moves",), types=OWN_STOCK),
    SchemeKind(swapped, ("duplicate_sale",)),
    SchemeKind(returned_medicine, ("duplicate_sale",)),
    SchemeKind(copied_code, ("duplicate_sale",)),
    SchemeKind(unrecorded_source, ("unrecorded_source",)),
    SchemeKind(two_places, ("impossible_travel",)),
    SchemeKind(destroyed_sold, ("dead_code_use",)),
    SchemeKind(expired_sold, ("dead_code_use",)),
    SchemeKind(unborn_sold, ("dead_code_use",)),
)
