"""Schemes around prescriptions, pharmacists, linked buyers, cold chains and destinations."""

from __future__ import annotations

import datetime as dt

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import DAY, EPHEDRINE, PHARMACY, PLATFORM, RETAIL, WHOLESALER
from trace_engine.simulate.rows import NONE
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.stated import EMPTY, doctor_of, pharmacist_of
from trace_engine.simulate.truth import SUBJECT

USUAL = 40  # orderly purchases before the others
MINUTE = 60
ONLY_PHARMACY = frozenset({PHARMACY})


def rx_drug(desk: Desk) -> int:
    """Return a drug on prescription that keeps warm and may be sold online."""
    m = desk.market
    plain = m.has_class("rx") & m.drug_online & m.drug_free & ~m.has_class("cold_chain")
    return desk.drug(RETAIL, among=plain)


def stocked(desk: Desk, seller: int, count: int, before_end: int) -> tuple[list[int], int, int]:
    """Bring packs of a prescription drug to a seller; returns codes, the day, and the batch."""
    drug = rx_drug(desk)
    codes = desk.codes(drug, count)
    day, batch = desk.supply(codes, drug, seller, desk.day(before_end))
    return codes, day, batch


def open_web_shop(desk: Desk, seller: int) -> None:
    """Give a newcomer a shop on one of the platforms."""
    desk.market.open_shop(seller, desk.pick(desk.market.members(PLATFORM)))


