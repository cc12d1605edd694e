"""Schemes of papers: licences, scopes, shops, territories, and firms that come and go."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.formulary import BANNED_ONLINE, FORMULARY
from trace_engine.simulate.market import (
    ONLINE,
    PHARMACY,
    PLATFORM,
    RETAIL,
    WHOLESALER,
    LicenceChange,
)
from trace_engine.simulate.schemes.cast import By, Scene, SchemeKind
from trace_engine.simulate.truth import SUBJECT

_SHOP = frozenset({PHARMACY})
_TRADER = frozenset({WHOLESALER})


def _each(scene: Scene, who: int, cases: int) -> list[int]:
    """Return an enterprise of its own for each case: the first is ``who``, others are like it."""
    desk = scene.desk
    return [who, *(desk.found(int(desk.market.type[who])) for _ in range(cases - 1))]


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _buyer(desk: Desk, province: int) -> int:
    """Return a pharmacy without a web shop in a province: a new one if it has none."""
    m = desk.market
    shops = m.members(PHARMACY)
    shops = shops[m.shop_of[shops] < 0]
    here = shops[m.province[shops] == province]
    return desk.pick(here) if len(here) else desk.found(PHARMACY, province)


def licence_invalid(scene: Scene, who: int, cases: int) -> None:
    """A shop sells the stock it has after its licence ended, or was cancelled or suspended."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for i, shop in enumerate(_each(scene, who, cases)):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(3, 8))
        day, batch = desk.supply(codes, drug, shop, desk.day(100))
        variant = ("expired", "cancelled", "suspended")[i % 3]
        if variant == "expired":
            m.papers[shop] = {"licence_to": _date(day + 1)}
            day += 45  # longer than a renewal may take to be entered
        else:
            m.papers[shop] = {"status": variant, "status_date": _date(day + 1)}
            day += 3
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], shop, desk.till(day + desk.number(0, 20)), batch)
        truth.add("licence_invalid", [(shop, SUBJECT)], codes, events, variant)


def forged_licence(scene: Scene, who: int, cases: int) -> None:
    """A trader works under the licence number of another firm (套用许可证): licence_invalid."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for firm in _each(scene, who, cases):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(3, 8))
        start = desk.day(60)
        batch = desk.batch(drug, start)
        desk.commission(codes, batch)
        day = desk.deliver(
            codes, int(m.drug_holder[drug]), firm, start, batch, desk.price(drug, 1.0)
        )
        # Both the forger and a twin of it are written under one well-formed number.
        number = f"京AA010{m.first_day % 10}{firm % 100_000:05d}"
        other = desk.found(WHOLESALER)
        m.papers[firm] = {"licence_no": number, "name": f"仿冒{firm}医药有限公司"}
        m.papers[other] = {"licence_no": number, "name": f"真实{other}医药有限公司"}
        price = desk.price(drug, 1.07)
        time = desk.office(day + desk.number(1, 9))
        events = desk.ship(codes, firm, _buyer(desk, int(m.province[firm])), time, batch, price)
        truth.add("licence_invalid", [(firm, SUBJECT)], codes, events, "shared_number")


def scope_breach(scene: Scene, who: int, cases: int) -> None:
    """A counter licensed for class B over-the-counter drugs sells prescription drugs."""
    desk, truth = scene.desk, scene.truth
    for shop in _each(scene, who, cases):
        desk.market.papers[shop] = {"scope": "otc_b"}
        drug = desk.drug(RETAIL, having="rx")
        codes = desk.codes(drug, desk.number(2, 6))
        day, batch = desk.supply(codes, drug, shop, desk.day(45))
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], shop, desk.till(day + desk.number(1, 10)), batch)
        truth.add("scope_breach", [(shop, SUBJECT)], codes, events, "class")


def retail_by_distributor(scene: Scene, who: int, cases: int) -> None:
    """A distributor sells to persons (批发企业零售): scope_breach."""
    desk, truth = scene.desk, scene.truth
    for firm in _each(scene, who, cases):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(4, 8))
        day, batch = desk.supply(codes, drug, firm, desk.day(45))
        events: list[Event] = []
        for code in codes:
            events += desk.sell([code], firm, desk.till(day + desk.number(1, 10)), batch)
        truth.add("scope_breach", [(firm, SUBJECT)], codes, events, "manner")


def unreported_channel(scene: Scene, who: int, cases: int) -> None:
    """A web pharmacy opens a second shop, reports it to nobody, and sells there for a month."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for _ in range(cases):
        own = int(m.shop_of[who])
        shop = m.open_shop(who, desk.pick(m.members(PLATFORM)), reported=False)
        m.shop_of[who] = own  # honest orders go on where they were
        drug = desk.drug(ONLINE)
        codes = desk.codes(drug, desk.number(5, 9))
        day, batch = desk.supply(codes, drug, who, desk.day(70))
        events: list[Event] = []
        for k, code in enumerate(codes):
            # The first and the last order lie a month apart, whatever holidays lie between.
            later = day + 1 + 35 * k // (len(codes) - 1)
            events += desk.sell([code], who, desk.till(later), batch, shop=shop)
        truth.add("unreported_channel", [(who, SUBJECT)], codes, events)


