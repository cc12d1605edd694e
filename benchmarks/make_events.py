"""Write a Parquet dump of N scans with string codes, and its registry, for the benchmarks.

An honest market of about five events a code with a few planted violations: lots of 40 codes are
commissioned, shipped and received together (maker, no or one wholesaler, pharmacy or hospital), and
most are then sold one by one. Everything lies in 120 days; rows are sorted by ``event_time``,
compressed with zstd, a million rows in a row group. The same arguments give the same bytes.

This is not the simulator: it knows few schemes and no noise, but writes millions of rows a second,
and its answers can be worked out in SQL.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from columns import RowGroups, chosen, digits, strings

Ints = npt.NDArray[np.int64]

FORMAT = 2  # raise when the content changes, so that old files are written again
FIRST_DAY = 20_454  # 2026-01-01, days since 1970-01-01
DAYS = 120
LONGEST_LIFE = 60  # days from commissioning to the last event of a code
LOT = 40  # codes that move together
ROW_GROUP = 1_000_000
SECONDS_A_DAY = 86_400

MAKERS, WHOLESALERS, PHARMACIES, HOSPITALS = 500, 3_000, 40_000, 6_500
ENTERPRISES = MAKERS + WHOLESALERS + PHARMACIES + HOSPITALS
FIRST_RETAILER = MAKERS + WHOLESALERS
DRUGS, RESTRICTED_DRUGS = 2_000, 40
SALES_A_BUYER = 3

# One district of each province-level region of the mainland, GB/T 2260.
REGION_CODES = (
    "110105 120101 130104 140105 150102 210102 220102 230102 310104 320102 330106 340103 350102 "
    "360102 370102 410105 420106 430102 440103 450103 460105 500103 510104 520102 530102 540102 "
    "610103 620102 630102 640104 650102"
)
REGIONS = REGION_CODES.split()
PROVINCES = len(REGIONS)

EVENT_TYPES = (
    "commissioning",
    "production_shipment",
    "sale_shipment",
    "purchase_receipt",
    "retail_sale",
)
COMMISSIONING, PRODUCTION_SHIPMENT, SALE_SHIPMENT, RECEIPT, SALE = range(5)

# One event while it waits for its day: second of the day, lot, unit in the lot and step, in one
# integer, so that sorting the integers sorts by time and always in the same way.
STEP_BITS, UNIT_BITS, LOT_BITS = 5, 6, 34
SOLD, SOLD_AGAIN = 30, 31  # steps; 0 commissioning, then shipments (odd) and receipts (even)

TEXT_COLUMNS = {"event_id", "code", "order_code", "bill_code", "buyer_id"}

# Share of sales (one in so many).
SOLD_TWICE, UNDER_COST, TO_HOARDERS = 4_000, 5_000, 50


@dataclass(frozen=True)
class Lots:
    """Attributes of each lot, shape ``(lots,)``."""

    born: Ints  # day
    drug: Ints
    wholesalers: Ints  # how many stand between maker and retailer
    sold: npt.NDArray[np.bool_]
    path: npt.NDArray[np.int32]  # (lots, 5) enterprises in order of ownership, the last repeated
    rank: Ints  # number of the lot among those of its drug


def _mixed(values: Ints, salt: int) -> npt.NDArray[np.uint64]:
    """Return 64 well-mixed bits of each value (the finaliser of splitmix64)."""
    x = values.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _enterprise_regions() -> Ints:
    """Return the index into ``REGIONS`` of each enterprise, shape ``(ENTERPRISES,)``."""
    return np.arange(ENTERPRISES) % PROVINCES


def _wholesaler_in(province: Ints, choice: Ints) -> Ints:
    """Return an enterprise number of a wholesaler in each ``province``."""
    first = (province - MAKERS) % PROVINCES
    return MAKERS + first + PROVINCES * (choice % (WHOLESALERS // PROVINCES))


def _make_lots(events: int, seed: int) -> Lots:
    random = np.random.default_rng(seed)
    count = max(1, round(events / 5 / LOT))
    born = FIRST_DAY + np.sort(random.integers(0, DAYS - LONGEST_LIFE, count))
    drug = random.integers(0, DRUGS, count)
    kind = random.random(count)
    wholesalers = np.where(kind < 0.4, 0, 1)
    wholesalers[kind > 0.9985] = 3  # handed on three times, from province to province
    sold = (kind < 0.8) | (wholesalers == 3)
    retailer = FIRST_RETAILER + random.integers(0, ENTERPRISES - FIRST_RETAILER, count)
    province = retailer % PROVINCES
    path = np.empty((count, 5), np.int32)
    path[:, 0] = drug % MAKERS
    path[:, 1:] = retailer[:, None]
    one = wholesalers >= 1
    path[one, 1] = _wholesaler_in(province[one], random.integers(0, 1 << 30, int(one.sum())))
    three = np.flatnonzero(wholesalers == 3)
    for hop in (2, 3):
        elsewhere = (province[three] + 5 * hop) % PROVINCES
        path[three, hop] = _wholesaler_in(elsewhere, random.integers(0, 1 << 30, len(three)))
    order = np.argsort(drug, kind="stable")
    sorted_drug = drug[order]
    starts = np.searchsorted(sorted_drug, sorted_drug, side="left")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count) - starts
    return Lots(born, drug, wholesalers, sold, path, rank)


def _events_of_day_born(
    lots: Lots, numbers: Ints, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Return ``(day, packed)`` of all events of the lots ``numbers``, in no order."""
    units = np.arange(LOT)
    days: list[Ints] = []
    packed: list[Ints] = []

    def add(lot: Ints, unit: Ints, step: int, day: Ints, second: Ints) -> None:
        days.append(day.ravel())
        value = (second << LOT_BITS | lot) << UNIT_BITS | unit
        packed.append((value << STEP_BITS | step).ravel())

    def add_lots(chosen: Ints, step: int, day: Ints) -> None:
        start = random.integers(8 * 3600, 18 * 3600, len(chosen))
        shape = (len(chosen), LOT)
        add(
            np.broadcast_to(chosen[:, None], shape),
            np.broadcast_to(units, shape),
            step,
            np.broadcast_to(day[:, None], shape),
            start[:, None] + units,
        )

    day = lots.born[numbers]
    add_lots(numbers, 0, day)
    for hop in range(4):
        on = lots.wholesalers[numbers] >= hop
        waits = (
            random.integers(1, 6, len(numbers))
            if hop == 0
            else random.integers(2, 12, len(numbers))
        )
        shipped = day + waits
        received = shipped + random.integers(1, 4, len(numbers))
        add_lots(numbers[on], 2 * hop + 1, shipped[on])
        add_lots(numbers[on], 2 * hop + 2, received[on])
        day = np.where(on, received, day)
    on = lots.sold[numbers]
    lot = np.repeat(numbers[on], LOT)
    unit = np.tile(units, int(on.sum()))
    sold = np.minimum(
        np.repeat(day[on], LOT) + random.integers(1, 15, len(lot)), FIRST_DAY + DAYS - 1
    )
    add(lot, unit, SOLD, sold, random.integers(8 * 3600, 21 * 3600, len(lot)))
    again = _mixed(lot * LOT + unit, 1) % np.uint64(SOLD_TWICE) == 0
    later = sold[again] + random.integers(1, 10, int(again.sum()))
    inside = later < FIRST_DAY + DAYS
    add(
        lot[again][inside],
        unit[again][inside],
        SOLD_AGAIN,
        later[inside],
        random.integers(8 * 3600, 21 * 3600, int(inside.sum())),
    )
    return np.concatenate(days), np.concatenate(packed)