def _stops(scene: Scene, seller: int, detector: str, variant: str, **bare: int) -> None:
    """Sell in good order for three weeks, then six times without what ``bare`` leaves out."""
    desk = scene.desk
    codes, day, batch = stocked(desk, seller, USUAL + 6, 75)
    scene.truth.touched.update(codes)
    for k, code in enumerate(codes[:USUAL]):
        time = desk.till(day + 1 + k // 2)
        desk.sell([code], seller, time, batch, prescription=desk.bill())
    day += USUAL // 2 + desk.number(8, 12)
    events: list[Event] = []
    for code in codes[USUAL:]:
        stated = {"prescription": desk.bill()} | bare
        events += desk.sell([code], seller, desk.till(day + desk.number(0, 2)), batch, **stated)
    scene.truth.add(detector, [(seller, SUBJECT)], codes[USUAL:], events, variant)


def unprescribed_at_the_counter(scene: Scene, seller: int, cases: int) -> None:
    """A shop that records prescriptions sells without them (``no_prescription``)."""
    for _ in range(cases):
        _stops(scene, seller, "no_prescription", "counter", prescription=NONE)


def unprescribed_online(scene: Scene, seller: int, cases: int) -> None:
    """A web shop sells prescription drugs to whoever clicks (``no_prescription``)."""
    open_web_shop(scene.desk, seller)
    for _ in range(cases):
        _stops(scene, seller, "no_prescription", "online", prescription=NONE)


def no_real_name(scene: Scene, seller: int, cases: int) -> None:
    """A web shop sends prescription drugs to nobody in particular."""
    open_web_shop(scene.desk, seller)
    for _ in range(cases):
        _stops(scene, seller, "no_real_name", "no_real_name", buyer=NONE)


def used_elsewhere(scene: Scene, seller: int, cases: int) -> None:
    """A patient brings a prescription that another shop has filled (``prescription_reuse``)."""
    desk = scene.desk
    for _ in range(cases):
        other = desk.found(PHARMACY)
        codes, day, batch = stocked(desk, other, 1, 60)
        more, later, second = _same_drug(desk, seller, batch, day)
        number, person = desk.bill(), desk.person()
        stated = {"buyer": person, "prescription": number}
        time = max(day, later) + desk.number(1, 3)
        desk.sell(codes, other, desk.till(time), batch, **stated)
        time += desk.number(2, 9)
        events = desk.sell(more, seller, desk.till(time), second, **stated)
        scene.truth.touched.update(codes)
        scene.truth.add("prescription_reuse", [(seller, SUBJECT)], more, events, "elsewhere")


def _same_drug(desk: Desk, seller: int, batch: int, day: int) -> tuple[list[int], int, int]:
    drug = desk.market.batches.drug[batch]
    codes = desk.codes(drug, 1)
    later, second = desk.supply(codes, drug, seller, day)
    return codes, later, second


def one_for_all(scene: Scene, seller: int, cases: int) -> None:
    """A shop rings up one prescription for every buyer of a drug (``prescription_reuse``)."""
    desk = scene.desk
    for _ in range(cases):
        codes, day, batch = stocked(desk, seller, 6, 60)
        number = desk.bill()
        events: list[Event] = []
        for k, code in enumerate(codes):
            time = desk.till(day + 1 + 2 * k)
            events += desk.sell([code], seller, time, batch, prescription=number)
        scene.truth.add("prescription_reuse", [(seller, SUBJECT)], codes, events, "one_for_all")


def prescription_mill(scene: Scene, seller: int, cases: int) -> None:
    """A web shop has every order prescribed at once, by one doctor's name (自动生成处方)."""
    desk = scene.desk
    open_web_shop(desk, seller)
    doctor = doctor_of(seller)
    for _ in range(cases):
        codes, day, batch = stocked(desk, seller, 60, 50)
        time = (day + desk.number(1, 5)) * DAY + 10 * 60 * MINUTE
        events: list[Event] = []
        for code in codes:
            time += desk.number(30, 90)
            events += desk.sell([code], seller, time, batch, doctor=doctor)
        scene.truth.add("prescription_mill", [(seller, SUBJECT)], codes, events)


def pharmacist_overload(scene: Scene, seller: int, cases: int) -> None:
    """A pharmacist's certificate hangs in a second shop, where sales bear his name too (挂证)."""
    desk, m = scene.desk, scene.desk.market
    for _ in range(cases):
        own = m.found(PHARMACY, m.city_of(seller))
        here, day, batch = stocked(desk, own, 6, 60)
        there, later, second = stocked(desk, seller, 6, 60)
        clock = (max(day, later) + desk.number(1, 5)) * DAY + 10 * 60 * MINUTE
        events: list[Event] = []
        for a, b in zip(here, there, strict=True):
            stated = {"pharmacist": pharmacist_of(own)}
            desk.sell([a], own, clock, batch, prescription=desk.bill(), **stated)
            clock += desk.number(5, 14) * MINUTE
            events += desk.sell([b], seller, clock, second, prescription=desk.bill(), **stated)
            clock += desk.number(5, 14) * MINUTE
        scene.truth.touched.update(here)
        scene.truth.add("pharmacist_overload", [(seller, SUBJECT)], there, events)


def split_purchase(scene: Scene, seller: int, cases: int) -> None:
    """Four identities buy two packs each of an ephedrine compound, with one telephone or device."""
    desk = scene.desk
    for i in range(cases):
        drug = desk.drug(RETAIL, having=EPHEDRINE)
        codes = desk.codes(drug, 8)
        day, batch = desk.supply(codes, drug, seller, desk.day(45))
        link = ("contact", "buyer_device")[i % 2]
        stated = {link: desk.number(1, 2**31)}
        time = (day + desk.number(1, 8)) * DAY + 10 * 60 * MINUTE
        events: list[Event] = []
        for k in range(0, 8, 2):
            time += desk.number(10, 90) * MINUTE
            events += desk.sell(codes[k : k + 2], seller, time, batch, **stated)
        scene.truth.add("split_purchase", [(seller, SUBJECT)], codes, events, link)


def cold_goods(desk: Desk, giver: int, count: int, before_end: int) -> tuple[list[int], int, int]:
    """Bring cold-chain goods to a distributor; returns codes, the day and the batch."""
    m = desk.market
    cold = m.has_class("cold_chain") & m.has_class("rx") & m.drug_free
    drug = desk.drug(RETAIL, among=cold)
    codes = desk.codes(drug, count)
    day = desk.day(before_end)
    batch = desk.batch(drug, day)
    desk.commission(codes, batch)
    price = desk.price(drug, 1.0)
    return codes, desk.deliver(codes, int(m.drug_holder[drug]), giver, day, batch, price), batch


def warm_lorry(scene: Scene, giver: int, cases: int) -> None:
    """Cold-chain goods arrive at 12 to 25 °C (``cold_chain_gap``)."""
    desk = scene.desk
    for _ in range(cases):
        seller = desk.found(PHARMACY)
        codes, day, batch = cold_goods(desk, giver, desk.number(1, 6), 50)
        price = desk.price(desk.market.batches.drug[batch], 1.07)
        day += desk.number(1, 5)
        desk.ship(codes, giver, seller, desk.office(day), batch, price, temperature=510)
        day += desk.number(1, 3)
        warm = desk.number(1200, 2500)
        events = desk.receive(
            codes, giver, seller, desk.office(day), batch, price, temperature=warm
        )
        scene.truth.add("cold_chain_gap", [(giver, SUBJECT)], codes, events, "outside")


def unread_bills(scene: Scene, giver: int, cases: int) -> None:
    """A distributor that reads every lorry sends six without a logger (``cold_chain_gap``)."""
    desk = scene.desk
    for _ in range(cases):
        seller = desk.found(PHARMACY)
        codes, day, batch = cold_goods(desk, giver, USUAL + 6, 80)
        scene.truth.touched.update(codes)
        price = desk.price(desk.market.batches.drug[batch], 1.07)
        events: list[Event] = []
        for k, code in enumerate(codes):
            usual = k < USUAL
            when = day + 1 + k // 2 if usual else day + USUAL // 2 + 10 + k % 2
            read = desk.number(250, 750) if usual else EMPTY
            sent = desk.ship(
                [code], giver, seller, desk.office(when), batch, price, temperature=read
            )
            desk.receive([code], giver, seller, desk.office(when + 2), batch, price)
            events += [] if usual else sent
        scene.truth.add("cold_chain_gap", [(giver, SUBJECT)], codes[USUAL:], events, "unread")


def month_day(desk: Desk, number: int, day: int) -> int:
    """Return a day (since 1970) of the ``number``-th whole month of the window, from 0."""
    first = dt.date(1970, 1, 1) + dt.timedelta(days=int(desk.market.first_day))
    months = first.year * 12 + first.month - 1 + (1 if first.day > 5 else 0) + number
    begin = dt.date(months // 12, months % 12 + 1, 1)
    return (begin - dt.date(1970, 1, 1)).days + day


def shops_of(desk: Desk, province: int, count: int) -> list[int]:
    """Return new pharmacies of a province."""
    return [desk.found(PHARMACY, province) for _ in range(count)]


def sent_to(
    desk: Desk, giver: int, drug: int, customers: list[int], days: list[int]
) -> tuple[list[int], list[Event]]:
    """Send one pack to each customer on each day; returns codes and shipments."""
    m = desk.market
    codes = desk.codes(drug, len(days))
    begin = min(days) - 4
    batch = desk.batch(drug, begin - 6)
    price = desk.price(drug, 1.07)
    desk.commission(codes, batch)
    maker = int(m.drug_holder[drug])
    desk.ship(codes, maker, giver, desk.office(begin - 3), batch, desk.price(drug, 1.0))
    desk.receive(codes, maker, giver, desk.office(begin), batch, desk.price(drug, 1.0))
    events: list[Event] = []
    for code, customer, day in zip(codes, customers, days, strict=True):
        events += desk.ship([code], giver, customer, desk.office(day), batch, price)
        desk.receive([code], giver, customer, desk.office(day + 2), batch, price)
    return codes, events


def usual_quarter(desk: Desk, giver: int, drug: int, customers: list[int]) -> list[int]:
    """Let a distributor serve its customers for three months; returns the codes."""
    codes: list[int] = []
    for month in range(3):
        days = [month_day(desk, month, 1 + k % 26) for k in range(len(customers))]
        if month == 0:
            days = [max(day, desk.market.first_day + 3) for day in days]
        codes += sent_to(desk, giver, drug, customers, sorted(days))[0]
    return codes


def flow_shift(scene: Scene, giver: int, cases: int) -> None:
    """A distributor that served its own province sends nearly everything to another one."""
    desk, m = scene.desk, scene.desk.market
    for _ in range(cases):
        home = int(m.province[giver])
        away = desk.pick(np.setdiff1d(np.unique(m.city_province), [home]))
        near, far = shops_of(desk, home, 26), shops_of(desk, away, 30)
        drug = rx_drug(desk)
        codes = usual_quarter(desk, giver, drug, near)
        customers = [*far, *far, *near[:5]]
        days = sorted(month_day(desk, 3, 1 + k % 26) for k in range(len(customers)))
        more, events = sent_to(desk, giver, drug, customers, days)
        scene.truth.touched.update(codes)
        scene.truth.add("flow_shift", [(giver, SUBJECT)], more, events)


def _newcomer(
    plant: object, detector: str, rows: int, types: frozenset[int] = ONLY_PHARMACY
) -> SchemeKind:
    return SchemeKind(
        plant,  # type: ignore[arg-type]
        (detector,),
        By.NEWCOMER,
        types=types,
        rows=rows,
        most_cases=1,
    )


SCHEMES: tuple[SchemeKind, ...] = (
    _newcomer(unprescribed_at_the_counter, "no_prescription", 290),
    _newcomer(unprescribed_online, "no_prescription", 290),
    _newcomer(no_real_name, "no_real_name", 290),
    SchemeKind(used_elsewhere, ("prescription_reuse",), types=ONLY_PHARMACY),
    SchemeKind(one_for_all, ("prescription_reuse",), types=ONLY_PHARMACY),
    _newcomer(prescription_mill, "prescription_mill", 370),
    _newcomer(pharmacist_overload, "pharmacist_overload", 80),
    SchemeKind(split_purchase, ("split_purchase",), types=ONLY_PHARMACY, rows=50),
    SchemeKind(warm_lorry, ("cold_chain_gap",), By.DISTRIBUTOR),
    _newcomer(unread_bills, "cold_chain_gap", 240, frozenset({WHOLESALER})),
    _newcomer(flow_shift, "flow_shift", 720, frozenset({WHOLESALER})),
)
