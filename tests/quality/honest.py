"""Honest markets with habits of their own, written as event files: nobody in them breaks a rule.

A market of the simulator without schemes, look-alikes or mistakes is bent by a *habit*: a function
that takes its rows (times in seconds) with the step of each, and returns other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate.flows import (
    COMMISSION,
    RECEIVE_1,
    RECEIVE_2,
    RECEIVE_3,
    SALE,
    SHIP_1,
    SHIP_2,
    SHIP_3,
    draw_lots,
    honest_block,
)
from trace_engine.simulate.market import CHAIN_STORE, DAY, PHARMACY, Market
from trace_engine.simulate.registry_files import party_ids, write_registry
from trace_engine.simulate.rows import NONE, Rows
from trace_engine.simulate.write import Texts

FIRST_DAY = 20_454  # 2026-01-01
DAYS = 180
RECEIPTS = (RECEIVE_1, RECEIVE_2, RECEIVE_3)
SHIPMENTS = (SHIP_1, SHIP_2, SHIP_3)


@dataclass
class Trade:
    """A market and its rows; ``step`` (of ``simulate.flows``) and ``pack`` number each row's."""

    market: Market
    rng: np.random.Generator
    rows: Rows
    step: npt.NDArray[np.int8]
    pack: npt.NDArray[np.int32]

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Leave out the rows that ``mask`` does not have."""
        self.rows, self.step, self.pack = self.rows.take(mask), self.step[mask], self.pack[mask]

    def add(self, rows: Rows, step: int, pack: npt.NDArray[np.int32]) -> None:
        """Append rows, as new events."""
        rows["uid"] = self.market.new_uids(len(rows))
        self.rows = Rows.concat([self.rows, rows])
        self.step = np.append(self.step, np.full(len(rows), step, np.int8))
        self.pack = np.append(self.pack, pack)

    def chosen(self, share: float) -> npt.NDArray[np.bool_]:
        """Return the rows of a random ``share`` of the packs."""
        packs = self.rng.random(int(self.pack.max()) + 1) < share
        found: npt.NDArray[np.bool_] = packs[self.pack]
        return found


Habit = Callable[[Trade], None]


def all_bills_carry_a_date(trade: Trade) -> None:
    """No bill has a time of day; goods sent within a city are booked in on the same date."""
    same_day(trade, 0)
    time = trade.rows["time"]
    trade.rows["time"] = np.where(trade.step == SALE, time, time - time % DAY)


def everything_carries_a_date(trade: Trade) -> None:
    """Neither bills nor sales have a time of day."""
    all_bills_carry_a_date(trade)
    trade.rows["time"] -= trade.rows["time"] % DAY


def same_day(trade: Trade, seconds: int) -> None:
    """Book goods in ``seconds`` after they left, where both lie in one city."""
    rows = trade.rows
    near = trade.market.warehouse[rows["source"]] == trade.market.warehouse[rows["target"]]
    for out, into in zip(SHIPMENTS, RECEIPTS, strict=True):
        left = np.full(int(trade.pack.max()) + 1, NONE, np.int64)
        sent = trade.step == out
        left[trade.pack[sent]] = rows["time"][sent]
        moved = (trade.step == into) & near & (left[trade.pack] != NONE)
        rows["time"] = np.where(moved, left[trade.pack] + seconds, rows["time"])


def clocks_are_off(trade: Trade) -> None:
    """Each party's clock is ten minutes off, one way or the other; couriers take five minutes."""
    same_day(trade, 300)
    ahead = trade.rng.random(trade.market.count) < 0.5
    trade.rows["time"] += np.where(ahead, 600, -600)[trade.rows["actor"]]


def half_of_the_receipts_are_missing(trade: Trade) -> None:
    """Half of the packs, chosen anew at each hop, are never booked in."""
    lost = np.isin(trade.step, RECEIPTS) & (trade.rng.random(len(trade.step)) < 0.5)
    trade.keep(~lost)


def half_of_the_shipments_are_missing(trade: Trade) -> None:
    """Half of the packs, chosen anew at each hop, are never booked out."""
    lost = np.isin(trade.step, SHIPMENTS) & (trade.rng.random(len(trade.step)) < 0.5)
    trade.keep(~lost)


def headquarters_upload_for_all_stores(trade: Trade) -> None:
    """Head offices upload everything of their stores, and book no transfers to half of them."""
    m, rows = trade.market, trade.rows
    actor = rows["actor"]
    store = m.type[actor] == CHAIN_STORE
    rows["actor"] = np.where(store, m.parent[actor], actor).astype(np.int32)
    transfer = np.isin(rows["kind"], [int(K.TRANSFER_SHIPMENT), int(K.TRANSFER_RECEIPT)])
    trade.keep(~(transfer & (rows["target"] % 2 == 0)))


