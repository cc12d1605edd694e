"""Schemes of distributors that hand goods round: paper trade, resale, round trips.

Rings have three members: the first two in one province, the third at least 1000 km away.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import HOUR
from trace_engine.simulate.market import DAY, PHARMACY, PUBLIC_HOSPITAL, RETAIL
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT


def _buyer(desk: Desk, province: int, kind: int = PHARMACY) -> int:
    """Return an ordinary seller in a province, or anywhere if there is none."""
    m = desk.market
    of_kind = (m.type == kind) & (m.channel != 1) & ~m.apart
    here = np.flatnonzero(of_kind & (m.province == province))
    return desk.pick(here if len(here) else np.flatnonzero(of_kind))


def _start(
    desk: Desk, before_end: int, away_from: int | None = None
) -> tuple[int, int, int, list[int]]:
    """Return drug, batch, day and new codes of a bill; ``away_from``: the maker's not province."""
    m = desk.market
    drug = desk.drug(RETAIL)
    for _ in range(200):
        if away_from is None or int(m.province[m.drug_holder[drug]]) != away_from:
            break
        drug = desk.drug(RETAIL)
    day = desk.day(before_end)
    batch = desk.batch(drug, day)
    codes = desk.codes(drug, desk.number(2, 10))
    desk.commission(codes, batch)
    return drug, batch, day, codes


