"""An enterprise on which clues pile up: many wrong days in one month, no honest ones."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.formulary import BANNED_ONLINE, FORMULARY
from trace_engine.simulate.market import PHARMACY, PLATFORM
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT

_DAYS_WRONG = 20  # in the month
_SUPPLY_DAYS = 40  # the packs must be there before the month begins
_AFTER = 8  # days of the window behind the month: it must be over


def _month(desk: Desk) -> int:
    """Return the first day of a calendar month that lies well inside the window."""
    m = desk.market
    start = np.datetime64(m.first_day + _SUPPLY_DAYS, "D").astype("datetime64[M]") + 1
    end = np.datetime64(m.first_day + m.days - _AFTER, "D").astype("datetime64[M]")
    months = np.arange(start, end).astype("datetime64[D]").astype(np.int64)
    return desk.pick(months)


def clue_concentration(scene: Scene, seller: int, cases: int) -> None:
    """A new online shop sells a banned drug, and nothing else, on the first twenty days of a month."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    m.open_shop(seller, desk.pick(m.members(PLATFORM)))
    banned = [
        d
        for d in range(m.drug_count)
        if FORMULARY[int(m.medicine[d])].generic_name in BANNED_ONLINE
        and FORMULARY[int(m.medicine[d])].retail
        and m.drug_free[d]
    ]
    for _ in range(cases):
        first = _month(desk)
        drug = desk.pick(banned)
        codes = desk.codes(drug, _DAYS_WRONG)
        _, batch = desk.supply(codes, drug, seller, first - _SUPPLY_DAYS + 2)
        events: list[Event] = []
        for k, code in enumerate(codes):
            events += desk.sell([code], seller, desk.till(first + k), batch)
        truth.add("clue_concentration", [(seller, SUBJECT)], codes, events)
        truth.add("online_banned_sale", [(seller, SUBJECT)], codes, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(
        clue_concentration,
        ("clue_concentration", "online_banned_sale"),
        By.NEWCOMER,
        types=frozenset({PHARMACY}),
        rows=120,
        most_cases=1,
    ),
)
