"""The scribe of single cases: writes bills and sales of chosen packs between chosen parties.

Planted schemes and benign twins are few, so they are told event by event in plain Python, in the
words of the trade (supply, ship, receive, sell). Times are seconds of the Shanghai wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.cities import distances
from trace_engine.simulate.flows import HOUR, make_codes, retail_price
from trace_engine.simulate.market import (
    CHAIN_STORE,
    DAY,
    MEDICAL,
    PUBLIC_HOSPITAL,
    Market,
)
from trace_engine.simulate.rows import COLUMN_NAMES, DEFAULTS, DTYPES, NONE, Rows
from trace_engine.simulate.stated import COLUMNS

_PLACE = {name: i for i, name in enumerate(COLUMN_NAMES)}
_RECORDED = frozenset(COLUMNS)
_BLANK = [DEFAULTS.get(name, NONE) for name in COLUMN_NAMES]
Event = tuple[int, int]  # uid, time
SCAN_PACE = 3  # seconds from code to code


class Desk:
    """Writes events one case at a time; ``rows()`` returns all of them."""

    def __init__(self, market: Market, rng: np.random.Generator) -> None:
        self.market = market
        self.rng = rng
        self._written: list[list[int]] = []
        self._shipped: dict[tuple[int, int, int], int] = {}  # giver, receiver, code -> bill

    # ---- drawing -------------------------------------------------------------------------------

    def number(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def pick(self, items: Sequence[int] | Any) -> int:
        """Return one of the items."""
        return int(items[int(self.rng.integers(0, len(items)))])

    def day(self, before_end: int, after_begin: int = 2) -> int:
        """Return a day (since 1970) that leaves days of the window before and after it."""
        first = self.market.first_day + after_begin
        last = self.market.first_day + self.market.days - before_end
        return self.number(first, max(first, last))

    def office(self, day: int) -> int:
        """Return a second of a day's office hours (9:00 to 17:00)."""
        return day * DAY + 9 * HOUR + self.number(0, 8 * HOUR)

    def drug(
        self, channel: int, having: str | None = None, among: npt.NDArray[np.bool_] | None = None
    ) -> int:
        """Return a drug sold in a channel, by demand; ``having`` a class; or ``among`` some.

        Unless they are ``among`` them, drugs allotted to territories are left alone.
        """
        cdf = self.market.channel_drugs[channel]
        weight = np.diff(cdf, prepend=0.0)
        if having is None:
            weight = np.where(self.market.drug_ephedrine, 0.0, weight)
        else:
            weight = weight * np.array([having in c for c in self.market.drug_classes])
        if among is not None:
            weight = np.where(among, weight, 0.0)
        else:
            weight = np.where(self.market.drug_free, weight, 0.0)
        return int(self.rng.choice(len(weight), p=weight / weight.sum()))

    def codes(self, drug: int, count: int) -> list[int]:
        """Return new codes of a drug, with serials in a row."""
        first = int(self.market.new_serials(1)[0])
        serial = first + np.arange(count)
        made: list[int] = make_codes(self.market, np.full(count, drug, np.int64), serial).tolist()
        return made

    def batch(self, drug: int, ship_day: int) -> int:
        """Return a batch fresh on ``ship_day``."""
        return int(self.market.batch_for(np.array([drug]), np.array([ship_day]), self.rng)[0])

    def found(self, kind: int, province: int = 0) -> int:
        """Return a new enterprise of a type, that honest trade does not know, in a province."""
        return self.market.found_anywhere(kind, self.rng, province)

    # ---- writing -------------------------------------------------------------------------------

    def write(
        self,
        kind: K,
        codes: Sequence[int],
        time: int,
        batch: int,
        actor: int,
        *,
        pace: int = 0,
        **columns: int,
    ) -> list[Event]:
        """Write one row for each code; returns their (uid, time).

        ``columns`` are those of ``rows.py`` and of ``stated.py``. With a ``pace`` codes are
        scanned in an order of their own, about so many seconds after one another.
        """
        stated = {name: columns.pop(name) for name in _RECORDED & columns.keys()}
        if stated:
            columns["detail"] = self.market.details.add(stated)
        row = list(_BLANK)
        row[_PLACE["kind"]] = int(kind)
        row[_PLACE["time"]] = time
        row[_PLACE["batch"]] = batch
        row[_PLACE["actor"]] = actor
        for name, value in columns.items():
            row[_PLACE[name]] = value
        uid = int(self.market.new_uids(len(codes))[0])
        at_uid, at_code = _PLACE["uid"], _PLACE["code"]
        at_time, events = _PLACE["time"], []
        after = self._scan_times(len(codes), pace)
        for i, code in enumerate(codes):
            mine = row.copy()
            mine[at_uid], mine[at_code], mine[at_time] = uid + i, code, time + after[i]
            self._written.append(mine)
            events.append((uid + i, time + after[i]))
        return events

    def _scan_times(self, count: int, pace: int) -> list[int]:
        """Return seconds after the first scan for each of ``count`` codes, in irregular order."""
        if not pace or count < 2:
            return [0] * count
        gaps = self.rng.integers(1, 2 * pace + 1, count)
        gaps[0] = 0
        times: list[int] = self.rng.permutation(np.cumsum(gaps)).tolist()
        return times

    def rows(self) -> Rows:
        """Return everything written, times in seconds, in order of writing."""
        columns = {}
        for name, i in _PLACE.items():
            columns[name] = np.array([row[i] for row in self._written], DTYPES[name])
        return Rows(columns)

    def again(self, count: int, lag: int) -> None:
        """Upload the last ``count`` rows once more: same event ids, recorded ``lag`` µs after."""
        for row in self._written[-count:]:
            repeated = row.copy()
            repeated[_PLACE["lag"]] = lag
            self._written.append(repeated)

    def bill(self) -> int:
        """Return a new bill number."""
        return int(self.market.new_bills(1)[0])

    def person(self) -> int:
        """Return a person who has not bought before."""
        return int(self.market.new_buyers(1)[0])

    def ship(
        self,
        codes: Sequence[int],
        giver: int,
        receiver: int,
        time: int,
        batch: int,
        price: int = NONE,
        kind: K = K.SALE_SHIPMENT,
        **columns: int,
    ) -> list[Event]:
        """Write a shipment bill; its codes are scanned one by one, unless it bears a date only."""
        given = {
            "source": giver,
            "target": receiver,
            "price": price,
            "bill": self.bill(),
            "source_city": self.market.city_of(giver),
            "target_city": self.market.city_of(receiver),
            "receivable": len(codes),
            "pace": 0 if time % DAY == 0 else SCAN_PACE,
        } | columns
        for code in codes:
            self._shipped[giver, receiver, code] = given["bill"]
        return self.write(kind, codes, time, batch, giver, **given)

    def receive(
        self,
        codes: Sequence[int],
        giver: int,
        receiver: int,
        time: int,
        batch: int,
        price: int = NONE,
        kind: K = K.PURCHASE_RECEIPT,
        **columns: int,
    ) -> list[Event]:
        """Write a receipt bill; it names the giver's bill where the desk wrote one."""
        given = {
            "source": giver,
            "target": receiver,
            "price": price,
            "bill": self.bill(),
            "from_bill": self._shipped.get((giver, receiver, codes[0]), NONE),
            "source_city": self.market.city_of(giver),
            "target_city": self.market.city_of(receiver),
            "receivable": len(codes),
            "pace": 0 if time % DAY == 0 else SCAN_PACE,
        } | columns
        return self.write(kind, codes, time, batch, receiver, **given)

    def deliver(
        self,
        codes: Sequence[int],
        giver: int,
        receiver: int,
        day: int,
        batch: int,
        price: int = NONE,
    ) -> int:
        """Write shipment on ``day`` and receipt when a lorry can be there; returns that day."""
        arrival = day + int(
            self.market.transit_days(
                self.market.city_of(giver), self.market.city_of(receiver), self.rng
            )
        )
        self.ship(codes, giver, receiver, self.office(day), batch, price)
        self.receive(codes, giver, receiver, self.office(arrival), batch, price)
        return arrival

    def commission(self, codes: Sequence[int], batch: int) -> None:
        """Write the commissioning of packs at their maker."""
        m = self.market
        maker = int(m.drug_holder[m.batches.drug[batch]])
        time = m.batches.production[batch] * DAY + 8 * HOUR + self.number(0, 8 * HOUR)
        self.write(
            K.COMMISSIONING, codes, time, batch, maker, target=maker, target_city=m.city_of(maker)
        )

    def price(self, drug: int, factor: float) -> int:
        """Return ``factor`` times the ex-factory price, fen."""
        return max(1, round(float(self.market.drug_price[drug]) * factor))

    def distributor(self, party: int) -> int:
        """Return a distributor that buys from makers, in the province of ``party``."""
        m = self.market
        province = np.array([m.province[party]])
        return int(m.wholesaler_in(province, self.rng)[0])

    def supply(
        self,
        codes: Sequence[int],
        drug: int,
        seller: int,
        day: int,
        batch: int | None = None,
        distributor: int | None = None,
    ) -> tuple[int, int]:
        """Bring packs the legal way to ``seller``: two hops, in chains on to the store.

        The maker ships on ``day``. Returns the day they are in the seller's hands and the batch.
        """
        m = self.market
        if batch is None:
            batch = self.batch(drug, day)
        maker = int(m.drug_holder[drug])
        hub = self.distributor(seller) if distributor is None else distributor
        self.commission(codes, batch)
        day = self.deliver(codes, maker, hub, day, batch, self.price(drug, 1.0))
        day += self.number(2, 6)
        hospital = int(m.type[seller]) == PUBLIC_HOSPITAL
        price = self.price(drug, 1.18 if hospital else 1.06 + 0.02 * float(self.rng.random()))
        day = self.stock(codes, hub, seller, day, batch, price)
        return day, batch

    def stock(
        self, codes: Sequence[int], hub: int, seller: int, day: int, batch: int, price: int
    ) -> int:
        """Deliver packs from a distributor to a seller (through the head office of a chain)."""
        m = self.market
        if int(m.type[seller]) != CHAIN_STORE:
            return self.deliver(codes, hub, seller, day, batch, price)
        head = int(m.parent[seller])
        day = self.deliver(codes, hub, head, day, batch, price) + 1
        self.ship(codes, head, seller, self.office(day), batch, kind=K.TRANSFER_SHIPMENT)
        day += int(m.transit_days(m.city_of(head), m.city_of(seller), self.rng))
        self.receive(codes, head, seller, self.office(day), batch, kind=K.TRANSFER_RECEIPT)
        return day

    def sell(
        self,
        codes: Sequence[int],
        seller: int,
        time: int,
        batch: int,
        price: int | None = None,
        buyer: int | None = None,
        **columns: int,
    ) -> list[Event]:
        """Write a sale to a person in one order; online where the seller has a shop."""
        m = self.market
        drug = m.batches.drug[batch]
        if price is None:
            noise = 0.985 + 0.03 * float(self.rng.random())
            price = int(retail_price(m, seller, drug, noise))
        bill = self.bill()
        medical = int(m.type[seller]) in (PUBLIC_HOSPITAL, MEDICAL)
        given = {
            "source": seller,
            "source_city": m.city_of(seller),
            "price": price,
            "bill": bill,
            "order": bill,
            "buyer": self.person() if buyer is None else buyer,
        }
        if m.shop_of[seller] >= 0:
            given["shop"] = int(m.shop_of[seller])
            given["target_city"] = self.number(0, len(m.city_province) - 1)
        if "rx" in m.drug_classes[drug]:
            given["prescription"] = bill
        kind = K.DISPENSING if medical else K.RETAIL_SALE
        actor = columns.pop("actor", seller)
        return self.write(kind, codes, time, batch, actor, **(given | columns))

    def till(self, day: int) -> int:
        """Return a second of a day's shop hours (9:00 to 20:00)."""
        return day * DAY + 9 * HOUR + self.number(0, 11 * HOUR)

    def far_city(self, city: int, km: float) -> int:
        """Return a city at least ``km`` from ``city``."""
        return self.pick(np.flatnonzero(distances()[city] >= km))
