"""Benign twins: lives that look like a scheme and are none. No accusation may rest on them.

Each function plants one twin and records it under its kind. Besides these, the honest market holds
the same things in bulk: head offices that upload for their stores, date-only bills, far warehouses
in the register, late and repeated uploads (``noise.py``).
"""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import HOUR, MICRO
from trace_engine.simulate.formulary import FORMULARY, INSULIN
from trace_engine.simulate.market import (
    CHAIN_STORE,
    DAY,
    EPHEDRINE,
    PHARMACY,
    PUBLIC_HOSPITAL,
    RETAIL,
    WHOLESALER,
    Recall,
)
from trace_engine.simulate.rows import SPLIT
from trace_engine.simulate.truth import Truth


def _pharmacy(desk: Desk, province: int | None = None) -> int:
    """Return a pharmacy without a web shop, in a province where one is there."""
    m = desk.market
    offline = (m.type == PHARMACY) & (m.shop_of < 0)
    here = np.flatnonzero(offline & (m.province == province))
    return desk.pick(here if province is not None and len(here) else np.flatnonzero(offline))


def _uids(events: list[Event]) -> list[int]:
    return [uid for uid, _ in events]


def consumer_return(desk: Desk, truth: Truth) -> None:
    """A person brings the pack back and the same shop sells it to another person."""
    seller, drug = _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(55))
    day += desk.number(1, 10)
    events = desk.sell(codes, seller, desk.till(day), batch)
    day += desk.number(1, 6)
    events += desk.write(
        K.CONSUMER_RETURN,
        codes,
        desk.till(day),
        batch,
        seller,
        target=seller,
        target_city=desk.market.city_of(seller),
        bill=desk.bill(),
    )
    day += desk.number(1, 8)
    events += desk.sell(codes, seller, desk.till(day), batch)
    truth.add_benign("consumer_return_and_resale", codes, _uids(events))


def supplier_return(desk: Desk, truth: Truth) -> None:
    """A shop sends goods back to its distributor (202/103), who sells them to another shop."""
    m, seller, drug = desk.market, _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    hub, other = desk.distributor(seller), _pharmacy(desk, int(m.province[seller]))
    day, batch = desk.supply(codes, drug, seller, desk.day(80), distributor=hub)
    day += desk.number(2, 9)
    price = desk.price(drug, 1.07)
    events = desk.ship(codes, seller, hub, desk.office(day), batch, price, kind=K.RETURN_SHIPMENT)
    day += int(m.transit_days(m.city_of(seller), m.city_of(hub), desk.rng))
    events += desk.receive(
        codes, seller, hub, desk.office(day), batch, price, kind=K.RETURN_RECEIPT
    )
    day = desk.stock(codes, hub, other, day + desk.number(2, 6), batch, price)
    for code in codes:
        events += desk.sell([code], other, desk.till(day + desk.number(1, 12)), batch)
    truth.add_benign("supplier_return_and_resale", codes, _uids(events))


def split_sale(desk: Desk, truth: Truth) -> None:
    """One pack is sold in parts to several persons (拆零), together no more than it holds."""
    seller = _pharmacy(desk)
    drug = desk.drug(RETAIL)
    while int(desk.market.drug_units[drug]) < 6 or int(desk.market.drug_units[drug]) > 200:
        drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(75))
    units = int(desk.market.drug_units[drug])
    parts = desk.number(2, 4)
    events: list[Event] = []
    for _ in range(parts):
        day += desk.number(1, 6)
        events += desk.sell(
            codes, seller, desk.till(day), batch, quantity=units // parts, flags=SPLIT
        )
    truth.add_benign("split_sale", codes, _uids(events))


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
    truth.add_benign("head_office_upload", codes, _uids(events))


def entrusted_warehouse(desk: Desk, truth: Truth) -> None:
    """An online order leaves from a far warehouse that stands in the seller's register."""
    m = desk.market
    far = m.online[m.warehouse[m.online] != m.city[m.online]]
    seller, drug = desk.pick(far), desk.drug(1)
    codes = desk.codes(drug, desk.number(1, 4))
    day, batch = desk.supply(codes, drug, seller, desk.day(55))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 12)), batch)
    truth.add_benign("registered_warehouse_dispatch", codes, _uids(events))


