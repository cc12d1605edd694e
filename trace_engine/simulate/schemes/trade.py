"""Schemes around price, quota, category, place and licence."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.formulary import BANNED_ONLINE, FORMULARY
from trace_engine.simulate.market import EPHEDRINE, MEDICAL, MEDICINE, ONLINE, RETAIL, Recall
from trace_engine.simulate.rows import NONE
from trace_engine.simulate.schemes.cast import OWN_STOCK, SHOPS, By, Scene, SchemeKind
from trace_engine.simulate.truth import PARTICIPANT, SUBJECT

BIG_MARKET = 800_000  # events; below, online sales are too few to make a reference price


def _drug(desk: Desk, seller: int) -> int:
    m = desk.market
    if m.shop_of[seller] >= 0:
        return desk.drug(ONLINE)
    return desk.drug(MEDICINE if int(m.type[seller]) == MEDICAL else RETAIL)


def price_inversion(scene: Scene, seller: int, cases: int) -> None:
    """Packs bought dear are sold 7 to 22 % below what was paid for them (购销价格倒挂).

    Fresh goods, and dear enough that the sale itself is not cheap for the market.
    """
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 6))
        day = desk.day(60)
        batch, hub = desk.batch(drug, day), desk.distributor(seller)
        m = desk.market
        desk.commission(codes, batch)
        day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
        cost = desk.price(drug, 1.40)
        day = desk.deliver(codes, hub, seller, day + desk.number(2, 6), batch, cost)
        events: list[Event] = []
        for code in codes:
            price = round(cost * (0.78 + 0.15 * float(desk.rng.random())))
            events += desk.sell([code], seller, desk.till(day + desk.number(1, 20)), batch, price)
        truth.add("price_inversion", [(seller, SUBJECT)], codes, events)


def abnormal_low_price(scene: Scene, seller: int, cases: int) -> None:
    """Note who dumps: it takes a market price to undercut (see ``schemes.dumping``)."""
    scene.dumping.append((seller, cases))


def quota_per_sale(scene: Scene, seller: int, cases: int) -> None:
    """Three to eight packs of an ephedrine compound to one person in one sale; two are allowed.

    Every fourth case hides the order: single packs, minutes apart, to the same person.
    """
    desk, truth = scene.desk, scene.truth
    for i in range(cases):
        drug = desk.drug(RETAIL, having=EPHEDRINE)
        count = desk.number(3, 8)
        codes = desk.codes(drug, count)
        day, batch = desk.supply(codes, drug, seller, desk.day(45))
        time = desk.till(day + desk.number(1, 10))
        if i % 4 < 3:
            events = desk.sell(codes, seller, time, batch)
            variant = "one_order"
        else:
            person, events = desk.person(), []
            for k, code in enumerate(codes):
                events += desk.sell(
                    [code], seller, time + 40 * k, batch, buyer=person, order=NONE, bill=NONE
                )
            variant = "minutes_apart"
        truth.add("quota_per_sale", [(seller, SUBJECT)], codes, events, variant)


def quota_rolling(scene: Scene, seller: int, cases: int) -> None:
    """One person buys two packs of an ephedrine compound a day, first elsewhere, then here.

    Shape: one identity over many shops in a week. The first two shops may be honest: what they
    sold was still within every quota; this seller goes on.
    """
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        drug = desk.drug(RETAIL, having=EPHEDRINE)
        person = desk.person()
        here = desk.codes(drug, 2 * desk.number(1, 4))
        start = desk.day(50)
        day, batch = desk.supply(here, drug, seller, start)
        # Elsewhere: somewhere else in the province, from the same distributor's stock.
        shops = np.flatnonzero(
            np.isin(m.type, list(SHOPS)) & (m.shop_of < 0) & (m.province == m.province[seller])
        )
        before: list[Event] = []
        day += 12
        codes = list(here)
        for k in range(2):
            other = desk.pick(shops)
            pair = desk.codes(drug, 2)
            codes += pair
            desk.supply(pair, drug, other, start, batch)
            time = desk.till(day + k)
            before += desk.sell(pair, other, max(time, (day + k) * 86_400), batch, buyer=person)
        events: list[Event] = []
        for k in range(0, len(here), 2):
            time = desk.till(day + 2 + k // 2)
            events += desk.sell(here[k : k + 2], seller, time, batch, buyer=person)
        truth.add("quota_rolling", [(seller, SUBJECT)], codes, events)


def online_banned_sale(scene: Scene, seller: int, cases: int) -> None:
    """An online shop sells what may not be sold online: by class or by name (禁售清单)."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    banned = [
        d
        for d in range(m.drug_count)
        if FORMULARY[int(m.medicine[d])].generic_name in BANNED_ONLINE
        and FORMULARY[int(m.medicine[d])].retail
        and m.drug_free[d]
    ]
    for _ in range(cases):
        drug = desk.pick(banned)
        codes = desk.codes(drug, desk.number(1, 4))
        day, batch = desk.supply(codes, drug, seller, desk.day(45))
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(day + desk.number(1, 10)), batch)
        truth.add("online_banned_sale", [(seller, SUBJECT)], codes, events)


