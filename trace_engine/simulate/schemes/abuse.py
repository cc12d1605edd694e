"""Schemes around psychotropics, gifts, approvals, markups, stock and volume."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.codes import OTHER_BASE
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import EPHEDRINE, PHARMACY, RETAIL
from trace_engine.simulate.rows import GIFT, NONE
from trace_engine.simulate.schemes.cast import OWN_STOCK, SHOPS, By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT

CLASS_II = "psychotropic_2"
NO_SCOPE = "rx;otc_a;otc_b;ephedrine_compound;insulin;cold_chain;high_value;injection"
MANY = 90_000  # events of a market in which the peers' months are not the schemes'
PEERS = 12  # shops that sell the drug as well: enough to compare with
# GTINs of other countries without their check digit (Japan, Germany, India).
_ABROAD = ("049871234", "040421234", "089012345")


def psychotropic_online(scene: Scene, seller: int, cases: int) -> None:
    """An online shop sends class II psychotropics, with a prescription (精神药品网络销售)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        codes, events = _sold(desk, seller, desk.number(1, 3))
        truth.add("psychotropic_sale", [(seller, SUBJECT)], codes, events, "online")


def psychotropic_out_of_scope(scene: Scene, seller: int, cases: int) -> None:
    """A shop whose licence does not cover class II sells it all the same."""
    desk, truth = scene.desk, scene.truth
    desk.market.papers.setdefault(seller, {})["scope"] = NO_SCOPE
    for _ in range(cases):
        codes, events = _sold(desk, seller, desk.number(1, 3))
        truth.add("psychotropic_sale", [(seller, SUBJECT)], codes, events, "scope")


def psychotropic_unprescribed(scene: Scene, seller: int, cases: int) -> None:
    """A shop that records every prescription for class II sells some packs without one."""
    desk, truth = scene.desk, scene.truth
    drug = desk.drug(RETAIL, having=CLASS_II)
    usual = desk.codes(drug, 24)
    day, batch = desk.supply(usual, drug, seller, desk.day(110))
    for k, code in enumerate(usual):
        desk.sell([code], seller, desk.till(day + 1 + k), batch)
    truth.touched.update(usual)
    for _ in range(cases):
        codes = desk.codes(drug, desk.number(1, 2))
        desk.supply(codes, drug, seller, day, batch)
        events: list[Event] = []
        for code in codes:
            time = desk.till(day + desk.number(30, 60))
            events += desk.sell([code], seller, time, batch, prescription=NONE)
        truth.add("psychotropic_sale", [(seller, SUBJECT)], codes, events, "prescription")


def _sold(desk: Desk, seller: int, count: int) -> tuple[list[int], list[Event]]:
    """Bring packs of a class II drug to a seller and sell each to a person."""
    drug = desk.drug(RETAIL, having=CLASS_II)
    codes = desk.codes(drug, count)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 10)), batch)
    return codes, events


def _given_away(desk: Desk) -> int:
    """Return a drug that may not be given away: on prescription, or class A without."""
    while True:
        drug = desk.drug(RETAIL)
        if {"rx", "otc_a"} & set(desk.market.drug_classes[drug]):
            return drug


def gift_sale(scene: Scene, seller: int, cases: int) -> None:
    """Buy one, get one: packs are rung up as gifts (买药品赠药品)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = _given_away(desk)
        codes = desk.codes(drug, desk.number(1, 4))
        day, batch = desk.supply(codes, drug, seller, desk.day(45))
        events: list[Event] = []
        for code in codes:
            time = desk.till(day + desk.number(1, 10))
            events += desk.sell([code], seller, time, batch, 0, flags=GIFT)
        truth.add("gift_sale", [(seller, SUBJECT)], codes, events, "marked")


def gift_for_nothing(scene: Scene, seller: int, cases: int) -> None:
    """A shop that states its prices hands packs out at 0, and does not call them gifts."""
    desk, truth = scene.desk, scene.truth
    drug = _given_away(desk)
    usual = desk.codes(drug, 44)
    day, batch = desk.supply(usual, drug, seller, desk.day(100))
    for k, code in enumerate(usual):
        desk.sell([code], seller, desk.till(day + 1 + k), batch)
    truth.touched.update(usual)
    for k in range(min(cases, 4)):
        codes = desk.codes(drug, 1)
        desk.supply(codes, drug, seller, day, batch)
        events = desk.sell(codes, seller, desk.till(day + 33 + 3 * k), batch, 0)
        truth.add("gift_sale", [(seller, SUBJECT)], codes, events, "free")


def unapproved_product(scene: Scene, seller: int, cases: int) -> None:
    """Packs made for another country, which no register knows, are sold here (跨境进口非法药品)."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        body = f"{desk.pick(range(len(_ABROAD)))}"
        body = _ABROAD[int(body)] + f"{desk.number(0, 9999):04d}"
        gtin = body + _check_digit(body)
        codes = []
        for _ in range(desk.number(1, 5)):
            codes.append(OTHER_BASE + len(m.other_codes))
            m.other_codes.append(f"(01){gtin}(21)X{len(m.other_codes):07d}")
        batch = desk.batch(desk.drug(RETAIL), desk.day(30))
        events: list[Event] = []
        for code in codes:
            time = desk.till(desk.day(10, 10))
            events += desk.sell([code], seller, time, batch, prescription=NONE)
        truth.add("unapproved_product", [(seller, SUBJECT)], codes, events)


