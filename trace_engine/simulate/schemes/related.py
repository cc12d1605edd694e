"""Licences under one hand (同一实控人): firms that share a telephone and trade with one another."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import RETAIL, WHOLESALER
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import PARTICIPANT, SUBJECT

_PACKS = 24  # of each consignment
_SUPPLY_DAYS = 20
_AFTER = 4  # days of the window behind the month


def _month(desk: Desk) -> int:
    """Return the first day of a calendar month well inside the window."""
    m = desk.market
    start = np.datetime64(m.first_day + _SUPPLY_DAYS, "D").astype("datetime64[M]") + 1
    end = np.datetime64(m.first_day + m.days - _AFTER, "D").astype("datetime64[M]")
    return desk.pick(np.arange(start, end).astype("datetime64[D]").astype(np.int64))


def related_party_ring(scene: Scene, who: int, cases: int) -> None:
    """One buys from the maker late in a month, two sister firms pass the goods on in the next."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for case in range(cases):
        firms = [who if case == 0 else desk.found(WHOLESALER)]
        firms += [desk.found(WHOLESALER, int(m.province[firms[0]])) for _ in range(2)]
        phone = f"0{500 + firms[0] % 400}-8{firms[0] % 1_000_000:06d}"
        for firm in firms:
            m.papers[firm] = {**m.papers.get(firm, {}), "phone": phone}
        first = _month(desk)
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, 2 * _PACKS)
        batch = desk.batch(drug, first - _SUPPLY_DAYS)
        desk.commission(codes, batch)
        maker = int(m.drug_holder[drug])
        desk.deliver(codes, maker, firms[0], first - _SUPPLY_DAYS + 2, batch, desk.price(drug, 1.0))
        events: list[Event] = []
        for k, part in enumerate((codes[:_PACKS], codes[_PACKS:])):
            day, price = desk.office(first + 3 + 4 * k), desk.price(drug, 1.05)
            events += desk.ship(part, firms[0], firms[1 + k], day, batch, price)
            desk.receive(part, firms[0], firms[1 + k], day + 90_000, batch, price)
        parties = [(firms[0], SUBJECT), *((firm, PARTICIPANT) for firm in firms[1:])]
        truth.add("related_party_ring", parties, codes, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(
        related_party_ring,
        ("related_party_ring",),
        By.NEWCOMER,
        types=frozenset({WHOLESALER}),
        rows=260,
        most_cases=1,
    ),
)
