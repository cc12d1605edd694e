"""A shop on which much comes together and nothing is wrong."""

from __future__ import annotations

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import RETAIL
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind, pharmacy, uids

_PACKS = 6


def many_returns(desk: Desk, truth: Truth) -> None:
    """On six days of one month persons bring packs back to one shop, which sells them again."""
    seller, drug = pharmacy(desk), desk.drug(RETAIL)
    codes = desk.codes(drug, _PACKS)
    day, batch = desk.supply(codes, drug, seller, desk.day(60))
    day += 2
    events: list[Event] = []
    for k, code in enumerate(codes):
        events += desk.sell([code], seller, desk.till(day + 2 * k), batch)
        events += desk.write(
            K.CONSUMER_RETURN,
            [code],
            desk.till(day + 2 * k + 2),
            batch,
            seller,
            target=seller,
            target_city=desk.market.city_of(seller),
            bill=desk.bill(),
        )
        events += desk.sell([code], seller, desk.till(day + 2 * k + 4), batch)
    truth.add_benign("many_returns_to_one_shop", codes, uids(events))


TWINS: tuple[TwinKind, ...] = (TwinKind(many_returns, rows=60),)
