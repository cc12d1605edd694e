"""Dumping (异常低价): planted last, where honest sales make a price that it can be held against.

The catalogue judges a price by the sales of the same drug in the same channel on the 30 days
before, and asks for at least 30 of them. In a small market few drugs have so many, and on few days.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.simulate.codes import OTHER_BASE
from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.flows import SALE, retail_price
from trace_engine.simulate.market import DAY, Ints, Market
from trace_engine.simulate.rows import NONE, Rows
from trace_engine.simulate.truth import SUBJECT, Truth

REFERENCE_DAYS = 30  # closed days before the sale (the catalogue's window)
REFERENCE_SALES = 33  # the catalogue asks for 30; some are voided or their codes misread
HONEST_SHARE = 4  # honest sales to each dumped pack around: more dumping would be the price
NEAR_EXPIRY = 180  # days: packs nearer to their expiry make no reference
SHELF = 45  # days from the maker's shipment on which even a pack from afar is in the shop
ROWS = 18  # of one case, about: three packs of six rows
MOST_PACKS = 5


class MarketPrices:
    """How many honest sales of a drug in a channel each day has: shape (drugs, 3, days)."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._sales = np.zeros((market.drug_count, 3, market.days), np.int32)
        self._dumped = np.zeros_like(self._sales)

    def add(self, rows: Rows, step: npt.NDArray[np.int8]) -> None:
        """Count the priced sales to persons among honest ``rows`` (retried ones not included)."""
        m = self._market
        sold = rows.take((step == SALE) & (rows["price"] != NONE) & (rows["code"] < OTHER_BASE))
        batch = sold["batch"]
        day: Ints = sold["time"] // DAY - m.first_day
        expiry: Ints = np.array(m.batches.expiry, np.int64)
        last: Ints = expiry[batch] - m.first_day
        kept = (last - day > NEAR_EXPIRY) & (day >= 0) & (day < m.days)
        drug, channel = np.array(m.batches.drug)[batch], m.channel[sold["source"]]
        at = (drug[kept], channel[kept], day[kept])
        np.add.at(self._sales, at, 1)

    def judged(self, channel: int) -> npt.NDArray[np.bool_]:
        """Return on which days a dumped price would stand out, by drug: shape (drugs, days)."""
        before = self._window(self._sales[:, channel], 0)
        # Dumping before the day hides the day's; dumping after it must not be hidden by it.
        around = self._window(self._dumped[:, channel], REFERENCE_DAYS + 1)
        enough = before >= REFERENCE_SALES
        found: npt.NDArray[np.bool_] = enough & (before >= HONEST_SHARE * (around + MOST_PACKS))
        return found

    def note(self, drug: int, channel: int, day: int) -> None:
        """Remember one dumped pack (``day`` since 1970)."""
        self._dumped[drug, channel, day - self._market.first_day] += 1

    @staticmethod
    def _window(counts: npt.NDArray[np.int32], after: int) -> Ints:
        """Return sums from 30 days before each day to ``after`` days from it on (exclusive)."""
        drugs, days = counts.shape
        total = np.zeros((drugs, days + 1), np.int64)
        np.cumsum(counts, axis=1, out=total[:, 1:])
        day = np.arange(days)
        high, low = np.minimum(day + after, days), np.maximum(day - REFERENCE_DAYS, 0)
        found: Ints = np.take(total, high, axis=1) - np.take(total, low, axis=1)
        return found


def plant_dumping(
    desk: Desk, truth: Truth, prices: MarketPrices, dumping: list[tuple[int, int]]
) -> int:
    """Plant each seller's cases; return how many found no drug with a market price.

    A case is a few packs of one drug at 45 to 65 % of what the channel asks. Shape: press case of
    126 against 179 CNY (0.70) and below.
    """
    return sum(
        not _dump(desk, truth, prices, seller) for seller, cases in dumping for _ in range(cases)
    )


def _dump(desk: Desk, truth: Truth, prices: MarketPrices, seller: int) -> bool:
    m = desk.market
    channel = int(m.channel[seller])
    judged = prices.judged(channel)
    judged[:, : SHELF + 2] = False  # the packs' whole lives lie in the window
    judged &= ((np.diff(m.channel_drugs[channel], prepend=0.0) > 0) & ~m.drug_ephedrine)[:, None]
    if not judged.any():
        return False
    known: npt.NDArray[np.bool_] = np.any(judged, axis=1)
    drug = desk.drug(channel, among=known)
    first = desk.pick(np.flatnonzero(judged[drug]))
    codes = desk.codes(drug, desk.number(1, MOST_PACKS))
    arrival, batch = desk.supply(codes, drug, seller, m.first_day + first - SHELF)
    if arrival >= m.first_day + first:
        raise RuntimeError(f"packs arrive on day {arrival}, after the day they are to be sold")
    days = first + np.flatnonzero(judged[drug, first : first + 12])
    typical = float(retail_price(m, seller, drug, 1.0)) / float(m.retail_factor[seller])
    events: list[Event] = []
    for code in codes:
        price = round(typical * (0.45 + 0.20 * float(desk.rng.random())))
        day = m.first_day + desk.pick(days)
        events += desk.sell([code], seller, desk.till(day), batch, price)
        prices.note(drug, channel, day)
    truth.add("abnormal_low_price", [(seller, SUBJECT)], codes, events)
    return True
