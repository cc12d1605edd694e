"""Planted contradictions: packs that are said to be what they are not, or in two cases at once.

Slips of the hand and of systems, as those of ``quality.py``: nobody is guilty.
"""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import HOUR
from trace_engine.simulate.market import PHARMACY, RETAIL, WHOLESALER
from trace_engine.simulate.pace import CASE_PACKS
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT

_CASE_LEVEL = 2


def attribute_mismatch(scene: Scene, _nobody: int, cases: int) -> None:
    """A shop books a bill in under the batch number of the line above (批号不符)."""
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    for _ in range(cases):
        shop, drug = desk.found(PHARMACY), desk.drug(RETAIL)
        hub, price = desk.distributor(shop), desk.price(drug, 1.07)
        codes = desk.codes(drug, desk.number(3, 8))
        day = desk.day(40)
        batch, other = desk.batch(drug, day), m.add_batch(drug, day - 9)
        desk.commission(codes, batch)
        day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
        sent = desk.office(day + desk.number(2, 5))
        desk.ship(codes, hub, shop, sent, batch, price)
        events = desk.receive(codes, hub, shop, sent + 24 * HOUR, other, price)
        truth.add("attribute_mismatch", [(shop, SUBJECT)], codes, events, "batch")


def aggregation_conflict(scene: Scene, _nobody: int, cases: int) -> None:
    """A bill names a case and its packs; a stranger packs them again; a case holds too many."""
    for i in range(cases):
        (_in_one_bill, _packed_twice, _overfull)[i % 3](scene)


def _in_one_bill(scene: Scene) -> None:
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    shop, drug = desk.found(PHARMACY), desk.drug(RETAIL)
    hub, price = desk.distributor(shop), desk.price(drug, 1.07)
    codes, case, batch, day = _cased(desk, drug)
    maker = int(m.drug_holder[drug])
    outer = {"pack_level": _CASE_LEVEL, "quantity": len(codes), "receivable": len(codes)}
    sent = desk.office(day + 1)
    desk.ship([case], maker, hub, sent, batch, desk.price(drug, 1.0), K.SALE_SHIPMENT, **outer)
    arrived = desk.office(
        day + 1 + int(m.transit_days(m.city_of(maker), m.city_of(hub), desk.rng)) + 1
    )
    desk.receive(
        [case], maker, hub, arrived, batch, desk.price(drug, 1.0), K.PURCHASE_RECEIPT, **outer
    )
    time, bill = arrived + 48 * HOUR, desk.bill()
    desk.ship([case], hub, shop, time, batch, price, K.SALE_SHIPMENT, bill=bill, **outer)
    both = 2 * len(codes)
    events = desk.ship(codes, hub, shop, time + 60, batch, price, bill=bill, receivable=both)
    desk.receive([case], hub, shop, time + 24 * HOUR, batch, price, K.PURCHASE_RECEIPT, **outer)
    truth.add("aggregation_conflict", [(hub, SUBJECT)], [*codes, case], events, "one_bill")


def _packed_twice(scene: Scene) -> None:
    desk, truth = scene.desk, scene.truth
    drug = desk.drug(RETAIL)
    codes, case, batch, day = _cased(desk, drug)
    stranger = desk.found(WHOLESALER)
    own = desk.codes(drug, 1)[0]
    line = desk.office(day + desk.number(3, 20))
    events: list[Event] = []
    for i, code in enumerate(codes):
        events += desk.write(K.PACK, [code], line + 3 * i, batch, stranger, parent=own)
    touched = [*codes, case, own]
    truth.add("aggregation_conflict", [(stranger, SUBJECT)], touched, events, "two_parents")


def _overfull(scene: Scene) -> None:
    """The line's software misses a change of cases: packs of the next one are said to be in it."""
    desk, truth, m = scene.desk, scene.truth, scene.desk.market
    drug = desk.drug(RETAIL)
    maker, extra = int(m.drug_holder[drug]), desk.number(2, 8)
    *codes, case = desk.codes(drug, CASE_PACKS + extra + 1)
    day = desk.day(60, 10)
    batch = m.add_batch(drug, day - 2)
    desk.commission(codes, batch)
    events: list[Event] = []
    for i, code in enumerate(codes):
        time = (day - 1) * 24 * HOUR + 9 * HOUR + 3 * i
        events += desk.write(K.PACK, [code], time, batch, maker, parent=case)
    touched = [*codes, case]
    truth.add("aggregation_conflict", [(maker, SUBJECT)], touched, events[-extra:], "overfull")


def _cased(desk: Desk, drug: int) -> tuple[list[int], int, int, int]:
    """Make packs and pack them into a case: packs, the case, their batch, the day after."""
    m = desk.market
    *codes, case = desk.codes(drug, desk.number(6, 12) + 1)
    day = desk.day(60, 10)
    batch = m.add_batch(drug, day - 2)
    desk.commission(codes, batch)
    line = (day - 1) * 24 * HOUR + 9 * HOUR
    for i, code in enumerate(codes):
        desk.write(K.PACK, [code], line + 3 * i, batch, int(m.drug_holder[drug]), parent=case)
    return codes, case, batch, day


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(attribute_mismatch, ("attribute_mismatch",), By.NOBODY, rows=50),
    SchemeKind(aggregation_conflict, ("aggregation_conflict",), By.NOBODY, rows=50),
)
