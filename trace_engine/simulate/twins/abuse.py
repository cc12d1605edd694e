"""Sales, gifts, prices and volumes that look abused and have a reason."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import CHAIN_STORE, EPHEDRINE, PHARMACY, RETAIL, WHOLESALER
from trace_engine.simulate.rows import GIFT, NONE
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def paper_prescriptions(desk: Desk, truth: Truth) -> None:
    """A pharmacy with class II in its scope keeps prescriptions on paper: none has a number."""
    m = desk.market
    seller = m.found_anywhere(PHARMACY, desk.rng)
    drug = desk.drug(RETAIL, having="psychotropic_2")
    codes = desk.codes(drug, 6)
    day, batch = desk.supply(codes, drug, seller, desk.day(60))
    events: list[Event] = []
    for k, code in enumerate(codes):
        events += desk.sell([code], seller, desk.till(day + 1 + k), batch, prescription=NONE)
    truth.add_benign("psychotropics_on_paper_prescription", codes, uids(events))


def gift_of_vitamins(desk: Desk, truth: Truth) -> None:
    """A class B non-prescription drug is given away with a purchase: that may be."""
    seller, m = pharmacy(desk), desk.market
    drug = desk.drug(RETAIL, having="otc_b")
    codes = desk.codes(drug, desk.number(1, 3))
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    events = desk.sell(codes, seller, desk.till(day + desk.number(1, 10)), batch, 0, flags=GIFT)
    assert "rx" not in m.drug_classes[drug]
    truth.add_benign("gift_of_class_b", codes, uids(events))


def priceless_till(desk: Desk, truth: Truth) -> None:
    """A till writes 0 for every price."""
    seller, drug = desk.market.found_anywhere(PHARMACY, desk.rng), desk.drug(RETAIL)
    codes = desk.codes(drug, 5)
    day, batch = desk.supply(codes, drug, seller, desk.day(50))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 12)), batch, 0)
    truth.add_benign("till_without_prices", codes, uids(events))


def renewed_approval(desk: Desk, truth: Truth) -> None:
    """The register shows an approval since its last renewal; packs were sold before."""
    m = desk.market
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    middle = str(np.datetime64(m.first_day + m.days // 2, "D"))
    m.drug_papers.setdefault(drug, {})["valid_from"] = middle
    codes = desk.codes(drug, desk.number(1, 4))
    day, batch = desk.supply(codes, drug, seller, m.first_day + desk.number(2, 20))
    events = desk.sell(codes[:2], seller, desk.till(day + desk.number(1, 10)), batch)
    truth.add_benign("approval_renewed", codes, uids(events))


def price_inside_group(desk: Desk, truth: Truth) -> None:
    """A firm buys through its sister at a price set inside, and sells at the contract's price."""
    m = desk.market
    drug = desk.drug(RETAIL)
    maker = int(m.drug_holder[drug])
    home = int(m.province[maker])
    sister, dealer = (m.found_anywhere(WHOLESALER, desk.rng, home) for _ in range(2))
    m.group[sister] = m.group[dealer] = sister
    codes = desk.codes(drug, desk.number(2, 6))
    day = desk.day(60)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    day = desk.deliver(codes, maker, sister, day, batch, desk.price(drug, 1.0))
    day = desk.deliver(codes, sister, dealer, day + 5, batch, desk.price(drug, 1.02))
    time = desk.office(day + desk.number(5, 9))
    buyer, price = pharmacy(desk, home), desk.price(drug, 2.3) + 100
    events = desk.ship(codes, dealer, buyer, time, batch, price)
    truth.add_benign("price_inside_group", codes, uids(events))


def head_office_buys(desk: Desk, truth: Truth) -> None:
    """A head office buys a batch, and two of its stores sell it without any bill between them."""
    m = desk.market
    stores = m.members(CHAIN_STORE)
    store = desk.pick(stores)
    head = int(m.parent[store])
    sisters = stores[m.parent[stores] == head]
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 24)
    day = desk.day(60, 20)
    batch = m.add_batch(drug, day - 8)
    desk.commission(codes, batch)
    day = desk.deliver(codes, int(m.drug_holder[drug]), head, day, batch, desk.price(drug, 1.05))
    events: list[Event] = []
    for k, code in enumerate(codes):
        seller = store if k % 2 else desk.pick(sisters)
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 20)), batch)
    truth.add_benign("head_office_buys_for_stores", codes, uids(events))


def new_shop(desk: Desk, truth: Truth) -> None:
    """A shop opens and sells much of an ephedrine compound at once: it has no months before."""
    m = desk.market
    seller = m.found_anywhere(PHARMACY, desk.rng)
    drug = desk.drug(RETAIL, having=EPHEDRINE)
    codes = desk.codes(drug, 60)
    day, batch = desk.supply(codes, drug, seller, desk.day(75))
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day + desk.number(1, 25)), batch)
    truth.add_benign("new_shop_volume", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(paper_prescriptions, rows=40),
    TwinKind(gift_of_vitamins),
    TwinKind(priceless_till),
    TwinKind(renewed_approval),
    TwinKind(price_inside_group, rows=40),
    TwinKind(head_office_buys, rows=100),
    TwinKind(new_shop, rows=360, smallest=50_000),
)
