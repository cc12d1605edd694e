"""What a real month holds besides trade: habits of scanning, and honest mistakes.

None of it is a violation, and a case officer would not call it one. Rates are of packs unless
stated; together about 3 % of events carry an error.

==================== ======== =====================================================================
kind                 rate     what happens
==================== ======== =====================================================================
missing receipt      0.75 %   a whole lot's second receipt (0.5 % of lots) or one pack's
missing shipment     0.45 %   likewise, the distributor's shipment
retried bill         0.8 %    of bills: all rows again, same event_id, uploaded up to 9 h later
late upload          10 %     of bills: recorded a day to 5.5 days after the event
very late upload     0.1 %    of events: recorded 8 to 40 days after (raises ``time_disorder``)
mistyped code        0.02 %   of events: a digit lost, doubled or turned into a letter
wrong identifier     0.005 %  of events: the code's identifier belongs to no registered product
clock skew           8 %      of parties: up to 10 minutes off, all their timed scans
date-only bills      10–25 %  of parties, by type: bills carry a day and no time
month-only expiry    8 %      of parties
missing price        6 %      of distributors: their bills carry none
missing regions      5 %      of parties: their wholesale bills state none
==================== ======== =====================================================================

At most one mistake befalls a pack, as in life two together are rare, and two could look like a
pack from nowhere. Commissioning is never lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.flows import (
    COMMISSION,
    HOUR,
    MICRO,
    RECEIVE_1,
    RECEIVE_2,
    SALE,
    SHIP_1,
    SHIP_2,
    Block,
)
from trace_engine.simulate.market import DAY, MEDICAL, Market
from trace_engine.simulate.rows import NONE, Rows
from trace_engine.simulate.truth import Truth

LOT_RECEIPT, LOT_SHIPMENT = 0.005, 0.003
PACK_RECEIPT, PACK_SHIPMENT = 0.0025, 0.0015
RETRY = 0.008
VERY_LATE = 0.001
TYPO, WRONG_IDENTIFIER = 0.0002, 0.00005
PERSONAL = (int(K.RETAIL_SALE), int(K.DISPENSING), int(K.VACCINATION))
Mask = npt.NDArray[np.bool_]


def habits(market: Market, rows: Rows, lasting: npt.NDArray[np.int8]) -> None:
    """Apply clock skew and date-only bills to honest rows (times still in seconds), in place.

    ``lasting`` is the step of each row. Sales are timed by the till, but for clinics that work by
    hand.
    """
    actor = rows["actor"]
    sale, made = lasting == SALE, lasting == COMMISSION
    dated = market.date_only[actor] & ~made & (~sale | (market.type[actor] == MEDICAL))
    time = rows["time"] + np.where(made, 0, market.skew[actor])
    rows["time"] = np.where(dated, time - time % DAY, time)


def due(block: Block) -> None:
    """State on each bill between enterprises how many packs it is about, in place.

    Each hundredth big bill is one pack short: it was never loaded.
    """
    rows = block.rows
    billed = (block.step != COMMISSION) & (block.step != SALE)
    bill = rows["bill"][billed]
    if len(bill) == 0:
        return
    first = int(bill.min())
    packs = np.bincount(bill - first)[bill - first]
    short = (packs >= 40) & (code_numbers.mix(bill) % np.uint64(100) == 0)
    rows["receivable"][billed] = packs + short


def mistakes(
    market: Market, rng: np.random.Generator, block: Block, truth: Truth
) -> tuple[Rows, npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Return the block's rows with mistakes made, and the step and pack of each row.

    Every code that a mistake touched is noted in ``truth``.
    """
    rows, pack, step = block.rows, block.pack, block.step
    lots, packs = int(block.lot.max()) + 1, len(block.lot)
    of_lot = rng.random(lots)[block.lot]
    of_pack = rng.random(packs)
    early = rng.random(packs) < 0.5  # which of the two hops suffers
    whole_receipt = of_lot < LOT_RECEIPT
    whole_shipment = (of_lot >= LOT_RECEIPT) & (of_lot < LOT_RECEIPT + LOT_SHIPMENT)
    spared = ~(whole_receipt | whole_shipment)
    one_receipt = spared & (of_pack < PACK_RECEIPT)
    one_shipment = spared & ~one_receipt & (of_pack < PACK_RECEIPT + PACK_SHIPMENT)
    lost: Mask = (
        ((whole_receipt | (one_receipt & ~early))[pack] & (step == RECEIVE_2))
        | ((one_receipt & early)[pack] & (step == RECEIVE_1))
        | ((whole_shipment | (one_shipment & ~early))[pack] & (step == SHIP_2))
        | ((one_shipment & early)[pack] & (step == SHIP_1))
    )
    clean = (spared & ~one_receipt & ~one_shipment)[pack] & (step != COMMISSION)
    draw = rng.random(len(rows))
    # A pack seldom enough drawn twice; only its first drawn row is mistyped.
    chosen = np.flatnonzero(clean & (draw < TYPO + WRONG_IDENTIFIER))
    _, first = np.unique(pack[chosen], return_index=True)
    chosen = chosen[first]
    truth.touched.update(rows["code"][chosen].tolist())
    typos = chosen[draw[chosen] < TYPO]
    if len(typos):
        rows["code"][typos] = misread(market, rng, rows["code"][typos])
    wrong = chosen[draw[chosen] >= TYPO]
    wrong = wrong[rows["code"][wrong] < np.uint64(code_numbers.GS1_BASE)]
    if len(wrong):
        rows["code"][wrong] = unknown_identifier(market, rng, rows["code"][wrong])
        rows["drug"][wrong] = NONE
    truth.touched.update(rows["code"][chosen].tolist())  # as misread
    truth.touched.update(rows["code"][lost].tolist())
    late = rng.random(len(rows)) < VERY_LATE
    truth.touched.update(rows["code"][late].tolist())
    rows["lag"] = np.where(late, (8 * DAY + rng.integers(0, 32 * DAY, len(rows))) * MICRO, NONE)
    keep = ~lost
    return rows.take(keep), step[keep], pack[keep]


