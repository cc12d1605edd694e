"""Firms that share a telephone and nothing else: each trades with others."""

from __future__ import annotations

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import RETAIL, WHOLESALER
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def one_agency(desk: Desk, truth: Truth) -> None:
    """Three distributors state the telephone of one agency; each supplies a pharmacy of its own."""
    m = desk.market
    first = desk.found(WHOLESALER)
    firms = [first, *(desk.found(WHOLESALER, int(m.province[first])) for _ in range(2))]
    every: list[int] = []
    events: list[Event] = []
    for firm in firms:
        m.papers[firm] = {"phone": f"0{500 + first % 400}-7{first % 1_000_000:06d}"}
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, 12)
        start = desk.day(60)
        batch = desk.batch(drug, start)
        desk.commission(codes, batch)
        maker = int(m.drug_holder[drug])
        day = desk.deliver(codes, maker, firm, start, batch, desk.price(drug, 1.0))
        shop = pharmacy(desk, int(m.province[firm]))
        price = desk.price(drug, 1.1)
        events += desk.ship(codes, firm, shop, desk.office(day + 3), batch, price)
        events += desk.receive(codes, firm, shop, desk.office(day + 4), batch, price)
        every += codes
    truth.add_benign("one_agency_for_three_firms", every, uids(events))


TWINS: tuple[TwinKind, ...] = (TwinKind(one_agency, rows=160),)
