"""Schemes of scanning: other people's hands, codes read off, lists copied, records bent or missing.

Scan times are whole seconds here, as handhelds write them.
"""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.cities import distances
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import HOUR, MICRO
from trace_engine.simulate.market import DAY, PHARMACY, RETAIL, WHOLESALER
from trace_engine.simulate.schemes.cast import OWN_STOCK, SHOPS, By, Scene, SchemeKind
from trace_engine.simulate.stated import device_of, operator_of
from trace_engine.simulate.truth import SUBJECT


def _till(desk: Desk, day: int) -> int:
    """Return an evening second off the whole minute."""
    return day * DAY + 20 * HOUR + 60 * desk.number(0, 90) + 7


def proxy_scanning(scene: Scene, seller: int, cases: int) -> None:
    """A service firm's device books sales for the shop and for two strangers, eight codes a second.

    Shape: one device of 3 to 20 pharmacies, 10 to 50 codes a second.
    """
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        start, others = desk.day(75), [desk.found(PHARMACY) for _ in range(2)]
        device, drug = device_of(others[0], 9), desk.drug(RETAIL)
        ready = start
        for other in others:
            few = desk.codes(drug, 1)
            day, batch = desk.supply(few, drug, other, start)
            desk.sell(few, other, _till(desk, day + 1), batch, device=device)
            ready = max(ready, day + 1)
        codes = desk.codes(drug, 2 * desk.number(24, 40))[::2]  # no serials in a row
        day, batch = desk.supply(codes, drug, seller, start)
        time, events = _till(desk, max(day, ready) + desk.number(1, 5)), []
        for i, code in enumerate(codes):
            events += desk.sell([code], seller, time + i // 8, batch, device=device)
        truth.add("proxy_scanning", [(seller, SUBJECT)], codes, events)


def serial_run(scene: Scene, seller: int, cases: int) -> None:
    """A case is read off pack by pack and booked as so many sales, seconds apart."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = desk.drug(RETAIL, among=~desk.market.drug_gs1)
        codes = desk.codes(drug, desk.number(22, 36))
        day, batch = desk.supply(codes, drug, seller, desk.day(60))
        time, events = _till(desk, day + desk.number(1, 6)), []
        for code in codes:
            time += desk.number(2, 9)
            events += desk.sell([code], seller, time, batch)
        truth.add("serial_run", [(seller, SUBJECT)], codes, events)


def copied_receipt(scene: Scene, seller: int, cases: int) -> None:
    """The supplier's list is entered in its order: within seconds, or before a lorry could come."""
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    km = distances()[m.city_of(seller)][m.city]
    far = np.flatnonzero((m.type == WHOLESALER) & (km > 750) & (km < 1100) & ~m.apart)
    # From a maker of the supplier's own province: the honest supplier resells across one border.
    local = np.isin(m.province[m.drug_holder], m.province[far]) & m.drug_free
    local &= ~m.drug_ephedrine
    local &= np.diff(m.channel_drugs[RETAIL], prepend=0.0) > 0
    for i in range(cases):
        early = i % 3 == 2 and bool(local.any())
        drug = desk.drug(RETAIL, among=local) if early else desk.drug(RETAIL)
        home = far[m.province[far] == m.province[m.drug_holder[drug]]]
        hub = desk.pick(home) if early else desk.distributor(seller)
        codes = desk.codes(drug, desk.number(40, 60))
        day = desk.day(60)
        batch = desk.batch(drug, day)
        desk.commission(codes, batch)
        price = desk.price(drug, 1.07)
        maker = int(m.drug_holder[drug])
        day = desk.deliver(codes, maker, hub, day, batch, desk.price(drug, 1.0))
        shipped = desk.ship(codes, hub, seller, desk.office(day + 2), batch, price)
        order = np.argsort([time for _, time in shipped], kind="stable").tolist()
        last, bill = max(time for _, time in shipped), desk.bill()
        arrived = last + (5400 if early else DAY + desk.number(0, 4) * HOUR) + 7
        events: list[Event] = []
        for place, which in enumerate(order):
            events += desk.receive(
                [codes[which]],
                hub,
                seller,
                arrived + (2 * place if early else place // 14),
                batch,
                price,
                bill=bill,
                receivable=len(codes),
                device=device_of(seller),
                operator=operator_of(seller),
            )
        variant = "before_it_could_arrive" if early else "faster_than_a_hand"
        truth.add("copied_receipt", [(seller, SUBJECT)], codes, events, variant)


def record_tampering(scene: Scene, seller: int, cases: int) -> None:
    """Sales are taken back days later, one by one, and others are written in long afterwards."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, 14)
        day, batch = desk.supply(codes, drug, seller, desk.day(85))
        day += 2
        events: list[Event] = []
        for k, code in enumerate(codes[:9]):
            sold = desk.sell([code], seller, desk.till(day + k), batch)
            later = desk.till(day + k + desk.number(2, 6))
            events += desk.write(
                K.VOID, [code], later, batch, seller, source=seller, voids=sold[0][0]
            )
        for k, code in enumerate(codes[9:]):
            lag = (9 + 2 * k) * DAY * MICRO
            events += desk.sell([code], seller, desk.till(day + 12 + k), batch, lag=lag)
        truth.add("record_tampering", [(seller, SUBJECT)], codes, events)


def incomplete_scanning(scene: Scene, _nobody: int, cases: int) -> None:
    """A shop scans two thirds of each delivery (漏扫): a habit, nobody is guilty."""
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    for _ in range(cases):
        seller, drug = desk.found(PHARMACY), desk.drug(RETAIL)
        hub, price = desk.distributor(seller), desk.price(drug, 1.07)
        day = desk.day(60)
        batch = desk.batch(drug, day)
        codes = desk.codes(drug, 75)
        desk.commission(codes, batch)
        maker = int(m.drug_holder[drug])
        day = desk.deliver(codes, maker, hub, day, batch, desk.price(drug, 1.0))
        events: list[Event] = []
        for k in range(5):
            some = codes[15 * k : 15 * k + 15]
            sent = desk.office(day + 2 + 3 * k)
            desk.ship(some, hub, seller, sent, batch, price, receivable=24)
            events += desk.receive(some, hub, seller, sent + DAY, batch, price, receivable=24)
        truth.add("incomplete_scanning", [(seller, SUBJECT)], codes, events)


def disjoint_business(scene: Scene, who: int, cases: int) -> None:
    """A distributor lends its licence: two businesses with suppliers, customers and hands of their own."""
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    province = int(m.province[who])
    for _ in range(cases):
        drug = desk.drug(RETAIL)
        maker = int(m.drug_holder[drug])
        hub = int(m.wholesaler_in(np.array([province]), desk.rng)[0])
        start = desk.day(75)
        batch = desk.batch(drug, start)
        events: list[Event] = []
        every: list[int] = []
        for business in range(2):
            device, person = device_of(who, 8 + business), operator_of(who, 8 + business)
            customers = [desk.found(PHARMACY, province) for _ in range(3)]
            codes = desk.codes(drug, 24)
            every += codes
            desk.commission(codes, batch)
            base, day = desk.price(drug, 1.0), start
            supplier = maker
            if business:
                day = desk.deliver(codes, maker, hub, day, batch, base)
                base, supplier = desk.price(drug, 1.06), hub
            for k in range(8):
                some, at = codes[3 * k : 3 * k + 3], day + 2 + 6 * k
                desk.ship(some, supplier, who, desk.office(at), batch, base)
                arrival = at + int(m.transit_days(m.city_of(supplier), m.city_of(who), desk.rng))
                events += desk.receive(
                    some,
                    supplier,
                    who,
                    desk.office(arrival),
                    batch,
                    base,
                    device=device,
                    operator=person,
                )
                price = round(base * 1.06)
                for code, customer in zip(some, customers, strict=True):
                    time = desk.office(arrival + 2)
                    events += desk.ship(
                        [code], who, customer, time, batch, price, device=device, operator=person
                    )
                    desk.receive([code], who, customer, time + 2 * DAY, batch, price)
        truth.add("disjoint_business", [(who, SUBJECT)], every, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(proxy_scanning, ("proxy_scanning",), types=SHOPS, rows=260),
    SchemeKind(serial_run, ("serial_run",), types=SHOPS, rows=200),
    SchemeKind(copied_receipt, ("copied_receipt",), types=OWN_STOCK, rows=260),
    SchemeKind(
        record_tampering,
        ("record_tampering",),
        types=SHOPS,
        rows=110,
        smallest=50_000,
        most_cases=1,
    ),
    SchemeKind(incomplete_scanning, ("incomplete_scanning",), By.NOBODY, rows=380),
    SchemeKind(
        disjoint_business,
        ("disjoint_business",),
        By.NEWCOMER,
        types=frozenset({WHOLESALER}),
        rows=270,
        most_cases=1,
    ),
)
