"""Habits and mishaps of uploading: repeated, voided, late, dated, by the head office."""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import MICRO
from trace_engine.simulate.market import CHAIN_STORE, DAY, RETAIL
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def head_office_upload(desk: Desk, truth: Truth) -> None:
    """The head office uploads receipts and sales of its stores: it scans, the store sells."""
    m, drug = desk.market, desk.drug(RETAIL)
    store = desk.pick(m.members(CHAIN_STORE))
    codes = desk.codes(drug, desk.number(1, 4))
    day, batch = desk.supply(codes, drug, store, desk.day(55))
    head = int(m.parent[store])
    events: list[Event] = []
    for code in codes:
        time = desk.till(day + desk.number(1, 12))
        events += desk.sell([code], store, time, batch, actor=head)
    truth.add_benign("head_office_upload", codes, uids(events))


def retried_upload(desk: Desk, truth: Truth) -> None:
    """Receipt and sale are uploaded two or three times with the same event ids."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 10)), batch)
    for k in range(desk.number(1, 2)):
        desk.again(len(codes), lag=(k + 1) * desk.number(600, 9000) * MICRO)
    truth.add_benign("retried_upload", codes, uids(events))


def voided_sale(desk: Desk, truth: Truth) -> None:
    """The till books a sale, voids it minutes later and books it again, rightly."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    time = desk.till(day + desk.number(1, 10))
    events = desk.sell(codes, seller, time, batch)
    wrong = events[0][0]
    time += desk.number(60, 600)
    events += desk.write(K.VOID, codes, time, batch, seller, source=seller, voids=wrong)
    events += desk.sell(codes, seller, time + desk.number(30, 300), batch)
    truth.add_benign("voided_sale", codes, uids(events))


def one_day(desk: Desk, truth: Truth) -> None:
    """Everything from the distributor's shipment to the sale bears one date and no time."""
    m, drug = desk.market, desk.drug(RETAIL)
    store = desk.chance(0.5)
    seller = desk.pick(m.members(CHAIN_STORE)) if store else pharmacy(desk)
    hub = desk.distributor(seller)
    codes = desk.codes(drug, desk.number(1, 5))
    day = desk.day(20)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
    midnight = (day + desk.number(1, 3)) * DAY
    price = desk.price(drug, 1.07)
    buyer = int(m.parent[seller]) if store else seller
    events = desk.ship(codes, hub, buyer, midnight, batch, price)
    events += desk.receive(codes, hub, buyer, midnight, batch, price)
    if store:
        events += desk.ship(codes, buyer, seller, midnight, batch, kind=K.TRANSFER_SHIPMENT)
        events += desk.receive(codes, buyer, seller, midnight, batch, kind=K.TRANSFER_RECEIPT)
    for code in codes:
        events += desk.sell([code], seller, midnight, batch)
    truth.add_benign("one_date_for_all", codes, uids(events))


def fast_clock(desk: Desk, truth: Truth) -> None:
    """The receiver's clock is ten minutes slow: the receipt comes before its shipment."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    hub = desk.distributor(seller)
    day = desk.day(40)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
    # The shop fetches its goods at the distributor's gate and scans them there.
    time, price = desk.office(day + desk.number(2, 6)), desk.price(drug, 1.07)
    gate = m.city_of(hub)
    events = desk.ship(codes, hub, seller, time, batch, price, target_city=gate)
    events += desk.receive(
        codes, hub, seller, time - desk.number(60, 600), batch, price, target_city=gate
    )
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(9, 20)), batch)
    truth.add_benign("clock_skew", codes, uids(events))


def late_upload(desk: Desk, truth: Truth) -> None:
    """The receipt is uploaded up to six days late, after the sale of its packs."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    hub = desk.distributor(seller)
    day = desk.day(40)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
    day += desk.number(2, 5)
    price = desk.price(drug, 1.07)
    desk.ship(codes, hub, seller, desk.office(day), batch, price)
    day += int(m.transit_days(m.city_of(hub), m.city_of(seller), desk.rng))
    events = desk.receive(
        codes,
        hub,
        seller,
        desk.office(day),
        batch,
        price,
        lag=desk.number(3 * DAY, 6 * DAY) * MICRO,
    )
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 2)), batch)
    truth.add_benign("late_upload", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(head_office_upload),
    TwinKind(retried_upload),
    TwinKind(voided_sale),
    TwinKind(one_day),
    TwinKind(fast_clock),
    TwinKind(late_upload),
)
