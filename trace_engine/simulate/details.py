"""What rows state beside the trade itself: devices, people, prescriptions' doctors, temperatures.

Nearly all of it follows from numbers a row has anyway (who scanned, which bill, which order), so it
is computed when rows become text and costs no memory. Rows of schemes and twins may state something
else: their column ``detail`` names a record of :class:`stated.Details`.

Honest habits: a distributor, maker or hospital has a few devices and operators, a shop or clinic one
device and two people; a fifth of the chains scan at their stores with devices of the head office. A
shop has two pharmacists who take turns at half past two. Prescriptions come from doctors of the
hospital, or in shops from those of any. Goods that must be kept cold travel at 2.2 to 7.8 °C. A
shipment and its receipt bear one invoice. Online orders name contact, address and the buyer's
device; in a quarter of the families three buyers share an address. In each column one party in
twelve never states anything, and one bill in a hundred lacks it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.market import (
    CHAIN_STORE,
    MEDICAL,
    PHARMACY,
    PUBLIC_HOSPITAL,
    Ints,
    Market,
)
from trace_engine.simulate.pace import CASE_PACKS
from trace_engine.simulate.rows import CASE, COLD_STEPS, NONE, OUTER, SALE_KINDS, Rows
from trace_engine.simulate.stated import COLUMNS, DEVICES, DOCTORS, OPERATORS, PHARMACISTS

OTHER_CODES = np.uint64(code_numbers.OTHER_BASE)  # misread ones, from here on
SHIFT = 14 * 3600 + 1800  # the second pharmacist's turn begins
SILENT_PARTIES, SILENT_BILLS = 8, 1  # per cent


def _hash(values: Ints, salt: int) -> Ints:
    """Return 32-bit hashes of non-negative numbers, one family for each ``salt``."""
    found: Ints = (code_numbers.mix(values * 64 + salt) >> np.uint64(32)).astype(np.int64)
    return found


class Habits:
    """Computes what rows state, for one market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._records = {name: market.details.column(name) for name in COLUMNS}
        m = market
        big = ~np.isin(m.type, [CHAIN_STORE, PHARMACY, MEDICAL])
        self._devices = np.where(big, 4, 1)
        self._operators = np.where(big, 6, 2)
        parties = np.arange(len(m.type))
        self._silent = {
            name: _hash(parties, 20 + i) % 100 < SILENT_PARTIES for i, name in enumerate(COLUMNS)
        }
        # A fifth of the chains scan at their stores with devices of the head office.
        shared = (m.type == CHAIN_STORE) & (_hash(np.maximum(m.parent, 0), 7) % 5 == 0)
        self._device_owner = np.where(shared, m.parent, parties)
        self._hospitals = np.flatnonzero(np.isin(m.type, [PUBLIC_HOSPITAL, MEDICAL]) & ~m.apart)
        self._cold = m.has_class("cold_chain")
        self._drug = np.array(m.batches.drug)

    def columns(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of ``COLUMNS`` by row: int64, negative: nothing (parent: uint64, 0).

        ``temperature`` is in hundredths of a degree.
        """
        actor = rows["actor"].astype(np.int64)
        bill = np.where(rows["bill"] == NONE, rows["uid"], rows["bill"])
        mixed = _hash(bill, 1)
        out: dict[str, npt.NDArray[Any]] = {}
        owner = self._device_owner[actor]
        out["device"] = owner * DEVICES + _mostly_first(mixed, self._devices[owner])
        out["operator"] = actor * OPERATORS + _mostly_first(mixed >> 12, self._operators[actor])
        out["pharmacist"], out["doctor"] = self._people(rows)
        cold = np.flatnonzero(
            self._cold[self._drug[rows["batch"]]] & np.isin(rows["kind"], COLD_STEPS)
        )
        out["temperature"] = _spread(
            len(rows), cold, 230 + mixed[cold] % 520 + rows["uid"][cold] % 31
        )
        sold = np.isin(rows["kind"], SALE_KINDS)
        out["invoice"] = np.where(
            sold, np.where(rows["from_bill"] == NONE, rows["bill"], rows["from_bill"]), NONE
        )
        online = np.flatnonzero((rows["shop"] != NONE) & (rows["buyer"] != NONE))
        buyer = rows["buyer"][online]
        family = _hash(buyer // 3, 3)
        home = np.where((family % 4 == 0) & (buyer >= 10**9), family, _hash(buyer, 4) + 2**32)
        out["contact"] = _spread(len(rows), online, _hash(buyer, 5))
        out["address"] = _spread(len(rows), online, home)
        out["buyer_device"] = _spread(len(rows), online, _hash(buyer, 6))
        for i, (name, values) in enumerate(out.items()):
            silent = self._silent[name][actor] | ((mixed >> (2 * i)) % 100 < SILENT_BILLS)
            values[silent] = NONE
        out["parent"] = self._parents(rows)
        out["pack_level"] = np.where(rows["flags"] & OUTER > 0, 2, 1)
        self._as_recorded(rows, out)
        return out

    def _people(self, rows: Rows) -> tuple[Ints, Ints]:
        """Return pharmacist and doctor of each row that bears a prescription."""
        n = len(rows)
        which = np.flatnonzero(rows["prescription"] >= 0)
        seller = rows["source"][which].astype(np.int64)
        late = (rows["time"][which] % 86_400 >= SHIFT).astype(np.int64)
        mixed = _hash(rows["prescription"][which], 2)
        medical = np.isin(self._market.type[seller], [PUBLIC_HOSPITAL, MEDICAL])
        of = np.where(medical, seller, self._hospitals[mixed % len(self._hospitals)])
        room = np.where(self._market.type[of] == PUBLIC_HOSPITAL, 8, 2)
        doctor = of * DOCTORS + (mixed >> 24) % room
        return _spread(n, which, seller * PHARMACISTS + late), _spread(n, which, doctor)

    def _parents(self, rows: Rows) -> npt.NDArray[np.uint64]:
        """Return the code of the case around each pack that was scanned by its case, else 0."""
        parent = np.zeros(len(rows), np.uint64)
        cased = np.flatnonzero((rows["flags"] & CASE > 0) & (rows["code"] < OTHER_CODES))
        if len(cased):
            parent[cased] = case_of(rows["code"][cased])
        return parent

    def _as_recorded(self, rows: Rows, out: dict[str, npt.NDArray[Any]]) -> None:
        """Put what single rows state in place of what is usual."""
        which = np.flatnonzero(rows["detail"] != NONE)
        record = rows["detail"][which]
        for name, values in out.items() if len(which) else ():
            stated = self._records[name][record]
            told = stated != (0 if name == "parent" else NONE)
            values[which[told]] = stated[told]


def _mostly_first(mixed: Ints, count: Ints) -> Ints:
    """Return a number below each ``count`` (at most 8), the smaller the more often."""
    found: Ints = np.minimum(mixed % 64 % count, (mixed >> 6) % 64 % count)
    return found


def case_of(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the code of the case of ``CASE_PACKS`` that each pack was packed in.

    A lot of serials holds 1000: packs take the first 960 of them, their cases the last 40.
    """
    gs1 = codes >= np.uint64(code_numbers.GS1_BASE)
    head = np.where(gs1, codes, codes // np.uint64(10_000))
    place = head % np.uint64(1000)
    head = head - place + np.uint64(1000 - 40) + place // np.uint64(CASE_PACKS)
    return np.where(gs1, head, code_numbers.checked(head))


def _spread(count: int, which: Ints, values: Ints) -> Ints:
    """Return an array of ``count``: ``values`` at ``which``, NONE elsewhere."""
    out = np.full(count, NONE, np.int64)
    out[which] = values
    return out
