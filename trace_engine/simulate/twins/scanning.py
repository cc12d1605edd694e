"""Scanning that looks bent and is not."""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import DAY, PHARMACY, RETAIL, WHOLESALER
from trace_engine.simulate.rows import NONE
from trace_engine.simulate.stated import device_of, operator_of
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def borrowed_scanner(desk: Desk, truth: Truth) -> None:
    """Three shops lend each other a handheld; one takes in a case, which expands by itself."""
    m, shops, drug = desk.market, [desk.found(PHARMACY) for _ in range(3)], desk.drug(RETAIL)
    device, start = device_of(shops[0], 3), desk.day(60)
    events: list[Event] = []
    every: list[int] = []
    for shop in shops:
        codes = desk.codes(drug, 24 if shop == shops[2] else 3)
        every += codes
        hub = desk.distributor(shop)
        batch = desk.batch(drug, start)
        desk.commission(codes, batch)
        maker, price = int(m.drug_holder[drug]), desk.price(drug, 1.07)
        day = desk.deliver(codes, maker, hub, start, batch, desk.price(drug, 1.0))
        time = desk.office(day + 2)
        desk.ship(codes, hub, shop, time, batch, price)
        bill, cased = desk.bill(), shop == shops[2]
        parent = desk.codes(drug, 1)[0]
        for i, code in enumerate(codes):
            at = time + 2 * DAY + (i // 12 if cased else 5 * i) + 7
            events += desk.receive(
                [code],
                hub,
                shop,
                at,
                batch,
                price,
                bill=bill,
                receivable=len(codes),
                device=device,
                parent=parent if cased else NONE,
            )
    truth.add_benign("borrowed_scanner_and_case", every, uids(events))


def whole_case_sold(desk: Desk, truth: Truth) -> None:
    """One buyer takes a whole case: two dozen serials in a row, one bill, one order."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 24)
    day, batch = desk.supply(codes, drug, seller, desk.day(45))
    time, bill, person = desk.till(day + 3), desk.bill(), desk.person()
    events: list[Event] = []
    for i, code in enumerate(codes):
        events += desk.sell(
            [code], seller, time + 2 * i, batch, buyer=person, bill=bill, order=bill
        )
    truth.add_benign("whole_case_to_one_buyer", codes, uids(events))


def bill_confirmed(desk: Desk, truth: Truth) -> None:
    """Two deliveries: one confirmed as a whole, one unpacked by hand in the order of packing."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
    hub, day, price = desk.distributor(seller), desk.day(45), desk.price(drug, 1.07)
    codes = desk.codes(drug, 24)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    maker = int(m.drug_holder[drug])
    day = desk.deliver(codes, maker, hub, day, batch, desk.price(drug, 1.0))
    events: list[Event] = []
    for part, by_hand in ((codes[:12], False), (codes[12:], True)):
        shipped = desk.ship(part, hub, seller, desk.office(day + 2), batch, price)
        in_order = [code for _, code in sorted(zip((t for _, t in shipped), part, strict=True))]
        time = max(t for _, t in shipped) + 2 * DAY
        bill, device = desk.bill(), device_of(seller)
        for i, code in enumerate(in_order):
            events += desk.receive(
                [code],
                hub,
                seller,
                time + (3 * i if by_hand else 0),
                batch,
                price,
                bill=bill,
                receivable=12,
                device=device,
            )
    truth.add_benign("bill_confirmed_or_unpacked_in_order", codes, uids(events))


def corrected_at_once(desk: Desk, truth: Truth) -> None:
    """A clumsy till: on eight days a sale is booked, made void within the hour and booked again."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, 8)
    day, batch = desk.supply(codes, drug, seller, desk.day(60))
    events: list[Event] = []
    for k, code in enumerate(codes):
        time = desk.till(day + 1 + k)
        wrong = desk.sell([code], seller, time, batch)
        time += desk.number(60, 3000)
        events += wrong
        events += desk.write(K.VOID, [code], time, batch, seller, source=seller, voids=wrong[0][0])
        events += desk.sell([code], seller, time + desk.number(30, 300), batch)
    truth.add_benign("mistakes_corrected_at_once", codes, uids(events))


def split_deliveries(desk: Desk, truth: Truth) -> None:
    """Five bills of two dozen packs each arrive in two halves, three days apart."""
    m, seller, drug = desk.market, desk.found(PHARMACY), desk.drug(RETAIL)
    hub, day, price = desk.distributor(seller), desk.day(60), desk.price(drug, 1.07)
    codes = desk.codes(drug, 120)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    maker = int(m.drug_holder[drug])
    day = desk.deliver(codes, maker, hub, day, batch, desk.price(drug, 1.0))
    events: list[Event] = []
    for k in range(5):
        some, sent, bill = codes[24 * k : 24 * k + 24], desk.office(day + 2 + 2 * k), desk.bill()
        desk.ship(some, hub, seller, sent, batch, price)
        for half, wait in ((some[:12], 2), (some[12:], 5)):
            events += desk.receive(
                half, hub, seller, sent + wait * DAY, batch, price, bill=bill, receivable=24
            )
    truth.add_benign("split_deliveries", codes, uids(events))


def two_divisions(desk: Desk, truth: Truth) -> None:
    """A distributor's two sales teams, each with customers, people and devices; one purchasing."""
    m = desk.market
    firm, drug = desk.found(WHOLESALER), desk.drug(RETAIL)
    province, maker = int(m.province[firm]), int(m.drug_holder[drug])
    start = desk.day(75)
    batch = desk.batch(drug, start)
    teams = [[desk.found(PHARMACY, province) for _ in range(3)] for _ in range(2)]
    codes = desk.codes(drug, 48)
    desk.commission(codes, batch)
    events: list[Event] = []
    base = desk.price(drug, 1.0)
    for k in range(8):
        day = start + 2 + 6 * k
        for number, team in enumerate(teams):
            some = codes[6 * k + 3 * number : 6 * k + 3 * number + 3]
            device, person = device_of(firm, number), operator_of(firm, number)
            desk.ship(some, maker, firm, desk.office(day), batch, base)
            arrival = day + int(m.transit_days(m.city_of(maker), m.city_of(firm), desk.rng))
            events += desk.receive(
                some, maker, firm, desk.office(arrival), batch, base, device=device, operator=person
            )
            for code, customer in zip(some, team, strict=True):
                time, price = desk.office(arrival + 2), round(base * 1.06)
                events += desk.ship(
                    [code], firm, customer, time, batch, price, device=device, operator=person
                )
                desk.receive([code], firm, customer, time + 2 * DAY, batch, price)
    truth.add_benign("two_divisions_of_one_firm", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(borrowed_scanner, rows=150),
    TwinKind(whole_case_sold, rows=150),
    TwinKind(bill_confirmed, rows=130),
    TwinKind(corrected_at_once, rows=70),
    TwinKind(split_deliveries, rows=600, smallest=50_000),
    TwinKind(two_divisions, rows=250),
)
