"""Twins around prescriptions, pharmacists, shared addresses, cold chains and destinations."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import (
    CHAIN_HQ,
    CHAIN_STORE,
    DAY,
    EPHEDRINE,
    PHARMACY,
    RETAIL,
    WHOLESALER,
)
from trace_engine.simulate.rows import NONE
from trace_engine.simulate.schemes.prescriptions import (
    MINUTE,
    cold_goods,
    month_day,
    rx_drug,
    sent_to,
    shops_of,
    stocked,
    usual_quarter,
)
from trace_engine.simulate.stated import doctor_of, pharmacist_of
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, uids


def gap_in_the_feed(desk: Desk, truth: Truth) -> None:
    """A shop states every prescription but one."""
    seller = desk.found(PHARMACY)
    codes, day, batch = stocked(desk, seller, 26, 70)
    events: list[Event] = []
    for k, code in enumerate(codes):
        number = NONE if k == 25 else desk.bill()
        events += desk.sell([code], seller, desk.till(day + 1 + k), batch, prescription=number)
    truth.add_benign("one_prescription_not_recorded", codes, uids(events))


def paper(desk: Desk, truth: Truth) -> None:
    """A shop keeps its prescriptions on paper and states none."""
    seller = desk.found(PHARMACY)
    codes, day, batch = stocked(desk, seller, 12, 60)
    events: list[Event] = []
    for k, code in enumerate(codes):
        events += desk.sell([code], seller, desk.till(day + 1 + k), batch)
    truth.add_benign("prescriptions_on_paper", codes, uids(events))


def refills(desk: Desk, truth: Truth) -> None:
    """A prescription for long use is collected in three parts at one shop."""
    seller = desk.found(PHARMACY)
    codes, day, batch = stocked(desk, seller, 3, 100)
    number, person = desk.bill(), desk.person()
    events: list[Event] = []
    for k, code in enumerate(codes):
        time = desk.till(day + 1 + 28 * k)
        events += desk.sell([code], seller, time, batch, buyer=person, prescription=number)
    truth.add_benign("prescription_for_long_use", codes, uids(events))


def sent_at_once(desk: Desk, truth: Truth) -> None:
    """A shop's system sends a day's prescriptions of its doctor in one go, seconds apart."""
    seller = desk.found(PHARMACY)
    codes, day, batch = stocked(desk, seller, 80, 50)
    codes = codes[::2]  # what is sold is not one run of serials
    time = (day + 1) * DAY + 21 * 60 * MINUTE
    events: list[Event] = []
    for k, code in enumerate(codes):
        stated = {"prescription": desk.bill(), "doctor": doctor_of(seller)}
        events += desk.sell([code], seller, time + 2 * k, batch, **stated)
    truth.add_benign("prescriptions_sent_at_once", codes, uids(events))


def review_centre(desk: Desk, truth: Truth) -> None:
    """A chain's pharmacist checks the prescriptions of two stores from the head office."""
    m = desk.market
    head = desk.found(CHAIN_HQ)
    m.group[head] = head
    stores = [m.found(CHAIN_STORE, m.city_of(head), head) for _ in range(2)]
    lots = [stocked(desk, store, 6, 60) for store in stores]
    clock = (max(day for _, day, _ in lots) + desk.number(1, 5)) * DAY + 10 * 60 * MINUTE
    events: list[Event] = []
    for k in range(6):
        for store, (codes, _, batch) in zip(stores, lots, strict=True):
            clock += desk.number(5, 14) * MINUTE
            stated = {"prescription": desk.bill(), "pharmacist": pharmacist_of(head)}
            events += desk.sell([codes[k]], store, clock, batch, **stated)
    truth.add_benign("review_centre", [c for codes, _, _ in lots for c in codes], uids(events))


def dormitory(desk: Desk, truth: Truth) -> None:
    """A cold goes round in a dormitory: nine students order a pack each to one address."""
    seller, drug = desk.found(PHARMACY), desk.drug(RETAIL, having=EPHEDRINE)
    codes = desk.codes(drug, 9)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    home, day = desk.number(1, 2**31), day + desk.number(1, 8)
    events: list[Event] = []
    for code in codes:
        events += desk.sell([code], seller, desk.till(day), batch, address=home)
    truth.add_benign("dormitory", codes, uids(events))


def sent_back_warm(desk: Desk, truth: Truth) -> None:
    """Cold goods that a shop left out of the fridge go back, and both sides say how warm they are."""
    m = desk.market
    seller = desk.found(PHARMACY)
    hub = desk.distributor(seller)
    codes, day, batch = cold_goods(desk, hub, desk.number(1, 4), 60)
    price = desk.price(m.batches.drug[batch], 1.07)
    day = desk.deliver(codes, hub, seller, day + 2, batch, price) + 1
    events = desk.ship(
        codes, seller, hub, desk.office(day), batch, price, kind=K.RETURN_SHIPMENT,
        temperature=1900,
    )  # fmt: skip
    day += int(m.transit_days(m.city_of(seller), m.city_of(hub), desk.rng))
    events += desk.receive(
        codes, seller, hub, desk.office(day), batch, price, kind=K.RETURN_RECEIPT,
        temperature=2000,
    )  # fmt: skip
    truth.add_benign("sent_back_warm", codes, uids(events))


def one_new_customer(desk: Desk, truth: Truth) -> None:
    """A distributor wins one big customer in another province and goes on serving its own."""
    m = desk.market
    drug = rx_drug(desk)
    home = int(m.province[m.drug_holder[drug]])  # so that its goods cross one border only
    giver = desk.found(WHOLESALER, home)
    away = desk.pick(np.setdiff1d(np.unique(m.city_province), [home]))
    near, big = shops_of(desk, home, 20), desk.found(PHARMACY, away)
    codes = usual_quarter(desk, giver, drug, near)
    customers = [*near, *([big] * 26), *near[:6]]
    days = sorted(month_day(desk, 3, 1 + k % 26) for k in range(len(customers)))
    more, events = sent_to(desk, giver, drug, customers, days)
    truth.add_benign("one_new_customer", [*codes, *more], uids(events))


def two_drugs(desk: Desk, truth: Truth) -> None:
    """Two drugs of one prescription: the shop has one of them, another shop the other."""
    one, other = desk.found(PHARMACY), desk.found(PHARMACY)
    number, person = desk.bill(), desk.person()
    codes: list[int] = []
    events: list[Event] = []
    first = -1
    for seller in (one, other):
        drug = rx_drug(desk)
        while drug == first:
            drug = rx_drug(desk)
        first = drug
        mine = desk.codes(drug, 1)
        day, batch = desk.supply(mine, drug, seller, desk.day(60))
        time = desk.till(day + 1)
        events += desk.sell(mine, seller, time, batch, buyer=person, prescription=number)
        codes += mine
    truth.add_benign("two_drugs_two_shops", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(gap_in_the_feed, rows=160),
    TwinKind(paper, rows=75),
    TwinKind(refills),
    TwinKind(sent_at_once, rows=440),
    TwinKind(review_centre, rows=100),
    TwinKind(dormitory, rows=60),
    TwinKind(sent_back_warm),
    TwinKind(one_new_customer, rows=600, smallest=100_000),
    TwinKind(two_drugs),
)
