"""Benign twins: lives that look like a scheme and are none. No accusation may rest on them."""

from __future__ import annotations

import numpy as np

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import PHARMACY, RETAIL
from trace_engine.simulate.truth import Truth


def _pharmacy(desk: Desk) -> int:
    m = desk.market
    return desk.pick(np.flatnonzero((m.type == PHARMACY) & (m.shop_of < 0)))


def consumer_return(desk: Desk, truth: Truth) -> None:
    """A person brings the pack back and the same shop sells it to another person."""
    seller = _pharmacy(desk)
    drug = desk.drug(RETAIL)
    codes = desk.codes(drug, 1)
    day, batch = desk.supply(codes, drug, seller, desk.day(55))
    day += desk.number(1, 10)
    events = desk.sell(codes, seller, desk.till(day), batch)
    day += desk.number(1, 6)
    events += desk.write(
        K.CONSUMER_RETURN, codes, desk.till(day), batch, seller, target=seller,
        target_city=desk.market.city_of(seller), bill=desk.bill(),
    )
    day += desk.number(1, 8)
    events += desk.sell(codes, seller, desk.till(day), batch)
    truth.add_benign("consumer_return_and_resale", codes, [uid for uid, _ in events])


BENIGN = (consumer_return,)
SHARE = 0.0004  # of all packs, for each kind


def plant_benign(desk: Desk, truth: Truth, codes: int) -> None:
    """Plant twins of every kind: ``SHARE`` of ``codes`` each, at least three."""
    for plant in BENIGN:
        for _ in range(max(3, round(codes * SHARE))):
            plant(desk, truth)


__all__ = ["BENIGN", "Event", "plant_benign"]