def _check_digit(body: str) -> str:
    total = sum(int(c) * (3 if i % 2 == 0 else 1) for i, c in enumerate(body))
    return str(-total % 10)


def price_markup(scene: Scene, dealer: int, cases: int) -> None:
    """A distributor sells on at two to five times what it paid (过票加价)."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(2, 8))
        day = desk.day(40)
        batch, cost = desk.batch(drug, day), desk.price(drug, 1.0)
        desk.commission(codes, batch)
        day = desk.deliver(codes, int(m.drug_holder[drug]), dealer, day, batch, cost)
        price = round(cost * (2.1 + 2.9 * float(desk.rng.random()))) + 100
        # Nothing else that the buyer sells is measured by what it paid for this.
        buyer = desk.found(PHARMACY, int(m.province[dealer]))
        time = desk.office(day + desk.number(4, 8))
        events = desk.ship(codes, dealer, buyer, time, batch, price)
        truth.add("price_markup", [(dealer, SUBJECT)], codes, events)


def sale_exceeds_purchase(scene: Scene, seller: int, cases: int) -> None:
    """Ten packs of a batch are bought; packs of the same batch from elsewhere are sold beside them."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        bought, others = desk.codes(drug, 10), desk.codes(drug, desk.number(14, 20))
        day = desk.day(60, 20)
        batch = m.add_batch(drug, day - 8)
        day, _ = desk.supply(bought, drug, seller, day, batch)
        events: list[Event] = []
        for code in [*bought, *others]:
            events += desk.sell([code], seller, desk.till(day + desk.number(1, 20)), batch)
        codes = [*bought, *others]
        truth.add("sale_exceeds_purchase", [(seller, SUBJECT)], codes, events)


def seller_volume(scene: Scene, seller: int, cases: int) -> None:
    """A shop that sold a few packs of an ephedrine compound a month sells seventy (销量异常).

    Its peers sell a pack or two in that month, in whatever market.
    """
    desk, truth = scene.desk, scene.truth
    m = desk.market
    peers = np.flatnonzero((m.type == PHARMACY) & (m.shop_of < 0) & ~m.apart)
    begin = np.datetime64(m.first_day, "D")
    end = np.datetime64(m.first_day + m.days - 6, "D").astype("datetime64[M]")
    months = np.arange(begin.astype("datetime64[M]"), end + 1)
    if len(months) < 6:
        return  # too short a window: no finding could rest on it
    starts = [int(month.astype("datetime64[D]").astype(np.int64)) for month in months[-6:-1]]
    for _ in range(cases):
        drug = desk.drug(RETAIL, having=EPHEDRINE)
        for start in starts[:-1]:
            first = max(start, m.first_day + 2)
            codes = desk.codes(drug, 5)
            day, batch = desk.supply(codes, drug, seller, first)
            for code in codes:
                desk.sell([code], seller, desk.till(max(day + 1, start + 20)), batch)
            truth.touched.update(codes)
        codes = desk.codes(drug, desk.number(70, 90))
        _, batch = desk.supply(codes, drug, seller, starts[-1] - 25)
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], seller, desk.till(starts[-1] + desk.number(1, 27)), batch)
        truth.add("seller_volume", [(seller, SUBJECT)], codes, events)
        for peer in desk.rng.permutation(peers)[:PEERS].tolist():
            few = desk.codes(drug, desk.number(1, 2))
            _, batch = desk.supply(few, drug, peer, starts[-1] - 25)
            desk.sell(few, peer, desk.till(starts[-1] + desk.number(3, 27)), batch)


_PHARMACIES = frozenset({PHARMACY})
_B5 = ("psychotropic_sale",)

SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(psychotropic_online, _B5, By.ONLINE),
    SchemeKind(psychotropic_out_of_scope, _B5, By.NEWCOMER, types=_PHARMACIES, most_cases=5),
    SchemeKind(
        psychotropic_unprescribed, _B5, By.NEWCOMER, types=_PHARMACIES, rows=90, most_cases=2
    ),
    SchemeKind(gift_sale, ("gift_sale",), types=SHOPS),
    SchemeKind(
        gift_for_nothing, ("gift_sale",), By.NEWCOMER, types=_PHARMACIES, rows=100, most_cases=4
    ),
    SchemeKind(unapproved_product, ("unapproved_product",), types=OWN_STOCK),
    SchemeKind(price_markup, ("price_markup",), By.DISTRIBUTOR),
    SchemeKind(sale_exceeds_purchase, ("sale_exceeds_purchase",), types=OWN_STOCK, rows=90),
    SchemeKind(
        seller_volume,
        ("seller_volume",),
        By.NEWCOMER,
        types=_PHARMACIES,
        rows=750,
        smallest=MANY,
        most_cases=1,
    ),
)
