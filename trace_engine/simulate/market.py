"""The simulated market: its parties, medicines and batches, and the numbers it gives out.

Arrays are indexed by party number, drug number or batch number; nothing here knows about events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.simulate.cities import distances
from trace_engine.simulate.codes import gtin
from trace_engine.simulate.formulary import FORMULARY
from trace_engine.simulate.papers import Batch, LicenceChange, Recall, Territory
from trace_engine.simulate.parties import (
    CHAIN_HQ,
    CHAIN_STORE,
    LOGISTICS,
    MAH,
    MANUFACTURER,
    MEDICAL,
    MEDICINE,
    ONLINE,
    PHARMACY,
    PLATFORM,
    PUBLIC_HOSPITAL,
    RETAIL,
    TYPES,
    UNLICENSED,
    WHOLESALER,
    Floats,
    Ints,
    Parties,
)
from trace_engine.simulate.stated import Details

# With the words in which schemes and twins speak of parties and papers.
__all__ = [
    "BATCHES_BEFORE",
    "BATCH_EVERY",
    "CHAIN_HQ",
    "CHAIN_STORE",
    "DAY",
    "EPHEDRINE",
    "LOGISTICS",
    "MAH",
    "MANUFACTURER",
    "MEDICAL",
    "MEDICINE",
    "ONLINE",
    "PHARMACY",
    "PLATFORM",
    "PUBLIC_HOSPITAL",
    "RETAIL",
    "TYPES",
    "UNLICENSED",
    "WHOLESALER",
    "Batch",
    "Floats",
    "Ints",
    "LicenceChange",
    "Market",
    "Recall",
    "Territory",
]

DAY = 86_400  # seconds: the simulator counts time in seconds until rows are made

EPHEDRINE = "ephedrine_compound"

BATCH_EVERY = 15  # days between two batches of one drug
BATCHES_BEFORE = 60  # batches made before the window's first day


class Market(Parties):
    """Everybody and everything that events refer to.

    ``codes`` is about how many packs will be traded and sets the number of enterprises: one seller
    per 80 packs, at least 300 sellers, so that a seller's month holds enough to be judged by.
    ``first_day`` counts days since 1970-01-01.
    """

    def __init__(self, rng: np.random.Generator, codes: int, first_day: int, days: int) -> None:
        super().__init__(rng, max(300, codes // 80))
        self.codes = codes
        self.first_day = first_day
        self.days = days
        self.begin = first_day * DAY  # seconds
        self.end = (first_day + days) * DAY
        self.recalls: list[Recall] = []
        # What the registry says otherwise than usual: column -> text of ``enterprises.csv`` by
        # party and of ``drugs.csv`` by drug number; further changes of licences and territories.
        self.papers: dict[int, dict[str, str]] = {}
        self.drug_papers: dict[int, dict[str, str]] = {}
        self.details = Details()  # what single rows state otherwise than usual
        self.licence_changes: list[LicenceChange] = []
        self.territories: list[Territory] = []
        self._medicines()
        self._drugs_by_channel()
        self._allot()
        self.bills = 0  # numbers given so far
        self.buyers = 0
        self.lots = 0
        self.uids = 0
        self.other_codes: list[str] = []  # misread codes, see codes.OTHER_BASE
        self._lot_scramble = int(rng.integers(1, 50_000)) * 10 + 3  # coprime to 10

    # ---- medicines -----------------------------------------------------------------------------

    def _medicines(self) -> None:
        rng = self.rng
        makers = self.members(MAH)
        copies = int(np.clip(len(makers) // 8, 1, 12))  # how many firms make each medicine
        medicine = np.repeat(np.arange(len(FORMULARY)), copies)
        self.drug_count = len(medicine)
        self.medicine = medicine
        self.drug_holder = makers[rng.integers(0, len(makers), self.drug_count)]
        spread = np.exp(rng.normal(0, 0.25, self.drug_count))
        spread[::copies] = 1.0
        price = np.array([m.price for m in FORMULARY])[medicine] * spread
        self.drug_price = np.maximum((price * 100).astype(np.int64), 150)  # fen, ex factory
        rank = np.tile(np.arange(1, copies + 1), len(FORMULARY))
        self.drug_weight = np.array([m.weight for m in FORMULARY])[medicine] / rank**1.1
        self.drug_classes = [FORMULARY[i].classes.split(";") for i in medicine]
        self.drug_ephedrine = np.array([EPHEDRINE in c for c in self.drug_classes])
        self.drug_units = np.array([FORMULARY[i].units for i in medicine])
        self.drug_online = np.array([FORMULARY[i].online for i in medicine])
        # Identifiers: 7 digits beginning with 8, all different; GS1 for some (mostly dear) ones.
        self.drug_identifier = 8_000_000 + rng.choice(999_999, self.drug_count, replace=False)
        self.drug_gs1 = (np.arange(self.drug_count) % 23) == 11
        self.drug_gs1 &= ~self.drug_ephedrine
        self.gtins = [
            gtin(f"0695{int(number) % 1_000_000_000:09d}") for number in self.drug_identifier
        ]
        self.drug_ids = [
            self.gtins[i] if self.drug_gs1[i] else str(self.drug_identifier[i])
            for i in range(self.drug_count)
        ]
        # Who states drug_id in the row although the code holds it.
        self.drug_declared = rng.random(self.drug_count) < 0.3
        self.shelf_months = rng.choice([18, 24, 36], self.drug_count)
        self.batches = Batch()
        offset = rng.integers(0, BATCH_EVERY, self.drug_count)
        self.batch_base = np.zeros(self.drug_count, np.int64)
        self.batch_offset = offset
        per_drug = BATCHES_BEFORE + self.days // BATCH_EVERY + 2
        for d in range(self.drug_count):
            self.batch_base[d] = len(self.batches.drug)
            for k in range(per_drug):
                day = self.first_day + int(offset[d]) + (k - BATCHES_BEFORE) * BATCH_EVERY
                self.add_batch(d, day)

    def has_class(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which drugs are in a class."""
        return np.array([name in c for c in self.drug_classes])

    def add_batch(self, drug: int, production: int, shelf_days: int | None = None) -> int:
        """Append a batch of a drug made on a day (since 1970) and return its number."""
        if shelf_days is None:
            shelf_days = int(self.shelf_months[drug]) * 365 // 12
        date = str(np.datetime64(production, "D")).replace("-", "")
        number = f"{date[2:]}{len(self.batches.drug) % 97:02d}"
        return self.batches.add(drug, production, production + shelf_days, number)

    def batch_for(self, drug: Any, ship_day: Any, rng: np.random.Generator) -> Any:
        """Return batches of ``drug`` made 5 to 50 days before ``ship_day`` (since 1970)."""
        newest = (
            ship_day - 5 - self.first_day - self.batch_offset[drug]
        ) // BATCH_EVERY + BATCHES_BEFORE
        older = rng.integers(0, 3, np.shape(drug))
        return self.batch_base[drug] + newest - older

    def _drugs_by_channel(self) -> None:
        retail = np.array([FORMULARY[i].retail for i in self.medicine])
        medical = np.array([FORMULARY[i].medical for i in self.medicine])
        allowed = [retail, retail & self.drug_online, medical]
        self.channel_drugs: list[Floats] = []
        for mask in allowed:
            weight = np.where(mask, self.drug_weight, 0.0)
            self.channel_drugs.append(np.cumsum(weight / weight.sum()))

    def _allot(self) -> None:
        """Allot a few drugs to eight to twenty provinces each: nobody sells them elsewhere.

        ``allotted`` says where each drug may be sold, shape (drugs, 100), by province;
        ``drug_free`` which drugs are nobody's territory.
        """
        rng = self.rng
        provinces = np.unique(self.city_province)
        copies = self.drug_count // len(FORMULARY)
        last = np.arange(self.drug_count) % copies == copies - 1
        few = last & (copies > 1) & (self.medicine % 7 == 6) & ~self.drug_ephedrine
        self.drug_free = ~few
        self.allotted = np.ones((self.drug_count, 100), bool)
        for drug in np.flatnonzero(few).tolist():
            mine = rng.permutation(provinces)[: int(rng.integers(8, 21))]
            self.allotted[drug] = False
            self.allotted[drug, mine] = True
            self.territories += [Territory(drug, int(p)) for p in np.sort(mine)]

    # ---- numbers -------------------------------------------------------------------------------

    def new_bills(self, count: int) -> Ints:
        """Return ``count`` new bill numbers."""
        self.bills += count
        return np.arange(self.bills - count, self.bills)

    def new_buyers(self, count: int) -> Ints:
        """Return ``count`` persons who have not bought before."""
        self.buyers += count
        return np.arange(self.buyers - count, self.buyers)

    def new_uids(self, count: int) -> Ints:
        """Return ``count`` new event numbers."""
        self.uids += count
        return np.arange(self.uids - count, self.uids)

    def new_serials(self, count: int) -> Ints:
        """Return the first serials of ``count`` lots; a lot may hold 1000 packs.

        Lots of serials are dealt out in an irregular order, so that a serial says nothing about
        when or why a pack was made.
        """
        self.lots += count
        index = np.arange(self.lots - count, self.lots)
        if self.lots > 1_000_000:
            raise ValueError("the market is too big for nine-digit serials in lots of 1000")
        return index * self._lot_scramble % 1_000_000 * 1000

    def transit_days(self, origin: Any, goal: Any, rng: np.random.Generator) -> Any:
        """Return whole days a lorry needs between cities: at least the next day."""
        km = distances()[origin, goal]
        return 1 + ((km / 700) + 1.3 * rng.random(np.shape(km))).astype(np.int64)