def remote_dispatch(scene: Scene, seller: int, cases: int) -> None:
    """An online order is sent from a city where the seller has neither shop nor warehouse."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = desk.drug(ONLINE)
        codes = desk.codes(drug, desk.number(1, 8))
        day, batch = desk.supply(codes, drug, seller, desk.day(45))
        away = desk.far_city(desk.market.city_of(seller), 300)
        away = away if away != int(desk.market.city[seller]) else desk.far_city(away, 600)
        events: list[Event] = []
        for code in codes:
            time = desk.till(day + desk.number(3, 12))
            events += desk.sell([code], seller, time, batch, source_city=away)
        truth.add("remote_dispatch", [(seller, SUBJECT)], codes, events)


def recalled_sale(scene: Scene, seller: int, cases: int) -> None:
    """Packs of a recalled batch are still sold five days and more after the recall took effect."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for i in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 5))
        day = desk.day(70)
        batch = m.add_batch(drug, day - 20)
        day, _ = desk.supply(codes, drug, seller, day, batch)
        effective = day + desk.number(1, 6)
        m.recalls.append(Recall(drug, batch, 1 + i % 3, "", effective))
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(effective + desk.number(5, 30)), batch)
        truth.add("recalled_sale", [(seller, SUBJECT)], codes, events)


def unlicensed_party(scene: Scene, seller: int, cases: int) -> None:
    """Goods are bought from a trader without a licence, who uploads nothing (从无证单位购进)."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    trader = m.stranger(desk.far_city(m.city_of(seller), 0))
    for _ in range(cases):
        drug = _drug(desk, seller)
        codes = desk.codes(drug, desk.number(1, 8))
        day = desk.day(35)
        batch = desk.batch(drug, day - 20)
        events = desk.receive(codes, trader, seller, desk.office(day), batch, desk.price(drug, 0.7))
        for code in codes:
            desk.sell([code], seller, desk.till(day + desk.number(1, 25)), batch)
        truth.add("unlicensed_party", [(seller, SUBJECT), (trader, PARTICIPANT)], codes, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(price_inversion, ("price_inversion",), types=OWN_STOCK),
    SchemeKind(abnormal_low_price, ("abnormal_low_price",), types=SHOPS),
    SchemeKind(quota_per_sale, ("quota_per_sale",), types=SHOPS),
    SchemeKind(quota_rolling, ("quota_rolling",), types=SHOPS),
    SchemeKind(recalled_sale, ("recalled_sale",)),
    SchemeKind(unlicensed_party, ("unlicensed_party",), types=OWN_STOCK),
    SchemeKind(online_banned_sale, ("online_banned_sale",), By.ONLINE),
    SchemeKind(remote_dispatch, ("remote_dispatch",), By.ONLINE),
    SchemeKind(abnormal_low_price, ("abnormal_low_price",), By.ONLINE, smallest=BIG_MARKET),
)