def _walk(
    desk: Desk, path: list[int], drug: int, batch: int, day: int, codes: list[int]
) -> list[list[Event]]:
    """Ship codes along ``path`` with four to seven days at each stop; returns the shipments."""
    shipments: list[list[Event]] = []
    for i, (giver, receiver) in enumerate(pairwise(path)):
        price = desk.price(drug, 1.0 + 0.05 * i)
        m = desk.market
        arrival = day + int(m.transit_days(m.city_of(giver), m.city_of(receiver), desk.rng))
        shipments.append(desk.ship(codes, giver, receiver, desk.office(day), batch, price))
        desk.receive(codes, giver, receiver, desk.office(arrival), batch, price)
        day = arrival + desk.number(4, 7)
    for code in codes[: len(codes) // 2]:
        if int(m.type[path[-1]]) in (PHARMACY, PUBLIC_HOSPITAL):
            desk.sell([code], path[-1], desk.till(day + desk.number(0, 9)), batch)
    return shipments


def repeated_transfer(scene: Scene, ring: int, cases: int) -> None:
    """Goods pass three members before they reach a pharmacy: four owners; or two before a hospital.

    Shape: multiple hand-overs (多次倒手) of the 2026 list; two invoices at most into hospitals.
    """
    desk, truth = scene.desk, scene.truth
    m, (one, two, three) = desk.market, scene.cast.rings[ring]
    for i in range(cases):
        drug, batch, day, codes = _start(desk, 75)
        maker = int(m.drug_holder[drug])
        if i % 3 == 2:
            hospital = _buyer(desk, int(m.province[two]), PUBLIC_HOSPITAL)
            path, variant = [maker, one, two, hospital], "hospital"
            culprits = [one, two]
        else:
            path = [maker, one, two, three, _buyer(desk, int(m.province[three]))]
            variant, culprits = "four_owners", [one, two, three]
        shipments = _walk(desk, path, drug, batch, day, codes)
        truth.add(
            "repeated_transfer", [(c, SUBJECT) for c in culprits], codes, shipments[-1], variant
        )


def cross_region_resale(scene: Scene, ring: int, cases: int) -> None:
    """Goods from another province are resold into a third one: two border crossings.

    Shape: resale across regions (多次跨区域倒手); hops stay few and slow.
    """
    desk, truth = scene.desk, scene.truth
    m, (one, two, three) = desk.market, scene.cast.rings[ring]
    for i in range(cases):
        near = (one, two)[i % 2]
        drug, batch, day, codes = _start(desk, 60, int(m.province[near]))
        path = [int(m.drug_holder[drug]), near, three, _buyer(desk, int(m.province[three]))]
        shipments = _walk(desk, path, drug, batch, day, codes)
        truth.add(
            "cross_region_resale",
            [(near, SUBJECT), (three, SUBJECT)],
            codes,
            shipments[1],
        )


def rapid_turnover(scene: Scene, ring: int, cases: int) -> None:
    """Goods run through two members to a buyer within days: three hops, each within 60 hours.

    Shape: quick in, quick out (快进快出); all members and the buyer in one province.
    """
    desk, truth = scene.desk, scene.truth
    m, (one, two, _) = desk.market, scene.cast.rings[ring]
    for _i in range(cases):
        drug, batch, day, codes = _start(desk, 15)
        maker, buyer = int(m.drug_holder[drug]), _buyer(desk, int(m.province[two]))
        time = day * DAY + desk.number(8, 12) * HOUR
        road = desk.number(34, 44) * HOUR
        price = [desk.price(drug, f) for f in (1.0, 1.03, 1.06)]
        desk.ship(codes, maker, one, time, batch, price[0])
        desk.receive(codes, maker, one, time + road, batch, price[0])
        time += road + desk.number(2, 8) * HOUR
        desk.ship(codes, one, two, time, batch, price[1])
        desk.receive(codes, one, two, time + 14 * HOUR, batch, price[1])
        time += desk.number(16, 40) * HOUR
        events = desk.ship(codes, two, buyer, time, batch, price[2])
        desk.receive(codes, two, buyer, time + 15 * HOUR, batch, price[2])
        truth.add("rapid_turnover", [(one, SUBJECT), (two, SUBJECT)], codes, events)


def ownership_cycle(scene: Scene, ring: int, cases: int) -> None:
    """Goods sold to a partner come back by a second sale, not by a return.

    Shape: round trips (对倒) between the two members in one province.
    """
    desk, truth = scene.desk, scene.truth
    m, (one, two, _) = desk.market, scene.cast.rings[ring]
    for _i in range(cases):
        drug, batch, day, codes = _start(desk, 75)
        maker = int(m.drug_holder[drug])
        path = [maker, one, two, one]
        if desk.chance(0.5):
            path.append(_buyer(desk, int(m.province[one])))
        second_sale = _walk(desk, path, drug, batch, day, codes)[2]
        truth.add(
            "ownership_cycle",
            [(one, SUBJECT), (two, SUBJECT)],
            codes,
            second_sale,
        )


def paper_journey(scene: Scene, ring: int, cases: int) -> None:
    """A receipt a thousand kilometres away, half an hour after the shipment: goods never moved.

    Found by ``impossible_travel``. The maker sits in the shipper's province where it can.
    """
    desk, truth = scene.desk, scene.truth
    m, (one, _, three) = desk.market, scene.cast.rings[ring]
    for _i in range(cases):
        drug, batch, day, codes = _start(desk, 40)
        maker = int(m.drug_holder[drug])
        day = desk.deliver(codes, maker, one, day, batch, desk.price(drug, 1.0))
        time = desk.office(day + desk.number(3, 6))
        price = desk.price(drug, 1.05)
        desk.ship(codes, one, three, time, batch, price)
        events = desk.receive(codes, one, three, time + desk.number(600, 2000), batch, price)
        truth.add(
            "impossible_travel", [(one, SUBJECT), (three, SUBJECT)], codes, events, "paper_journey"
        )


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(repeated_transfer, ("repeated_transfer",), By.RING, rows=90),
    SchemeKind(cross_region_resale, ("cross_region_resale",), By.RING, rows=90),
    SchemeKind(rapid_turnover, ("rapid_turnover",), By.RING, rows=90),
    SchemeKind(ownership_cycle, ("ownership_cycle",), By.RING, rows=90),
    SchemeKind(paper_journey, ("impossible_travel",), By.RING, rows=90),
)
