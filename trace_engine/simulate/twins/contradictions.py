"""Packs that change cases or papers, as they may."""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import HOUR
from trace_engine.simulate.market import RETAIL
from trace_engine.simulate.pace import CASE_PACKS
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids


def mixed_case(desk: Desk, truth: Truth) -> None:
    """A distributor that received a case puts half of it, for one shop, into a case of its own."""
    m, drug, shop = desk.market, desk.drug(RETAIL), pharmacy(desk)
    maker, hub = int(m.drug_holder[drug]), desk.distributor(shop)
    *codes, case, own = desk.codes(drug, 14)
    day = desk.day(60, 10)
    batch, price = m.add_batch(drug, day - 2), desk.price(drug, 1.0)
    desk.commission(codes, batch)
    events: list[Event] = []
    for i, code in enumerate(codes):
        time = (day - 1) * 24 * HOUR + 9 * HOUR + 3 * i
        events += desk.write(K.PACK, [code], time, batch, maker, parent=case)
    outer = {"pack_level": 2, "quantity": len(codes), "receivable": len(codes)}
    sent = desk.office(day + 1)
    days = 1 + int(m.transit_days(m.city_of(maker), m.city_of(hub), desk.rng))
    events += desk.ship([case], maker, hub, sent, batch, price, K.SALE_SHIPMENT, **outer)
    events += desk.receive(
        [case], maker, hub, sent + days * 24 * HOUR, batch, price, K.PURCHASE_RECEIPT, **outer
    )
    half, time = codes[: len(codes) // 2], sent + (days + 2) * 24 * HOUR
    for i, code in enumerate(half):
        events += desk.write(K.PACK, [code], time + 3 * i, batch, hub, parent=own)
    price, outer = desk.price(drug, 1.07), outer | {"quantity": len(half), "receivable": len(half)}
    events += desk.ship([own], hub, shop, time + 2 * HOUR, batch, price, K.SALE_SHIPMENT, **outer)
    events += desk.receive(
        [own], hub, shop, time + 26 * HOUR, batch, price, K.PURCHASE_RECEIPT, **outer
    )
    truth.add_benign("case_repacked_by_its_owner", [*codes, case, own], uids(events))


def case_filled_up(desk: Desk, truth: Truth) -> None:
    """A maker takes spoilt packs out of a full case, puts others in, and replaces a torn label."""
    m, drug = desk.market, desk.drug(RETAIL)
    maker, spoilt = int(m.drug_holder[drug]), desk.number(2, 6)
    *codes, fresh, case = desk.codes(drug, CASE_PACKS + spoilt + 2)
    full, others = codes[:CASE_PACKS], codes[CASE_PACKS:]
    day = desk.day(60, 10)
    batch = m.add_batch(drug, day - 2)
    desk.commission(codes, batch)
    events: list[Event] = []

    def line(kind: K, code: int, time: int, outer: int) -> None:
        events.extend(desk.write(kind, [code], time, batch, maker, parent=outer))

    begin = (day - 1) * 24 * HOUR + 9 * HOUR
    for i, code in enumerate(full):
        line(K.PACK, code, begin + 3 * i, case)
    for i, (out, into) in enumerate(zip(full, others, strict=False)):
        # Some put the new pack in before they scan the old one out.
        line(K.UNPACK, out, begin + HOUR + 20 * i, case)
        line(K.PACK, into, begin + HOUR + 20 * i + desk.pick((-10, 10)), case)
    line(K.CODE_REPLACEMENT, fresh, begin + 2 * HOUR, full[-1])
    line(K.PACK, fresh, begin + 2 * HOUR + 60, case)
    truth.add_benign("case_filled_up_again", [*codes, fresh, case], uids(events))


def wrong_batch_taken_back(desk: Desk, truth: Truth) -> None:
    """A maker commissions packs under a wrong batch number, takes that back, and does it again."""
    m, drug, shop = desk.market, desk.drug(RETAIL), pharmacy(desk)
    maker, hub = int(m.drug_holder[drug]), desk.distributor(shop)
    codes = desk.codes(drug, desk.number(3, 6))
    day = desk.day(60, 10)
    batch, wrong = m.add_batch(drug, day - 3), m.add_batch(drug, day - 3)
    time, at = (day - 2) * 24 * HOUR + 9 * HOUR, {"target": maker, "target_city": m.city_of(maker)}
    events: list[Event] = []
    for code in codes:
        made = desk.write(K.COMMISSIONING, [code], time, wrong, maker, **at)
        back = time + 2 * HOUR
        events += made
        events += desk.write(K.VOID, [code], back, wrong, maker, source=maker, voids=made[0][0])
        events += desk.write(K.COMMISSIONING, [code], back + HOUR, batch, maker, **at)
    price = desk.price(drug, 1.0)
    arrived = desk.deliver(codes, maker, hub, day, batch, price)
    desk.deliver(codes, hub, shop, arrived + 2, batch, desk.price(drug, 1.07))
    truth.add_benign("commissioned_again_under_its_batch", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (
    TwinKind(mixed_case, rows=50),
    TwinKind(case_filled_up, rows=70),
    TwinKind(wrong_batch_taken_back, rows=40),
)