def misread(
    market: Market, rng: np.random.Generator, codes: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return numbers of misread forms of ``codes``: no structure of a trace code any more.

    Of GS1 codes the GTIN is misread: a serial may hold letters and have any length up to 20, so
    that nobody could tell a misread one.
    """
    texts = code_numbers.code_texts(codes, market.gtins, market.other_codes).to_pylist()
    out = np.empty(len(codes), np.uint64)
    for i, text in enumerate(texts):
        gs1 = text.startswith("(01)")
        place = int(rng.integers(4, 18) if gs1 else rng.integers(8, len(text) - 1))
        way = int(rng.integers(0, 4))
        if way == 0:
            text = text[:place] + text[place + 1 :]  # a digit lost
        elif way == 1:
            text = text[:place] + text[place] + text[place:]  # a digit doubled
        elif way == 2:
            text = text[:place] + "OISB"[int(rng.integers(0, 4))] + text[place + 1 :]
        elif gs1:
            digit = (int(text[place]) + int(rng.integers(1, 10))) % 10
            text = text[:place] + str(digit) + text[place + 1 :]  # the check digit tells
        else:
            text = str(int(rng.integers(1, 8))) + text[1:]  # another header
        out[i] = code_numbers.OTHER_BASE + len(market.other_codes)
        market.other_codes.append(text)
    return out


def unknown_identifier(
    market: Market, rng: np.random.Generator, codes: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return national ``codes`` with an identifier that no drug of the registry has."""
    taken = set((market.drug_identifier % 1_000_000).tolist())
    tail = codes % np.uint64(10**13)
    out = np.empty(len(codes), np.uint64)
    for i in range(len(codes)):
        identifier = int(rng.integers(0, 1_000_000))
        while identifier in taken:
            identifier = int(rng.integers(0, 1_000_000))
        out[i] = np.uint64(identifier * 10**13) + tail[i]
    return out


def retries(rows: Rows) -> Rows:
    """Return the rows of bills uploaded a second time: same ``uid``, later record_time.

    Chosen by a hash of the bill, so that whole bills are repeated wherever their rows are.
    """
    mixed = code_numbers.mix(np.maximum(rows["bill"], 0) * 7 + 3)
    again = (mixed % np.uint64(100_000) < np.uint64(int(RETRY * 100_000))) & (rows["bill"] != NONE)
    extra = rows.take(again)
    wait = usual_lag(extra) + (60 + (mixed[again] % np.uint64(8 * HOUR)).astype(np.int64)) * MICRO
    extra["lag"] = np.where(extra["lag"] == NONE, wait, extra["lag"] + 60 * MICRO)
    return extra


def _lag_table() -> npt.NDArray[np.int64]:
    """Return 4096 usual delays between event and upload, seconds: nine in ten within a day."""
    rng = np.random.default_rng(20260101)
    soon = np.minimum(np.exp(rng.normal(np.log(1800), 1.6, 4096)), 20 * HOUR)
    late = DAY + rng.random(4096) * 4.5 * DAY
    table: npt.NDArray[np.int64] = np.where(rng.random(4096) < 0.1, late, 60 + soon).astype(
        np.int64
    )
    return table


LAGS = _lag_table() * MICRO


def usual_lag(rows: Rows) -> npt.NDArray[np.int64]:
    """Return the upload delay of each row's bill (or own, without one), µs."""
    key = np.where(rows["bill"] == NONE, rows["uid"], rows["bill"])
    lag: npt.NDArray[np.int64] = LAGS[
        (code_numbers.mix(key) >> np.uint64(20)).astype(np.int64) % 4096
    ]
    return lag
