"""A market that stands still, for load on the service: packs come, are shipped, received and sold.

Sender ``k`` of ``n`` owns every code of its own. Request ``i`` of a sender tells one window of
simulated time: as many packs are shipped by makers as are received by wholesalers, shipped on,
received by pharmacies and sold to persons in it, so that what is unsold stays the same while codes
are always new. Everything follows from the numbers of sender and request: nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from columns import digits, strings

Ints = npt.NDArray[np.int64]

FIRST_DAY = 19_723  # 2024-01-01, days since 1970-01-01
DAY = 86_400_000_000  # µs
LOT = 40  # packs that share a bill
STAGES = 5  # shipped by the maker, received, shipped, received, sold
LAG_DAYS = (0.0, 0.4, 0.9, 1.4, 3.4)  # after the first
BOUGHT, SOLD = 1, 4
TYPES = pa.array(
    ["sale_shipment", "purchase_receipt", "sale_shipment", "purchase_receipt", "retail_sale"]
)
MAKERS, WHOLESALERS, PHARMACIES, DRUGS, BUYERS = 200, 800, 20_000, 1_000, 5_000_000
FIRST_WHOLESALER = MAKERS
FIRST_PHARMACY = MAKERS + WHOLESALERS
SENDERS = 64  # at most; keeps their codes apart


def _mixed(values: Ints, salt: int) -> Ints:
    x = values.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


@dataclass(frozen=True)
class Market:
    """``rows`` events a request; ``day_events`` events of all senders are one simulated day."""

    sender: int
    senders: int
    rows: int
    day_events: int

    @property
    def packs(self) -> int:
        """New packs of one request."""
        return self.rows // STAGES

    def live_codes(self) -> int:
        """Packs of all senders that are bought and not yet sold, once the market is full."""
        return int(LAG_DAYS[-1] * self.day_events / STAGES)

    def time_of(self, request: int) -> int:
        """First µs since 1970 (Shanghai wall clock) of the window of a request."""
        done = request * self.rows * self.senders
        return FIRST_DAY * DAY + int(done / self.day_events * DAY)

    def codes(self, packs: Ints) -> pa.Array:
        """Return the trace codes of packs of this sender, by their numbers."""
        serial = packs * SENDERS + self.sender
        return strings("8", digits((_drug(packs) * 10**13 + serial).astype(np.uint64), 19))

    def request(self, number: int) -> pa.RecordBatch:
        """Return the events of a request in order of time."""
        packs = self.packs
        lag = [int(days * self.day_events / self.senders / STAGES) for days in LAG_DAYS]
        newest = number * packs + np.arange(packs, dtype=np.int64)
        pack = np.concatenate([newest - behind for behind in lag])
        stage = np.repeat(np.arange(STAGES), packs)
        # At the beginning there is nothing to ship or sell yet: those rows are purchases too.
        early = pack < 0
        pack[early] = (1 << 38) + number * self.rows + np.flatnonzero(early)
        stage[early] = BOUGHT
        window = self.time_of(number + 1) - self.time_of(number)
        time = self.time_of(number) + _mixed(pack, 11 + number) % max(window, 1)
        order = np.argsort(time, kind="stable")
        return self._table(pack[order], stage[order], time[order])

    def purchases(self, first: int, count: int) -> pa.RecordBatch:
        """Return purchases alone, of codes that :meth:`request` never uses, on the day before it."""
        pack = (1 << 37) + np.arange(first, first + count, dtype=np.int64)
        time = (FIRST_DAY - 1) * DAY + _mixed(pack, 11) % DAY
        return self._table(pack, np.full(count, BOUGHT), time)

    def _table(self, pack: Ints, stage: Ints, time: Ints) -> pa.RecordBatch:
        lot = pack // LOT * SENDERS + self.sender
        maker = _mixed(lot, 1) % MAKERS
        wholesaler = FIRST_WHOLESALER + _mixed(lot, 2) % WHOLESALERS
        pharmacy = FIRST_PHARMACY + _mixed(lot, 4) % PHARMACIES
        source = np.choose(stage, [maker, maker, wholesaler, wholesaler, pharmacy])
        target = np.choose(stage, [wholesaler, wholesaler, pharmacy, pharmacy, np.zeros_like(pack)])
        actor = np.where(stage % 2 == 1, target, source)
        sold = stage == SOLD
        key = ((pack * SENDERS + self.sender) * STAGES + stage).astype(np.uint64)
        bill = ((lot * STAGES + stage) + sold * (pack % LOT) * (1 << 50)).astype(np.uint64)
        buyer = (_mixed(key.view(np.int64), 9)[sold] % BUYERS).astype(np.uint64)
        price = 1000 + _mixed(_drug(pack), 5) % 4000 + stage * 200 + _mixed(lot, 6) % 20
        moments = pa.array(time, pa.timestamp("us"))
        columns = {
            "event_id": strings("e", digits(key, 16)),
            "event_time": moments,
            "record_time": moments,
            "event_type": pa.DictionaryArray.from_arrays(pa.array(stage.astype(np.int8)), TYPES),
            "code": self.codes(pack),
            "actor_id": _party(actor),
            "from_id": _party(source),
            "to_id": strings("P", digits(target[~sold].astype(np.uint64), 6), ~sold),
            "batch_no": strings("L", digits((lot % 10**8).astype(np.uint64), 8)),
            "unit_price": pa.array(price / 100),
            "bill_code": strings("B", digits(bill, 17)),
            # Longer than the number of a passport, which would be hashed.
            "buyer_id": strings("h", digits(buyer, 12), sold),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _drug(packs: Ints) -> Ints:
    drug: Ints = 1_000 + _mixed(packs // LOT, 3) % DRUGS
    return drug


def _party(number: Ints) -> pa.Array:
    return strings("P", digits(number.astype(np.uint64), 6))


def arrow_body(batch: pa.RecordBatch) -> bytes:
    """Return the batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def ndjson_body(batch: pa.RecordBatch) -> bytes:
    """Return the batch as one JSON object a line."""
    names = batch.schema.names
    texts = [
        (column.cast(pa.string()) if not pa.types.is_dictionary(column.type) else
         column.dictionary_decode()).to_pylist()
        for column in batch.columns
    ]  # fmt: skip
    form = "{" + ",".join(
        f'"{name}":%s' if name == "unit_price" else f'"{name}":"%s"' for name in names
    ) + "}\n"  # fmt: skip
    return (
        "".join([form % row for row in zip(*texts, strict=True)]).replace('"None"', "null").encode()
    )
