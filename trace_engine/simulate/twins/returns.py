"""Goods that go back: from the buyer, to the distributor, to the maker after a recall."""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import RETAIL, Recall
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def consumer_return(desk: Desk, truth: Truth) -> None:
    """A person brings the pack back and the same shop sells it to another person."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
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
    truth.add_benign("consumer_return_and_resale", codes, uids(events))


def supplier_return(desk: Desk, truth: Truth) -> None:
    """A shop sends goods back to its distributor (202/103), who sells them to another shop."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(1, 5))
    hub, other = desk.distributor(seller), pharmacy(desk, int(m.province[seller]))
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
    truth.add_benign("supplier_return_and_resale", codes, uids(events))


def recall_return(desk: Desk, truth: Truth) -> None:
    """A recalled batch: sold before the recall, the rest goes back up to the maker (211/108)."""
    m, seller, drug = desk.market, pharmacy(desk), desk.drug(RETAIL)
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
    truth.add_benign("recalled_goods_returned", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(consumer_return),
    TwinKind(supplier_return),
    TwinKind(recall_return),
)