def territory_breach(scene: Scene, who: int, cases: int) -> None:
    """A distributor sells a drug to shops of provinces that it is not allotted to (窜货)."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    weight = np.diff(m.channel_drugs[RETAIL], prepend=0.0)
    mine = np.flatnonzero(~m.drug_free & (weight > 0))
    for drug in desk.rng.permutation(mine)[:cases].tolist():
        shops = m.members(PHARMACY)
        shops = shops[(m.shop_of[shops] < 0) & ~m.allotted[drug, m.province[shops]]]
        if len(shops) == 0:
            continue
        near = shops[m.province[shops] == m.province[who]]
        buyer = desk.pick(near if len(near) else shops)
        codes = desk.codes(drug, desk.number(4, 9))
        start = desk.day(40)
        batch = desk.batch(drug, start)
        desk.commission(codes, batch)
        maker = int(m.drug_holder[drug])
        day = desk.deliver(codes, maker, who, start, batch, desk.price(drug, 1.0))
        time = desk.office(day + desk.number(2, 6))
        events = desk.ship(codes, who, buyer, time, batch, desk.price(drug, 1.07))
        truth.add("territory_breach", [(who, SUBJECT)], codes, events)


def licence_churn(scene: Scene, who: int, cases: int) -> None:
    """A new trader changes address, head and warehouse within months of each other, and trades."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for firm in _each(scene, who, cases):
        drug = desk.drug(RETAIL)
        codes = desk.codes(drug, desk.number(3, 6))
        start = desk.day(60)
        batch = desk.batch(drug, start)
        desk.commission(codes, batch)
        maker = int(m.drug_holder[drug])
        kinds = ("legal_person_change", "address_change", "warehouse_change", "scope_change")
        for k in range(desk.number(3, 4)):
            m.licence_changes.append(LicenceChange(firm, kinds[k], start - 20 - 75 * k))
        day = desk.deliver(codes, maker, firm, start, batch, desk.price(drug, 1.0))
        time = desk.office(day + desk.number(2, 6))
        buyer = _buyer(desk, int(m.province[firm]))
        events = desk.ship(codes, firm, buyer, time, batch, desk.price(drug, 1.07))
        truth.add("licence_churn", [(firm, SUBJECT)], codes, events)


