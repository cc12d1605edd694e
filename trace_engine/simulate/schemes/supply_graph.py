"""Schemes of several companies: goods sold round, gathered from shops, or passed through on paper."""

from __future__ import annotations

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import PHARMACY, RETAIL
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import PARTICIPANT, SUBJECT

FEWEST_SHOPS, MOST_SHOPS = 11, 14


def _bought(desk: Desk, party: int, drug: int, count: int, day: int) -> tuple[list[int], int, int]:
    """Return new codes a distributor buys from the maker, their batch, and the day they arrive."""
    batch = desk.batch(drug, day)
    codes = desk.codes(drug, count)
    desk.commission(codes, batch)
    maker = int(desk.market.drug_holder[drug])
    day = desk.deliver(codes, maker, party, day, batch, desk.price(drug, 1.0))
    return codes, batch, day


def circular_trade(scene: Scene, ring: int, cases: int) -> None:
    """Three companies sell one drug round within a month, each time packs of other codes.

    Shape: 环形交易 to lift turnover; every hop is an ordinary sale, and no code comes back.
    """
    desk, truth = scene.desk, scene.truth
    m, members = desk.market, scene.cast.rings[ring]
    for _ in range(cases):
        drug, day = desk.drug(RETAIL), desk.day(60)
        packs = desk.number(6, 10)
        every: list[int] = []
        events: list[Event] = []
        stock = [_bought(desk, p, drug, packs - desk.number(0, 3), day) for p in members]
        day = max(arrived for _, _, arrived in stock) + desk.number(2, 5)
        for i, giver in enumerate(members):
            receiver = members[(i + 1) % len(members)]
            codes, batch, _ = stock[i]
            price = desk.price(drug, 1.03 + 0.03 * i)
            events = desk.ship(codes, giver, receiver, desk.office(day), batch, price)
            arrival = day + int(m.transit_days(m.city_of(giver), m.city_of(receiver), desk.rng))
            desk.receive(codes, giver, receiver, desk.office(arrival), batch, price)
            every += codes
            day += desk.number(1, 6)
        truth.add("circular_trade", [(p, SUBJECT) for p in members], every, events)


def fan_in_collection(scene: Scene, collector: int, cases: int) -> None:
    """A distributor gathers one drug, a few packs each, from a dozen pharmacies within a month.

    Shape: 收药/归集, the middle of the trade in drugs that insurance paid for.
    """
    desk, truth = scene.desk, scene.truth
    m = desk.market
    guilty = scene.cast.everybody()
    shops = [int(p) for p in m.members(PHARMACY) if int(p) not in guilty and m.shop_of[p] < 0]
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        chosen = desk.rng.permutation(shops)[: desk.number(FEWEST_SHOPS, MOST_SHOPS)].tolist()
        begin = desk.day(65)
        every: list[int] = []
        events: list[Event] = []
        day = begin
        stock = []
        for shop in chosen:
            codes = desk.codes(drug, desk.number(1, 2))
            arrived, batch = desk.supply(codes, drug, shop, begin + desk.number(0, 4))
            stock.append((shop, codes, batch))
            day = max(day, arrived)
        price = desk.price(drug, 0.6)
        for shop, codes, batch in stock:
            when = day + desk.number(1, 18)
            events += desk.ship(codes, shop, collector, desk.office(when), batch, price)
            when += int(m.transit_days(m.city_of(shop), m.city_of(collector), desk.rng))
            desk.receive(codes, shop, collector, desk.office(when), batch, price)
            every += codes
        # Who sells stock back into trade answers for it as well (零售逆向流向批发).
        parties = [(party, SUBJECT) for party in (collector, *chosen)]
        truth.add("fan_in_collection", parties, every, events)


def pass_through(scene: Scene, ring: int, cases: int) -> None:
    """Goods are booked in and out within minutes, while they leave from the supplier's own city.

    Shape: 走票, the company in between lends its name and its bills for a commission.
    """
    desk, truth = scene.desk, scene.truth
    m, (supplier, _, dealer) = desk.market, scene.cast.rings[ring]
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        codes, batch, day = _bought(desk, supplier, drug, desk.number(3, 10), desk.day(50))
        here = m.city_of(supplier)
        buyers = m.members(PHARMACY)
        near = buyers[m.province[buyers] == m.province[dealer]]
        buyer = desk.pick(near if len(near) else buyers)
        time = desk.office(day + desk.number(2, 6))
        price = desk.price(drug, 1.03)
        desk.ship(codes, supplier, dealer, time, batch, price)
        time += desk.number(1800, 7200)
        desk.receive(codes, supplier, dealer, time, batch, price)
        time += desk.number(300, 1200)
        price = desk.price(drug, 1.06)
        events = desk.ship(codes, dealer, buyer, time, batch, price, source_city=here)
        day = time // 86_400 + 1 + int(m.transit_days(here, m.city_of(buyer), desk.rng))
        desk.receive(codes, dealer, buyer, desk.office(day), batch, price, source_city=here)
        parties = [(dealer, SUBJECT), (supplier, PARTICIPANT), (buyer, PARTICIPANT)]
        truth.add("pass_through", parties, codes, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(circular_trade, ("circular_trade",), By.RING, rows=125, most_cases=6),
    SchemeKind(
        fan_in_collection,
        ("fan_in_collection",),
        By.DISTRIBUTOR,
        rows=150,
        smallest=40_000,
        most_cases=2,
    ),
    SchemeKind(pass_through, ("pass_through",), By.RING, rows=50),
)