class _Columns:
    """Turn packed events into the columns of the canonical event table."""

    def __init__(self, lots: Lots, events: int) -> None:
        self.lots = lots
        self.parties = strings("E", digits(np.arange(ENTERPRISES, dtype=np.uint64), 9))
        self.drugs = strings("8", digits(100_000 + np.arange(DRUGS, dtype=np.uint64), 6))
        self.regions = pa.array(REGIONS)
        self.types = pa.array(EVENT_TYPES)
        batches = np.arange(DAYS * 100, dtype=np.uint64)
        self.batches = strings("B", digits(batches, 6))
        self.region_of = _enterprise_regions()
        self.base_price = np.exp(np.random.default_rng(1).normal(7.6, 0.8, DRUGS)).astype(np.int64)
        self.base_price += 300  # fen
        # Hoarders: each buys about six restricted packs in one week.
        restricted = events / 5 * 0.8 * RESTRICTED_DRUGS / DRUGS
        self.hoarders = max(1, round(restricted / TO_HOARDERS / (LONGEST_LIFE / 7) / 6))
        self.buyers = max(1, round(events / 5 * 0.8 / SALES_A_BUYER))
        self.row = 0

    def table(self, day: int, packed: Ints) -> pa.Table:
        """Return one day's events; ``packed`` is sorted."""
        step = packed & ((1 << STEP_BITS) - 1)
        unit = packed >> STEP_BITS & ((1 << UNIT_BITS) - 1)
        lot = packed >> (STEP_BITS + UNIT_BITS) & ((1 << LOT_BITS) - 1)
        second = packed >> (STEP_BITS + UNIT_BITS + LOT_BITS)
        lots, rows = self.lots, len(packed)
        drug = lots.drug[lot]
        sale = step >= SOLD
        code_number = lot * LOT + unit

        hop = np.where(sale, lots.wholesalers[lot] + 1, (step - 1) // 2)
        giver = lots.path[lot, np.clip(hop, 0, 4)].astype(np.int64)
        receiver = lots.path[lot, np.clip(hop + 1, 0, 4)].astype(np.int64)
        again = step == SOLD_AGAIN
        other = FIRST_RETAILER + (_mixed(code_number[again], 2) % np.uint64(40_000)).astype(
            np.int64
        )
        giver[again] = np.where(other == giver[again], other + 1, other)
        origin = step == 0
        receipt = ~sale & ~origin & (step % 2 == 0)
        receiver[origin] = giver[origin] = lots.path[lot[origin], 0]

        kind = np.where(step == 1, PRODUCTION_SHIPMENT, SALE_SHIPMENT)
        kind[receipt], kind[origin], kind[sale] = RECEIPT, COMMISSIONING, SALE

        # Fen: makers sell at 60 %, each wholesaler adds 8 points, persons pay about 100 %.
        base = self.base_price[drug]
        stage = 60 + 8 * np.clip(hop, 0, 3)
        price = base * stage // 100
        noise = (_mixed(code_number, 3) % np.uint64(11)).astype(np.int64) - 5
        asked = base * (100 + noise) // 100
        paid = base * (60 + 8 * np.clip(lots.wholesalers[lot], 0, 3)) // 100
        under = (_mixed(code_number, 4) % np.uint64(UNDER_COST) == 0) & ~again
        price = np.where(sale, np.where(under, paid * 85 // 100, asked), price)

        buyer = _mixed(code_number, 5) % np.uint64(self.buyers)
        hoarded = (drug < RESTRICTED_DRUGS) & (_mixed(code_number, 6) % np.uint64(TO_HOARDERS) == 0)
        week = (day - FIRST_DAY) // 7
        hoarder = np.uint64(900_000_000 + week * self.hoarders) + buyer % np.uint64(self.hoarders)
        buyer = np.where(hoarded, hoarder, buyer)

        value = np.uint64(10**13) * (100_000 + drug).astype(np.uint64)
        value += ((lots.rank[lot] * LOT + unit) * 10_000).astype(np.uint64)
        value += _mixed(code_number, 7) % np.uint64(10_000)

        # Shipments and receipts: a bill a lot; sales: a bill a shop and day.
        bill = np.where(sale, giver * 1_000 + (day - FIRST_DAY), lot * 32 + step)
        letter = np.frombuffer(b"CPSRD", np.uint8)[kind]
        when = (day * SECONDS_A_DAY + second) * 1_000_000
        late = 30 + (_mixed(code_number * 32 + step, 8) % np.uint64(600)).astype(np.int64)
        batch = (lots.born[lot] - FIRST_DAY) * 100 + drug % 100
        numbers = np.arange(self.row, self.row + rows, dtype=np.uint64)
        self.row += rows
        timestamp = pa.timestamp("us")
        return pa.table(
            {
                "event_id": strings("N", digits(numbers, 14)),
                "event_time": pa.array(when, timestamp),
                "record_time": pa.array(when + late * 1_000_000, timestamp),
                "event_type": chosen(kind, self.types),
                "code": strings("8", digits(value, 19)),
                "actor_id": chosen(np.where(receipt, receiver, giver), self.parties),
                "from_id": chosen(giver, self.parties, ~origin),
                "to_id": chosen(receiver, self.parties, ~sale & ~origin),
                "from_region": chosen(self.region_of[giver], self.regions, ~origin),
                "to_region": chosen(self.region_of[receiver], self.regions, ~sale),
                "drug_id": chosen(drug, self.drugs),
                "batch_no": chosen(batch, self.batches),
                "expiry_date": pa.array((lots.born[lot] + 730).astype(np.int32), pa.date32()),
                "unit_price": pa.array(price / 100.0, mask=origin),
                "quantity": pa.array(np.ones(rows, np.int32)),
                "bill_code": strings(letter, digits(bill.astype(np.uint64), 11)),
                "order_code": strings(
                    "O", digits((code_number * 2 + again)[sale].astype(np.uint64), 12), sale
                ),
                "buyer_id": strings("B", digits(buyer[sale], 10), sale),
            }
        )


def write_registry(folder: Path) -> None:
    """Write ``enterprises.parquet`` and ``drugs.parquet`` of the market to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = np.repeat(
        ["manufacturer", "wholesaler", "pharmacy", "public_hospital"],
        [MAKERS, WHOLESALERS, PHARMACIES, HOSPITALS],
    )
    ids = strings("E", digits(np.arange(ENTERPRISES, dtype=np.uint64), 9))
    enterprises = pa.table(
        {
            "enterprise_id": ids,
            "name": pa.array([f"企业{number}" for number in range(ENTERPRISES)]),
            "type": pa.array(kinds.tolist()),
            "region": pa.array(REGIONS).take(pa.array(_enterprise_regions())),
            "licence_from": pa.array(np.full(ENTERPRISES, 18_262, np.int32), pa.date32()),
            "licence_to": pa.array(np.full(ENTERPRISES, 22_645, np.int32), pa.date32()),
            "status": pa.array(["active"] * ENTERPRISES),
            "scope": pa.array(["rx;otc_a;otc_b;ephedrine_compound"] * ENTERPRISES),
        }
    )
    pq.write_table(enterprises, folder / "enterprises.parquet")
    drugs = pa.table(
        {
            "drug_id": strings("8", digits(100_000 + np.arange(DRUGS, dtype=np.uint64), 6)),
            "generic_name": pa.array([f"药品{number}" for number in range(DRUGS)]),
            "holder_id": ids.take(pa.array(np.arange(DRUGS) % MAKERS)),
            "classes": pa.array(
                ["ephedrine_compound" if n < RESTRICTED_DRUGS else "otc_a" for n in range(DRUGS)]
            ),
        }
    )
    pq.write_table(drugs, folder / "drugs.parquet")


class Made(NamedTuple):
    """What was written; ``rows`` is close to ``events`` but not equal to it."""

    format: int
    events: int
    seed: int
    rows: int
    codes: int
    bytes: int
    seconds: float


def make_events(events: int, seed: int, folder: Path) -> Made:
    """Write ``events.parquet`` and ``registry/`` to ``folder`` unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "made.json"
    if note.exists():
        there: dict[str, Any] = json.loads(note.read_text())
        if (there["format"], there["events"], there["seed"]) == (FORMAT, events, seed):
            return Made(**there)
    started = time.perf_counter()
    write_registry(folder / "registry")
    lots = _make_lots(events, seed)
    random = np.random.default_rng(seed + 1)
    columns = _Columns(lots, events)
    waiting: dict[int, list[Ints]] = {}
    output: RowGroups | None = None
    path = folder / "events.parquet"
    for day in range(FIRST_DAY, FIRST_DAY + DAYS):
        first, last = np.searchsorted(lots.born, (day, day + 1))
        if first < last:
            days, packed = _events_of_day_born(lots, np.arange(first, last), random)
            order = np.argsort(days, kind="stable")
            bounds = np.flatnonzero(np.diff(days[order])) + 1
            for part in np.split(order, bounds):
                waiting.setdefault(int(days[part[0]]), []).append(packed[part])
        if day not in waiting:
            continue
        today = np.sort(np.concatenate(waiting.pop(day)))
        for start in range(0, len(today), ROW_GROUP):
            table = columns.table(day, today[start : start + ROW_GROUP])
            output = output or RowGroups(path, table.schema, ROW_GROUP, TEXT_COLUMNS)
            output.write(table)
    if output is None:
        raise ValueError(f"no event in {events} asked for")
    output.close()
    made = Made(
        format=FORMAT,
        events=events,
        seed=seed,
        rows=columns.row,
        codes=len(lots.born) * LOT,
        bytes=path.stat().st_size,
        seconds=round(time.perf_counter() - started, 2),
    )
    note.write_text(json.dumps(made._asdict()))
    return made


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    made = make_events(arguments.events, arguments.seed, arguments.out)
    print(json.dumps(made._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