def pre_closure_dump(scene: Scene, who: int, cases: int) -> None:
    """A trader sells a few packs a week for two months, then all it can, and gives up its licence."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for firm in _each(scene, who, cases):
        drug = desk.drug(RETAIL)
        begin = m.first_day + 8
        weeks = desk.number(8, 11)
        closing = begin + 7 * (weeks + 1) + desk.number(1, 3)
        usual = [desk.number(2, 4) for _ in range(weeks)]
        stock = desk.codes(drug, sum(usual) + desk.number(60, 90))
        batch = desk.batch(drug, begin - 5)
        desk.commission(stock, batch)
        day = desk.deliver(
            stock, int(m.drug_holder[drug]), firm, begin - 6, batch, desk.price(drug, 1.0)
        )
        buyer, price = _buyer(desk, int(m.province[firm])), desk.price(drug, 1.07)
        sold = 0
        for week, count in enumerate(usual):
            codes = stock[sold : sold + count]
            sold += count
            when = max(begin + 7 * week + desk.number(0, 2), day + 1)
            desk.ship(codes, firm, buyer, desk.office(when), batch, price)
        rest = stock[sold:]
        status = ("cancelled", "suspended")[desk.number(0, 1)]
        m.papers[firm] = {"status": status, "status_date": _date(closing)}
        when = desk.office(closing - desk.number(2, 4))
        events = desk.ship(rest, firm, buyer, when, batch, desk.price(drug, 1.02))
        truth.add("pre_closure_dump", [(firm, SUBJECT)], rest, events, status)


def shared_warehouse(scene: Scene, who: int, cases: int) -> None:
    """A trader stores for six shops of other cities, none of which put its warehouse on record."""
    desk, truth = scene.desk, scene.truth
    m = desk.market
    for keeper in _each(scene, who, cases):
        start = desk.day(50)
        drug = desk.drug(RETAIL)
        stored: list[int] = []
        events: list[Event] = []
        for _ in range(6):
            shop = desk.found(PHARMACY)
            while m.city[shop] == m.city[keeper]:
                shop = desk.found(PHARMACY)
            codes = desk.codes(drug, desk.number(1, 2))
            day, batch = desk.supply(codes, drug, shop, start)
            # Distances differ: all sales lie within the three weeks after the last delivery.
            time = desk.till(max(day + 1, start + 18 + desk.number(0, 12)))
            events += desk.sell(codes, shop, time, batch, actor=keeper)
            stored += codes
        truth.add("shared_warehouse", [(keeper, SUBJECT)], stored, events)


def platform_interception(scene: Scene, who: int, cases: int) -> None:
    """A platform lets three new shops sell what is banned online, fifteen times in one month.

    Each of the shops answers for its own banned sales, too.
    """
    desk, truth = scene.desk, scene.truth
    m = desk.market
    banned = [
        d
        for d in range(m.drug_count)
        if FORMULARY[int(m.medicine[d])].generic_name in BANNED_ONLINE
        and FORMULARY[int(m.medicine[d])].retail
        and m.drug_free[d]
    ]
    platforms = desk.rng.permutation(m.members(PLATFORM))[:cases].tolist()
    for first, platform in zip(_each(scene, who, len(platforms)), platforms, strict=True):
        shops = [first, desk.found(PHARMACY), desk.found(PHARMACY)]
        # The first ten days of a month, so that all lies inside it.
        day = desk.day(50, 45)
        day = int(np.datetime64(day, "D").astype("M8[M]").astype("M8[D]").astype(np.int64))
        sold: list[int] = []
        events: list[Event] = []
        for shop in shops:
            m.open_shop(shop, platform)
            drug = desk.pick(banned)
            codes = desk.codes(drug, 5)
            ready, batch = desk.supply(codes, drug, shop, day - 30)
            own: list[Event] = []
            for code in codes:
                time = desk.till(max(day, ready) + desk.number(0, 9))
                own += desk.sell([code], shop, time, batch)
            truth.add("online_banned_sale", [(shop, SUBJECT)], codes, own)
            events += own
            sold += codes
        truth.add("platform_interception", [(platform, SUBJECT)], sold, events)


SCHEMES: tuple[SchemeKind, ...] = (
    SchemeKind(licence_invalid, ("licence_invalid",), By.NEWCOMER, _SHOP),
    SchemeKind(forged_licence, ("licence_invalid",), By.NEWCOMER, _TRADER, most_cases=1),
    SchemeKind(scope_breach, ("scope_breach",), By.NEWCOMER, _SHOP),
    SchemeKind(retail_by_distributor, ("scope_breach",), By.NEWCOMER, _TRADER),
    SchemeKind(unreported_channel, ("unreported_channel",), By.ONLINE),
    SchemeKind(territory_breach, ("territory_breach",), By.DISTRIBUTOR, most_cases=3),
    SchemeKind(
        shared_warehouse, ("shared_warehouse",), By.NEWCOMER, _TRADER, rows=60, most_cases=3
    ),
    SchemeKind(
        platform_interception,
        ("platform_interception", "online_banned_sale"),
        By.NEWCOMER,
        _SHOP,
        rows=110,
        most_cases=2,
    ),
    SchemeKind(licence_churn, ("licence_churn",), By.NEWCOMER, _TRADER),
    SchemeKind(
        pre_closure_dump, ("pre_closure_dump",), By.NEWCOMER, _TRADER, rows=400, most_cases=1
    ),
)
