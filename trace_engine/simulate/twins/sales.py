"""Sales to persons that look wrong and are within the rules."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.formulary import FORMULARY, INSULIN
from trace_engine.simulate.market import DAY, EPHEDRINE, PLATFORM, RETAIL
from trace_engine.simulate.rows import SPLIT
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def split_sale(desk: Desk, truth: Truth) -> None:
    """One pack is sold in parts to several persons (拆零), together no more than it holds."""
    seller = pharmacy(desk)
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
    truth.add_benign("split_sale", codes, uids(events))


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
    truth.add_benign("registered_warehouse_dispatch", codes, uids(events))


def clearance(desk: Desk, truth: Truth) -> None:
    """Stock within half a year of its expiry is sold below cost."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    day = desk.day(60)
    batch = desk.market.add_batch(drug, day + 90 - 730 + desk.number(0, 60), 730)
    day, _ = desk.supply(codes, drug, seller, day, batch)
    events: list[Event] = []
    for code in codes:
        price = desk.price(drug, 0.6 + 0.4 * float(desk.rng.random()))
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 20)), batch, price)
    truth.add_benign("near_expiry_clearance", codes, uids(events))


def verification(desk: Desk, truth: Truth) -> None:
    """Buyers look their pack's code up from other provinces, days after the sale."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(55))
    day += desk.number(1, 8)
    events = desk.sell(codes, seller, desk.till(day), batch)
    # Platforms relay look-ups of persons; the place is where the telephone was.
    relay = m.first(PLATFORM)
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
    truth.add_benign("verification_elsewhere", codes, uids(events))


def insulin_online(desk: Desk, truth: Truth) -> None:
    """Insulin is an injection and may yet be sold online: the ban excepts it."""
    m = desk.market
    insulin = [
        d
        for d in np.flatnonzero(m.drug_free).tolist()
        if FORMULARY[int(m.medicine[d])].generic_name == INSULIN
    ]
    seller, drug = desk.pick(m.online), desk.pick(insulin)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events = desk.sell(codes, seller, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("insulin_online", codes, uids(events))


def within_quota(desk: Desk, truth: Truth) -> None:
    """A person buys ephedrine compounds up to the limits: two a sale, four within a week."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL, having=EPHEDRINE)
    codes = desk.codes(drug, 4)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    person = desk.person()
    day += desk.number(1, 5)
    events = desk.sell(codes[:2], seller, desk.till(day), batch, buyer=person)
    events += desk.sell(codes[2:], seller, desk.till(day + 3), batch, buyer=person)
    truth.add_benign("within_quota", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(split_sale),
    TwinKind(entrusted_warehouse),
    TwinKind(clearance),
    TwinKind(verification),
    TwinKind(insulin_online),
    TwinKind(within_quota),
)