def many_returns(trade: Trade) -> None:
    """A third of the packs sold come back the next day and are sold again two days later.

    Of those that pharmacies bought from distributors, a quarter go back first and come again.
    """
    m = trade.market
    back = (trade.step == SALE) & trade.chosen(0.33)
    sold, pack = trade.rows.take(back), trade.pack[back]
    returned = sold.take(np.ones(len(sold), bool))
    returned["kind"] = np.full(len(sold), int(K.CONSUMER_RETURN), np.int8)
    returned["target"], returned["source"] = sold["source"], np.full(len(sold), NONE, np.int32)
    returned["target_city"] = m.warehouse[sold["source"]].astype(np.int16)
    returned["source_city"] = np.full(len(sold), NONE, np.int16)
    returned["time"] = sold["time"] + DAY
    trade.add(returned, SALE, pack)
    again = sold.take(np.ones(len(sold), bool))
    again["time"] = sold["time"] + 3 * DAY
    again["bill"], again["order"] = m.new_bills(len(sold)), np.full(len(sold), NONE)
    again["buyer"] = m.new_buyers(len(sold))
    prescribed = sold["prescription"] != NONE
    again["prescription"] = np.where(prescribed, again["bill"], NONE)
    trade.add(again, SALE, pack)

    bought = (trade.step == RECEIVE_2) & (m.type[trade.rows["target"]] == PHARMACY)
    bought &= trade.chosen(0.25)
    packs = trade.pack[bought]
    received = trade.rows.take(bought)
    at = np.full(int(trade.pack.max()) + 1, NONE, np.int64)
    at[packs] = received["time"]
    late = (at[trade.pack] != NONE) & (trade.step == SALE)
    trade.rows["time"] = np.where(late, trade.rows["time"] + 12 * DAY, trade.rows["time"])
    for days, kind, turned in (
        (1, K.RETURN_SHIPMENT, True),
        (4, K.RETURN_RECEIPT, True),
        (6, K.SALE_SHIPMENT, False),
        (10, K.PURCHASE_RECEIPT, False),
    ):
        rows = received.take(np.ones(len(received), bool))
        rows["time"] = received["time"] + days * DAY
        rows["kind"] = np.full(len(rows), int(kind), np.int8)
        if turned:
            for one, other in (("source", "target"), ("source_city", "target_city")):
                rows[one], rows[other] = received[other], received[one]
        incoming = kind in (K.RETURN_RECEIPT, K.PURCHASE_RECEIPT)
        rows["actor"] = rows["target" if incoming else "source"]
        rows["bill"] = received["bill"] + m.bills  # a bill of its own for each bill
        m.new_bills(m.bills)
        trade.add(rows, NONE, packs)


def bills_are_voided_and_written_again(trade: Trade) -> None:
    """A fifth of all rows but commissioning are cancelled an hour later and uploaded anew."""
    wrong = (trade.step != COMMISSION) & (trade.rng.random(len(trade.step)) < 0.2)
    first, pack = trade.rows.take(wrong), trade.pack[wrong]
    void = first.take(np.ones(len(first), bool))
    void["kind"] = np.full(len(first), int(K.VOID), np.int8)
    void["voids"], void["time"] = first["uid"], first["time"] + 3600
    trade.add(void, NONE, pack)
    again = first.take(np.ones(len(first), bool))
    again["time"] = first["time"] + 3660
    trade.add(again, NONE, pack)


def the_dump_begins_in_the_middle(trade: Trade) -> None:
    """Nothing before the 90th day was handed over: most packs come from nowhere."""
    trade.keep(trade.rows["time"] >= (FIRST_DAY + 90) * DAY)


def nobody_states_prices_regions_or_bills(trade: Trade) -> None:
    """Bare scans: who, what, when."""
    blank = np.full(len(trade.rows), NONE)
    for name in ("price", "source_city", "target_city", "bill", "from_bill", "order", "buyer"):
        trade.rows[name] = blank.astype(trade.rows[name].dtype)


def write_honest_market(
    folder: Path, seed: int, habits: tuple[Habit, ...], packs: int, *, one_place_each: bool = False
) -> None:
    """Write the events and registry of an honest market of ``packs`` packs into ``folder``.

    ``one_place_each``: goods of a party lie where it is registered. Else some shops keep them in
    another province, which only a registry tells from a further border crossed.
    """
    population, papers, rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)
    )
    market = Market(population, packs, FIRST_DAY, DAYS)
    if one_place_each:
        market.warehouse = market.city.copy()
    block = honest_block(market, rng, draw_lots(market, rng, packs))
    trade = Trade(market, rng, block.rows, block.step, block.pack)
    for habit in habits:
        habit(trade)
    time = trade.rows["time"]
    trade.keep((time >= market.begin) & (time < market.end))
    ids = party_ids(market)
    write_registry(market, ids, folder / "registry", papers)
    table: pa.Table = Texts(market, ids).table(trade.rows)
    (folder / "events").mkdir(parents=True)
    pq.write_table(table, folder / "events" / "events.parquet")
