"""Goods that move in lawful ways that look like detours."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.flows import HOUR
from trace_engine.simulate.market import PUBLIC_HOSPITAL, RETAIL, WHOLESALER
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def group_transfer(desk: Desk, truth: Truth) -> None:
    """A national distributor moves goods between its own companies (203/104) across a border."""
    m, drug = desk.market, desk.drug(RETAIL)
    maker = int(m.drug_holder[drug])
    grouped = (m.type == WHOLESALER) & (m.group >= 0) & ~m.apart
    giver = desk.pick(np.flatnonzero(grouped & (m.province == m.province[maker])))
    sisters = np.flatnonzero(grouped & (m.group == m.group[giver]))
    sister = desk.pick(sisters[sisters != giver])
    seller = pharmacy(desk, int(m.province[sister]))
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
    truth.add_benign("group_transfer_across_provinces", codes, uids(events))


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
    truth.add_benign("emergency_direct_shipment", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(group_transfer),
    TwinKind(direct_shipment),
)