def clearance(desk: Desk, truth: Truth) -> None:
    """Stock within half a year of its expiry is sold below cost."""
    seller, drug = _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    day = desk.day(60)
    batch = desk.market.add_batch(drug, day + 90 - 730 + desk.number(0, 60), 730)
    day, _ = desk.supply(codes, drug, seller, day, batch)
    events: list[Event] = []
    for code in codes:
        price = desk.price(drug, 0.6 + 0.4 * float(desk.rng.random()))
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 20)), batch, price)
    truth.add_benign("near_expiry_clearance", codes, _uids(events))


def group_transfer(desk: Desk, truth: Truth) -> None:
    """A national distributor moves goods between its own companies (203/104) across a border."""
    m, drug = desk.market, desk.drug(RETAIL)
    maker = int(m.drug_holder[drug])
    grouped = (m.type == WHOLESALER) & (m.group >= 0)
    giver = desk.pick(np.flatnonzero(grouped & (m.province == m.province[maker])))
    sisters = np.flatnonzero(grouped & (m.group == m.group[giver]))
    sister = desk.pick(sisters[sisters != giver])
    seller = _pharmacy(desk, int(m.province[sister]))
    codes = desk.codes(drug, desk.number(2, 12))
    day = desk.day(75)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    day = desk.deliver(codes, maker, giver, day, batch, desk.price(drug, 1.0))
    day += desk.number(3, 8)
    events = desk.ship(codes, giver, sister, desk.office(day), batch, kind=K.TRANSFER_SHIPMENT)
    day += int(m.transit_days(m.city_of(giver), m.city_of(sister), desk.rng))
    events += desk.receive(codes, giver, sister, desk.office(day), batch, kind=K.TRANSFER_RECEIPT)
    # The last leg only where the shop lies in the sister's province or the giver's.
    if int(m.province[seller]) in (int(m.province[sister]), int(m.province[giver])):
        day = desk.stock(
            codes, sister, seller, day + desk.number(3, 8), batch, desk.price(drug, 1.07)
        )
        for code in codes[:3]:
            desk.sell([code], seller, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("group_transfer_across_provinces", codes, _uids(events))


def direct_shipment(desk: Desk, truth: Truth) -> None:
    """An emergency: the distributor's goods go from the maker straight to a hospital (207)."""
    m = desk.market
    hospital = desk.pick(m.members(PUBLIC_HOSPITAL))
    drug, hub = desk.drug(2), desk.distributor(hospital)
    maker = int(m.drug_holder[drug])
    codes = desk.codes(drug, desk.number(2, 10))
    day = desk.day(40)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    time = desk.office(day)
    events = desk.ship(
        codes, maker, hub, time, batch, desk.price(drug, 1.0), target_city=m.city_of(hospital)
    )
    price = desk.price(drug, 1.18)
    events += desk.ship(
        codes,
        hub,
        hospital,
        time + 2 * HOUR,
        batch,
        price,
        kind=K.DIRECT_SHIPMENT,
        source_city=m.city_of(maker),
    )
    day += int(m.transit_days(m.city_of(maker), m.city_of(hospital), desk.rng)) + 1
    events += desk.receive(
        codes, hub, hospital, desk.office(day), batch, price, source_city=m.city_of(maker)
    )
    for code in codes[:3]:
        events += desk.sell([code], hospital, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("emergency_direct_shipment", codes, _uids(events))


def retried_upload(desk: Desk, truth: Truth) -> None:
    """Receipt and sale are uploaded two or three times with the same event ids."""
    seller, drug = _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 10)), batch)
    for k in range(desk.number(1, 2)):
        desk.again(len(codes), lag=(k + 1) * desk.number(600, 9000) * MICRO)
    truth.add_benign("retried_upload", codes, _uids(events))


def voided_sale(desk: Desk, truth: Truth) -> None:
    """The till books a sale, voids it minutes later and books it again, rightly."""
    seller, drug = _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    time = desk.till(day + desk.number(1, 10))
    events = desk.sell(codes, seller, time, batch)
    wrong = events[0][0]
    time += desk.number(60, 600)
    events += desk.write(K.VOID, codes, time, batch, seller, source=seller, voids=wrong)
    events += desk.sell(codes, seller, time + desk.number(30, 300), batch)
    truth.add_benign("voided_sale", codes, _uids(events))


