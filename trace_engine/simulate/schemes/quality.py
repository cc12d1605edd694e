"""Planted data-quality cases: what a system, a habit or a missing upload leaves behind.

They raise exceptions, not accusations; their sellers are not guilty.
"""

from __future__ import annotations

import numpy as np

from trace_engine.simulate import noise
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.flows import MICRO
from trace_engine.simulate.market import DAY, PHARMACY, RETAIL
from trace_engine.simulate.rows import NONE
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT


def _pharmacy(desk: Desk) -> int:
    m = desk.market
    return desk.pick(np.flatnonzero((m.type == PHARMACY) & (m.shop_of < 0) & ~m.apart))


def _at_distributor(
    desk: Desk, before_end: int, seller: int
) -> tuple[int, int, int, int, list[int]]:
    """Bring a bill of packs to a distributor near ``seller``: drug, batch, hub, day, codes."""
    m = desk.market
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, desk.number(5, 20))
    day = desk.day(before_end)
    batch, hub = desk.batch(drug, day), desk.distributor(seller)
    desk.commission(codes, batch)
    day = desk.deliver(codes, int(m.drug_holder[drug]), hub, day, batch, desk.price(drug, 1.0))
    return drug, batch, hub, day + desk.number(2, 6), codes


def unmatched_shipment(scene: Scene, _who: int, cases: int) -> None:
    """A bill is shipped and nobody ever books it in (有出无入)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        seller = _pharmacy(desk)
        drug, batch, hub, day, codes = _at_distributor(desk, 60, seller)
        events = desk.ship(codes, hub, seller, desk.office(day), batch, desk.price(drug, 1.07))
        truth.add("unmatched_shipment", [(hub, SUBJECT)], codes, events)


def unmatched_receipt(scene: Scene, _who: int, cases: int) -> None:
    """A bill is booked in that the supplier never booked out (有入无出)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        seller = _pharmacy(desk)
        drug, batch, hub, day, codes = _at_distributor(desk, 60, seller)
        events = desk.receive(
            codes, hub, seller, desk.office(day + 2), batch, desk.price(drug, 1.07)
        )
        truth.add("unmatched_receipt", [(seller, SUBJECT)], codes, events)


def malformed_code(scene: Scene, _who: int, cases: int) -> None:
    """A worn scanner garbles a run of codes on receipt (码制不合法)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        seller = _pharmacy(desk)
        drug, batch, hub, day, codes = _at_distributor(desk, 25, seller)
        desk.ship(codes, hub, seller, desk.office(day), batch, desk.price(drug, 1.07))
        bad = noise.misread(desk.market, desk.rng, np.array(codes[:4], np.uint64)).tolist()
        day += 3
        desk.receive(codes[4:], hub, seller, desk.office(day), batch, desk.price(drug, 1.07))
        events = desk.receive(bad, hub, seller, desk.office(day), batch, desk.price(drug, 1.07))
        truth.add("malformed_code", [(seller, SUBJECT)], bad, events)
        truth.touched.update(codes)


def unknown_product(scene: Scene, _who: int, cases: int) -> None:
    """The identifier is in no registry (品种未登记), or the row declares another product."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        m, seller = desk.market, _pharmacy(desk)
        hub = desk.distributor(seller)
        drug = desk.drug(RETAIL)
        while bool(m.drug_gs1[drug]):
            drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(2, 6))
        day = desk.day(5)
        if desk.chance(0.5):
            codes = noise.unknown_identifier(m, desk.rng, np.array(codes, np.uint64)).tolist()
            declared, variant = NONE, "identifier"
        else:
            declared, variant = (drug + 1) % m.drug_count, "declared"
        events = desk.receive(
            codes, hub, seller, desk.office(day), desk.batch(drug, day), drug=declared
        )
        truth.add("unknown_product", [(seller, SUBJECT)], codes, events, variant)


def time_disorder(scene: Scene, _who: int, cases: int) -> None:
    """A bill is uploaded weeks late, or bears a date still to come (时间异常/补录)."""
    desk, truth = scene.desk, scene.truth
    for _ in range(cases):
        seller = _pharmacy(desk)
        drug, batch, hub, day, codes = _at_distributor(desk, 25, seller)
        late = desk.chance(0.6)
        days = desk.number(9, 60) if late else -desk.number(2, 6)
        price = desk.price(drug, 1.07)
        events = desk.ship(
            codes, hub, seller, desk.office(day), batch, price, lag=days * DAY * MICRO
        )
        desk.receive(codes, hub, seller, desk.office(day + 3), batch, price)
        variant = "late" if late else "before_event"
        truth.add("time_disorder", [(hub, SUBJECT)], codes, events, variant)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(unmatched_shipment, ("unmatched_shipment",), By.NOBODY, rows=50),
    SchemeKind(unmatched_receipt, ("unmatched_receipt",), By.NOBODY, rows=50),
    SchemeKind(malformed_code, ("malformed_code",), By.NOBODY, rows=50),
    SchemeKind(unknown_product, ("unknown_product",), By.NOBODY, rows=50),
    SchemeKind(time_disorder, ("time_disorder",), By.NOBODY, rows=50),
)
