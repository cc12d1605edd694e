"""Cases in honest trade: packed by the maker, moved by the case's code alone, opened on the way.

Of some consignments the whole cases of ``pace.CASE_PACKS`` packs are packed (a ``pack`` row for
each pack, that states the case), shipped and received as cases (one row a case: its code, the
packs inside as quantity), and opened (``unpack``) where packs part: by the first distributor, or by
the last buyer if all of a case is for one. A part of the distributors book the packs in one by one
instead and open nothing on record. Now and then a pack whose label is damaged gets a new code.

Only packs without any mistake travel so: what a lost row of a case does is not told here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.events.kinds import EventKind as K
from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.details import case_of
from trace_engine.simulate.flows import (
    COMMISSION,
    HOUR,
    RECEIVE_1,
    RECEIVE_2,
    RECEIVE_3,
    SALE,
    SHIP_1,
    SHIP_2,
    SHIP_3,
    make_codes,
)
from trace_engine.simulate.market import DAY, Ints, Market
from trace_engine.simulate.pace import CASE_PACKS
from trace_engine.simulate.rows import CASE, NONE, OUTER, Rows

AGGREGATED = 0.2  # share of consignments whose whole cases travel as such
OPENED_ON_ARRIVAL = 0.25  # of these: received pack by pack by the first distributor
REPLACED = 0.0005  # share of packs that get a new code at the first distributor

Mask = npt.NDArray[np.bool_]
Table = tuple[Rows, npt.NDArray[np.int8], npt.NDArray[np.int32]]  # rows, step and pack of each


def with_cases(market: Market, rng: np.random.Generator, table: Table, lot: Ints) -> Table:
    """Return honest rows with some cases moved as such and some codes replaced.

    ``lot`` of each pack. Times are seconds; habits and mistakes have been applied.
    """
    if AGGREGATED:
        table = _move_cases(market, table, lot)
    if REPLACED:
        table = _replace_codes(market, rng, table)
    return table


def _by_pack(table: Table, packs: int) -> tuple[Ints, Mask]:
    """Return the row of each pack at each step (-1: none), shape (10, packs); packs with an error.

    A pack is in error if a row of it is recorded very late or bears a misread code.
    """
    rows, step, pack = table
    place = np.full((SALE + 1, packs), -1, np.int64)
    place[step, pack] = np.arange(len(rows))
    code = np.zeros(packs, np.uint64)
    code[pack] = rows["code"]
    wrong = np.zeros(packs, bool)
    wrong[pack[(rows["code"] != code[pack]) | (rows["lag"] != NONE)]] = True
    wrong |= code >= np.uint64(code_numbers.OTHER_BASE)
    return place, wrong


def _move_cases(market: Market, table: Table, lot: Ints) -> Table:
    rows, step, pack = table
    packs = int(pack.max()) + 1
    place, wrong = _by_pack(table, packs)
    code = np.zeros(packs, np.uint64)
    code[pack] = rows["code"]
    case = np.where(wrong | (code == 0), np.uint64(0), case_of(code))
    _, first, group, size = np.unique(
        case, return_index=True, return_inverse=True, return_counts=True
    )
    # The consignment: cases of one lot of serials, told by the case's number without its last part.
    consignment = _consignment(case[first])
    mixed = code_numbers.mix(consignment.astype(np.int64)) >> np.uint64(24)
    whole = (size == CASE_PACKS) & (case[first] != 0)
    whole &= (mixed % np.uint64(10_000)).astype(np.int64) < int(AGGREGATED * 10_000)
    # Hop by hop: all packs of a case have both rows, on one bill; from the second on, for one lot.
    hops = ((SHIP_1, RECEIVE_1), (SHIP_2, RECEIVE_2), (SHIP_3, RECEIVE_3))
    one_lot = _alike(lot[:packs], group, first)
    travels: list[Mask] = []
    for ship, receive in hops:
        both = np.bincount(group, (place[ship] >= 0) & (place[receive] >= 0)) == CASE_PACKS
        before = whole if not travels else travels[-1] & one_lot
        travels.append(before & both)
    moved = travels[0]
    opened = moved & (
        (mixed >> np.uint64(20)) % np.uint64(100) < np.uint64(100 * OPENED_ON_ARRIVAL)
    )
    travels[1:] = [t & ~opened for t in travels[1:]]
    keep = np.ones(len(rows), bool)
    parts: list[Rows] = []
    steps: list[npt.NDArray[np.int8]] = []
    owners: list[npt.NDArray[np.int32]] = []

    def add(new: Rows, at: int, of: Ints) -> None:
        parts.append(new)
        steps.append(np.full(len(new), at, np.int8))
        owners.append(of.astype(np.int32))

    made = np.flatnonzero(moved[group] & (place[COMMISSION] >= 0))
    packed = rows.take(place[COMMISSION][made])
    packed["kind"] = np.full(len(made), int(K.PACK))
    packed["uid"] = market.new_uids(len(made))
    packed["flags"] = packed["flags"] | CASE
    line = packed["time"] - packed["time"] % DAY + 17 * HOUR
    packed["time"] = line + case_of(packed["code"]).astype(np.int64) % 1800
    packed["target"] = np.full(len(made), NONE)
    add(packed, COMMISSION, made)
    last = np.full(len(first), NONE, np.int64)  # the row of the last receipt as a case
    for (ship, receive), travelling in zip(hops, travels, strict=True):
        for at in (ship, receive):
            as_case = travelling & ~opened if at == receive else travelling
            gone = np.flatnonzero(as_case[group])
            keep[place[at][gone]] = False
            leaders = first[as_case]
            outer = rows.take(place[at][leaders])
            outer["code"] = case_of(outer["code"])
            outer["quantity"] = np.full(len(leaders), CASE_PACKS)
            outer["flags"] = (outer["flags"] & ~np.uint8(CASE)) | OUTER
            add(outer, at, leaders)
        last = np.where(travelling & ~opened, place[receive][first], last)
    emptied = np.flatnonzero(last != NONE)
    opening = rows.take(last[emptied])
    opening["code"] = case_of(opening["code"])
    opening["kind"] = np.full(len(emptied), int(K.UNPACK))
    opening["uid"] = market.new_uids(len(emptied))
    dated = opening["time"] % DAY == 0
    opening["time"] = opening["time"] + np.where(dated, 0, 1200 + opening["uid"] % 1500)
    for name in ("source", "target", "source_city", "bill", "from_bill", "price", "receivable"):
        opening[name] = np.full(len(emptied), NONE)
    opening["flags"] = np.full(len(emptied), OUTER)
    opening["quantity"] = np.full(len(emptied), CASE_PACKS)
    add(opening, RECEIVE_1, first[emptied])
    return (
        Rows.concat([rows.take(keep), *parts]),
        np.concatenate([step[keep], *steps]),
        np.concatenate([pack[keep], *owners]),
    )


def _consignment(case: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a number for the lot of serials that cases come from."""
    gs1 = case >= np.uint64(code_numbers.GS1_BASE)
    return np.where(gs1, case, case // np.uint64(10_000)) // np.uint64(1000)


def _alike(value: Ints, group: Ints, first: Ints) -> Mask:
    """Return for which groups all members have the value of the first."""
    differs = value != value[first][group]
    found: Mask = np.bincount(group, differs, len(first)) == 0
    return found


def _replace_codes(market: Market, rng: np.random.Generator, table: Table) -> Table:
    rows, step, pack = table
    packs = int(pack.max()) + 1
    place, wrong = _by_pack(table, packs)
    chosen = rng.random(packs) < REPLACED
    chosen &= ~wrong & (place[RECEIVE_1] >= 0) & (place[SHIP_2] >= 0)
    if not chosen.any():
        return table
    at = place[RECEIVE_1][chosen]
    told = rows.take(at)
    old = told["code"]
    drug = np.array(market.batches.drug)[told["batch"]]
    new = make_codes(market, drug, market.new_serials(len(old)))
    code = np.zeros(packs, np.uint64)
    code[chosen] = new
    later = chosen[pack] & ~np.isin(step, (COMMISSION, SHIP_1, RECEIVE_1))
    rows["code"] = np.where(later, code[pack], rows["code"])
    told["kind"] = np.full(len(old), int(K.CODE_REPLACEMENT))
    told["code"], told["uid"] = new, market.new_uids(len(old))
    told["time"] = told["time"] + np.where(told["time"] % DAY == 0, 0, HOUR)
    for name in ("source", "target", "source_city", "bill", "from_bill", "price", "receivable"):
        told[name] = np.full(len(old), NONE)
    told["flags"] = np.zeros(len(old))
    told["detail"] = np.array([market.details.add({"parent": int(c)}) for c in old.tolist()])
    return (
        Rows.concat([rows, told]),
        np.append(step, np.full(len(old), RECEIVE_1, np.int8)),
        np.append(pack, np.flatnonzero(chosen).astype(np.int32)),
    )
