"""Trade among several companies that looks like a ring, a collector or trade on paper."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import PHARMACY, RETAIL, WHOLESALER
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids

SHOPS = 12


def stock_help(desk: Desk, truth: Truth) -> None:
    """Two distributors help each other out with one drug, and one sends what is over back.

    The first lends to the second and gets other packs of it two weeks later; a third got some of
    them and returns them to the first (202/103).
    """
    m, drug = desk.market, desk.drug(RETAIL)
    first = desk.found(WHOLESALER)
    second, third = (desk.found(WHOLESALER, int(m.province[first])) for _ in range(2))
    maker, day = int(m.drug_holder[drug]), desk.day(75)
    lots = []
    for party in (first, second):
        batch, codes = desk.batch(drug, day), desk.codes(drug, desk.number(3, 6))
        desk.commission(codes, batch)
        arrived = desk.deliver(codes, maker, party, day, batch, desk.price(drug, 1.0))
        lots.append((codes, batch, arrived))
    day = max(arrived for _, _, arrived in lots)
    price = desk.price(drug, 1.02)
    events: list[Event] = []
    (lent, lent_batch, _), (repaid, repaid_batch, _) = lots
    for giver, receiver, codes, batch, kind in (
        (first, second, lent, lent_batch, K.SALE_SHIPMENT),
        (second, third, lent, lent_batch, K.SALE_SHIPMENT),
        (third, first, lent, lent_batch, K.RETURN_SHIPMENT),
        (second, first, repaid, repaid_batch, K.SALE_SHIPMENT),
    ):
        day += desk.number(2, 4)
        events += desk.ship(codes, giver, receiver, desk.office(day), batch, price, kind=kind)
        day += int(m.transit_days(m.city_of(giver), m.city_of(receiver), desk.rng))
        receipt = K.RETURN_RECEIPT if kind == K.RETURN_SHIPMENT else K.PURCHASE_RECEIPT
        events += desk.receive(codes, giver, receiver, desk.office(day), batch, price, kind=receipt)
    truth.add_benign("distributors_help_each_other", [*lent, *repaid], uids(events))


def withdrawn_pack(desk: Desk, truth: Truth) -> None:
    """A dozen pharmacies return one drug to their distributor within weeks (202/103)."""
    m, drug = desk.market, desk.drug(RETAIL)
    everywhere = m.members(PHARMACY)
    everywhere = everywhere[m.shop_of[everywhere] < 0]
    most = int(np.bincount(m.province[everywhere]).argmax())
    shops = desk.rng.permutation(everywhere[m.province[everywhere] == most])[:SHOPS].tolist()
    hub = desk.distributor(shops[0])
    begin = desk.day(85)
    price = desk.price(drug, 1.07)
    every: list[int] = []
    events: list[Event] = []
    for shop in shops:
        codes = desk.codes(drug, 1)
        day, batch = desk.supply(codes, drug, shop, begin, distributor=hub)
        day += desk.number(2, 18)
        events += desk.ship(
            codes, shop, hub, desk.office(day), batch, price, kind=K.RETURN_SHIPMENT
        )
        day += int(m.transit_days(m.city_of(shop), m.city_of(hub), desk.rng))
        events += desk.receive(
            codes, shop, hub, desk.office(day), batch, price, kind=K.RETURN_RECEIPT
        )
        every += codes
    truth.add_benign("pharmacies_return_a_drug", every, uids(events))


def cross_dock(desk: Desk, truth: Truth) -> None:
    """A distributor with a registered warehouse in its supplier's city sends goods on at once."""
    m, drug = desk.market, desk.drug(RETAIL)
    seller = pharmacy(desk)
    supplier = desk.found(WHOLESALER, int(m.province[seller]))
    dealer = desk.found(WHOLESALER, int(m.province[seller]))
    here = m.city_of(supplier)
    m.warehouse[dealer] = here
    day = desk.day(45)
    batch, codes = desk.batch(drug, day), desk.codes(drug, desk.number(3, 8))
    desk.commission(codes, batch)
    maker = int(m.drug_holder[drug])
    day = desk.deliver(codes, maker, supplier, day, batch, desk.price(drug, 1.0))
    time = desk.office(day + desk.number(4, 8))  # no hurry before
    price = desk.price(drug, 1.03)
    events = desk.ship(codes, supplier, dealer, time, batch, price)
    time += desk.number(1800, 5400)
    events += desk.receive(codes, supplier, dealer, time, batch, price)
    time += desk.number(300, 1500)
    price = desk.price(drug, 1.06)
    events += desk.ship(codes, dealer, seller, time, batch, price, source_city=here)
    day = time // 86_400 + 1 + int(m.transit_days(here, m.city_of(seller), desk.rng))
    events += desk.receive(codes, dealer, seller, desk.office(day), batch, price, source_city=here)
    truth.add_benign("registered_cross_dock", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(stock_help, rows=60),
    TwinKind(withdrawn_pack, rows=100, smallest=40_000),
    TwinKind(cross_dock, rows=60),
)