def verification(desk: Desk, truth: Truth) -> None:
    """Buyers look their pack's code up from other provinces, days after the sale."""
    m, seller, drug = desk.market, _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(55))
    day += desk.number(1, 8)
    events = desk.sell(codes, seller, desk.till(day), batch)
    # Platforms relay look-ups of persons; the place is where the telephone was.
    relay = int(m.first(7))
    for _ in range(desk.number(1, 4)):
        time = desk.till(day) + desk.number(0, 12 * DAY)
        events += desk.write(
            K.VERIFICATION,
            codes,
            time,
            batch,
            relay,
            source_city=desk.far_city(m.city_of(seller), 500),
        )
    truth.add_benign("verification_elsewhere", codes, _uids(events))


def one_day(desk: Desk, truth: Truth) -> None:
    """Everything from the distributor's shipment to the sale bears one date and no time."""
    m, drug = desk.market, desk.drug(RETAIL)
    store = desk.chance(0.5)
    seller = desk.pick(m.members(CHAIN_STORE)) if store else _pharmacy(desk)
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
    truth.add_benign("one_date_for_all", codes, _uids(events))


def recall_return(desk: Desk, truth: Truth) -> None:
    """A recalled batch: sold before the recall, the rest goes back up to the maker (211/108)."""
    m, seller, drug = desk.market, _pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(3, 8))
    start = desk.day(85)
    batch, hub = m.add_batch(drug, start - 20), desk.distributor(seller)
    day, _ = desk.supply(codes, drug, seller, start, batch, hub)
    events: list[Event] = []
    for code in codes[:2]:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 5)), batch)
    day += 6
    m.recalls.append(Recall(drug, batch, desk.number(1, 3), "", day))
    back = codes[2:]
    for giver, receiver in ((seller, hub), (hub, int(m.drug_holder[drug]))):
        day += desk.number(1, 3)
        events += desk.ship(back, giver, receiver, desk.office(day), batch, kind=K.RECALL_SHIPMENT)
        day += int(m.transit_days(m.city_of(giver), m.city_of(receiver), desk.rng))
        events += desk.receive(
            back, giver, receiver, desk.office(day), batch, kind=K.RECALL_RECEIPT
        )
    truth.add_benign("recalled_goods_returned", codes, _uids(events))


def insulin_online(desk: Desk, truth: Truth) -> None:
    """Insulin is an injection and may yet be sold online: the ban excepts it."""
    m = desk.market
    insulin = [
        d for d in range(m.drug_count) if FORMULARY[int(m.medicine[d])].generic_name == INSULIN
    ]
    seller, drug = desk.pick(m.online), desk.pick(insulin)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events = desk.sell(codes, seller, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("insulin_online", codes, _uids(events))


def within_quota(desk: Desk, truth: Truth) -> None:
    """A person buys ephedrine compounds up to the limits: two a sale, four within a week."""
    seller, drug = _pharmacy(desk), desk.drug(RETAIL, having=EPHEDRINE)
    codes = desk.codes(drug, 4)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    person = desk.person()
    day += desk.number(1, 5)
    events = desk.sell(codes[:2], seller, desk.till(day), batch, buyer=person)
    events += desk.sell(codes[2:], seller, desk.till(day + 3), batch, buyer=person)
    truth.add_benign("within_quota", codes, _uids(events))


def fast_clock(desk: Desk, truth: Truth) -> None:
    """The receiver's clock is ten minutes slow: the receipt comes before its shipment."""
    m, seller, drug = desk.market, _pharmacy(desk), desk.drug(RETAIL)
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
    truth.add_benign("clock_skew", codes, _uids(events))


def late_upload(desk: Desk, truth: Truth) -> None:
    """The receipt is uploaded up to six days late, after the sale of its packs."""
    m, seller, drug = desk.market, _pharmacy(desk), desk.drug(RETAIL)
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
    truth.add_benign("late_upload", codes, _uids(events))


BENIGN = (
    consumer_return,
    supplier_return,
    split_sale,
    head_office_upload,
    entrusted_warehouse,
    clearance,
    group_transfer,
    direct_shipment,
    retried_upload,
    voided_sale,
    verification,
    one_day,
    recall_return,
    insulin_online,
    within_quota,
    fast_clock,
    late_upload,
)
SHARE = 0.0004  # of all packs, for each kind


def plant_benign(desk: Desk, truth: Truth, codes: int) -> None:
    """Plant twins of every kind: ``SHARE`` of ``codes`` each, at least three."""
    for plant in BENIGN:
        for _ in range(max(3, round(codes * SHARE))):
            plant(desk, truth)
