"""Papers that look wrong and are not."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.cities import CITIES
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.formulary import FORMULARY, INSULIN
from trace_engine.simulate.market import (
    ONLINE,
    PHARMACY,
    PLATFORM,
    RETAIL,
    WHOLESALER,
    LicenceChange,
)
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def renewed_licence(desk: Desk, truth: Truth) -> None:
    """The register still shows the old licence; the list of licence events has its renewal."""
    m, shop = desk.market, desk.found(PHARMACY)
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 3)
    day, batch = desk.supply(codes, drug, shop, desk.day(60))
    m.papers[shop] = {"licence_to": _date(day - 60)}
    m.licence_changes.append(LicenceChange(shop, "renewal", day - 75))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], shop, desk.till(day + desk.number(1, 20)), batch)
    truth.add_benign("renewed_licence", codes, uids(events))


def later_licence(desk: Desk, truth: Truth) -> None:
    """The licence on record began in the middle of the data: it took the place of an older one."""
    m, shop = desk.market, desk.found(PHARMACY)
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 3)
    day, batch = desk.supply(codes, drug, shop, desk.day(60))
    m.papers[shop] = {"licence_from": _date(day + 10), "licence_to": _date(day + 10 + 1825)}
    events: list[Event] = []
    for k, code in enumerate(codes):
        events += desk.sell([code], shop, desk.till(day + 1 + 9 * k), batch)
    truth.add_benign("later_licence", codes, uids(events))


def orderly_closing(desk: Desk, truth: Truth) -> None:
    """A trader sells as always until it gives its stock back to the maker, and then closes."""
    m, buyer = desk.market, pharmacy(desk)
    firm = desk.found(WHOLESALER, int(m.province[buyer]))
    drug = desk.drug(RETAIL)
    maker, begin = int(m.drug_holder[drug]), m.first_day + 8
    every = codes = desk.codes(drug, 60)
    batch = desk.batch(drug, begin - 5)
    desk.commission(codes, batch)
    day = desk.deliver(codes, maker, firm, begin - 6, batch, desk.price(drug, 1.0))
    price = desk.price(drug, 1.07)
    events: list[Event] = []
    for week in range(10):
        when = max(begin + 7 * week + desk.number(0, 2), day + 1)
        events += desk.ship(codes[:2], firm, buyer, desk.office(when), batch, price)
        codes = codes[2:]
    closing = begin + 75
    when = desk.office(closing - 3)
    cost = desk.price(drug, 1.0)
    events += desk.ship(codes, firm, maker, when, batch, cost, kind=K.RETURN_SHIPMENT)
    arrival = closing - 3 + int(m.transit_days(m.city_of(firm), m.city_of(maker), desk.rng))
    events += desk.receive(
        codes, firm, maker, desk.office(arrival), batch, cost, kind=K.RETURN_RECEIPT
    )
    m.papers[firm] = {"status": "cancelled", "status_date": _date(closing)}
    truth.add_benign("orderly_closing", every, uids(events))


def relocation(desk: Desk, truth: Truth) -> None:
    """A shop moves: address, warehouse and person in charge are changed on one day."""
    m, shop = desk.market, desk.found(PHARMACY)
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 3)
    day, batch = desk.supply(codes, drug, shop, desk.day(45))
    for kind in ("address_change", "warehouse_change", "legal_person_change"):
        m.licence_changes.append(LicenceChange(shop, kind, day - 30))
    m.licence_changes.append(LicenceChange(shop, "renewal", day - 200))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], shop, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("relocation", codes, uids(events))


def newly_opened_shop(desk: Desk, truth: Truth) -> None:
    """A web shop has sold for a week: the report of it is still due."""
    m = desk.market
    seller = desk.pick(m.online)
    own = int(m.shop_of[seller])
    shop = m.open_shop(seller, desk.pick(m.members(PLATFORM)), reported=False)
    m.shop_of[seller] = own
    drug = desk.drug(ONLINE)
    codes = desk.codes(drug, 4)
    day, batch = desk.supply(codes, drug, seller, desk.day(30))
    events: list[Event] = []
    for k, code in enumerate(codes):
        events += desk.sell([code], seller, desk.till(day + 1 + 2 * k), batch, shop=shop)
    truth.add_benign("newly_opened_shop", codes, uids(events))


def class_b_counter(desk: Desk, truth: Truth) -> None:
    """A counter licensed for class B over-the-counter drugs sells just these."""
    m, shop = desk.market, desk.found(PHARMACY)
    m.papers[shop] = {"scope": "otc_b"}
    drug = desk.drug(RETAIL, having="otc_b")
    codes = desk.codes(drug, 3)
    day, batch = desk.supply(codes, drug, shop, desk.day(45))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], shop, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("class_b_counter", codes, uids(events))


def posted_out_of_territory(desk: Desk, truth: Truth) -> None:
    """A web pharmacy inside a drug's territory posts it to persons who live outside."""
    m = desk.market
    weight = np.diff(m.channel_drugs[ONLINE], prepend=0.0)
    pairs = [
        (drug, seller)
        for drug in np.flatnonzero(~m.drug_free & (weight > 0)).tolist()
        for seller in m.online.tolist()
        if m.allotted[drug, m.province[seller]]
    ]
    if not pairs:
        return
    drug, seller = pairs[desk.number(0, len(pairs) - 1)]
    outside = np.flatnonzero(~m.allotted[drug, m.city_province])
    codes = desk.codes(drug, 5)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events: list[Event] = []
    for code in codes:
        time = desk.till(day + desk.number(1, 10))
        events += desk.sell([code], seller, time, batch, target_city=desk.pick(outside))
    truth.add_benign("posted_out_of_territory", codes, uids(events))


def registered_third_party_warehouse(desk: Desk, truth: Truth) -> None:
    """A trader stores for six shops of other cities, each of which has the warehouse on record."""
    m, keeper = desk.market, desk.found(WHOLESALER)
    start, drug = desk.day(50), desk.drug(RETAIL)
    here = CITIES[int(m.city[keeper])].code
    stored: list[int] = []
    events: list[Event] = []
    for _ in range(6):
        shop = desk.found(PHARMACY)
        m.papers[shop] = {"warehouse_regions": f"{CITIES[int(m.city[shop])].code};{here}"}
        codes = desk.codes(drug, 1)
        day, batch = desk.supply(codes, drug, shop, start)
        time = desk.till(day + desk.number(1, 12))
        events += desk.sell(codes, shop, time, batch, actor=keeper)
        stored += codes
    truth.add_benign("registered_third_party_warehouse", stored, uids(events))


def insulin_month(desk: Desk, truth: Truth) -> None:
    """Three web shops of one platform sell a dozen packs of insulin in a month: it is excepted."""
    m = desk.market
    insulin = [
        d
        for d in range(m.drug_count)
        if FORMULARY[int(m.medicine[d])].generic_name == INSULIN and m.drug_free[d]
    ]
    platform = desk.pick(m.members(PLATFORM))
    start = desk.day(60)
    sold: list[int] = []
    events: list[Event] = []
    for _ in range(3):
        shop, drug = desk.found(PHARMACY), desk.pick(insulin)
        m.open_shop(shop, platform)
        codes = desk.codes(drug, 4)
        day, batch = desk.supply(codes, drug, shop, start)
        for code in codes:
            events += desk.sell([code], shop, desk.till(day + desk.number(1, 10)), batch)
        sold += codes
    truth.add_benign("insulin_month", sold, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(renewed_licence),
    TwinKind(later_licence),
    TwinKind(orderly_closing, rows=300),
    TwinKind(relocation),
    TwinKind(insulin_month, rows=90),
    TwinKind(registered_third_party_warehouse, rows=40),
    TwinKind(newly_opened_shop),
    TwinKind(class_b_counter),
    TwinKind(posted_out_of_territory, rows=40),
)
