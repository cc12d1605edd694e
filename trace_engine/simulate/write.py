"""From numbers to files: the event table in canonical columns, ordered by event time.

Rows are spooled by days, so that a market bigger than memory can be sorted: first every block is
split over the days' buckets, then each bucket is sorted, given its texts and written.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from trace_engine.events.kinds import INFO, EventKind
from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.cities import CITIES
from trace_engine.simulate.details import Habits
from trace_engine.simulate.flows import MICRO
from trace_engine.simulate.market import DAY, Market
from trace_engine.simulate.noise import usual_lag
from trace_engine.simulate.rows import GIFT, NONE, SPLIT, STRUCT, Rows
from trace_engine.simulate.stated import EMPTY

FORMATS = ("parquet", "csv", "ndjson")
ROW_GROUP = 250_000
FILE_ROWS = 2_000_000
MEMORY_ROWS = 3_000_000  # rows held back in memory before buckets go to disk
_ID_FACTOR, _ID_OFFSET, _ID_SPACE = 387_420_489_17, 271_828_182_845, 10**12


class Spool:
    """Rows by bucket of days, in memory or, beyond ``MEMORY_ROWS``, in files of ``folder``."""

    def __init__(self, folder: Path, first_day: int, days: int, buckets: int) -> None:
        self._folder = folder
        self._first = first_day * DAY
        self._width = -(-days // buckets) * DAY
        self._count = -(-days * DAY // self._width)
        self._held: list[list[npt.NDArray[Any]]] = [[] for _ in range(self._count)]
        self._held_rows = 0
        self.rows = 0

    def add(self, rows: Rows) -> None:
        """Take rows (times in seconds, inside the window)."""
        bucket = (rows["time"] - self._first) // self._width
        packed = rows.struct()
        if self._count == 1:
            self._held[0].append(packed)
        else:
            order = np.argsort(bucket, kind="stable")
            packed = packed[order]
            edges = np.searchsorted(bucket[order], np.arange(self._count + 1))
            for b in range(self._count):
                if edges[b] < edges[b + 1]:
                    self._held[b].append(packed[edges[b] : edges[b + 1]])
        self.rows += len(rows)
        self._held_rows += len(rows)
        if self._held_rows > MEMORY_ROWS and self._count > 1:
            self._flush()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:05d}.rows"

    def _flush(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for b, parts in enumerate(self._held):
            if parts:
                with self._path(b).open("ab") as file:
                    for part in parts:
                        part.tofile(file)
                parts.clear()
        self._held_rows = 0

    def drain(self) -> Iterator[Rows]:
        """Yield each bucket's rows in order of time, then event id; the spool is empty after."""
        for b in range(self._count):
            parts = self._held[b]
            if self._path(b).exists():
                parts.insert(0, np.fromfile(self._path(b), STRUCT))
                self._path(b).unlink()
            if not parts:
                continue
            packed = np.concatenate(parts)
            self._held[b] = []
            order = np.lexsort((event_numbers(packed["uid"]), packed["time"]))
            yield Rows.from_struct(packed[order])
        if self._folder.exists():
            shutil.rmtree(self._folder)


def event_numbers(uid: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the twelve-digit number behind each event id: a permutation that hides the order."""
    out: npt.NDArray[np.uint64] = (
        uid.astype(np.uint64) % np.uint64(10**8) * np.uint64(_ID_FACTOR) + np.uint64(_ID_OFFSET)
    ) % np.uint64(_ID_SPACE)
    # uid × factor must fit 64 bits: the part of uid above 10^8 is added apart.
    high = uid.astype(np.uint64) // np.uint64(10**8)
    step = np.uint64(10**8 * _ID_FACTOR % _ID_SPACE)
    return (out + high * step) % np.uint64(_ID_SPACE)


def event_ids(uid: npt.NDArray[np.int64]) -> pa.Array:
    """Return event ids (``E`` + 12 digits) of uids; null where the uid is NONE."""
    present = uid != NONE
    text = code_numbers.digits(event_numbers(np.where(present, uid, 0)), 12, b"E")
    return code_numbers.text_array(text, None if present.all() else present)


class Texts:
    """The words behind the numbers of one market, as Arrow arrays to look up in."""

    def __init__(self, market: Market, party_ids: list[str]) -> None:
        m = market
        self.market = m
        self.habits = Habits(m)
        self.party = pa.array(party_ids)
        self.region = pa.array([c.code for c in CITIES])
        self.drug = pa.array(m.drug_ids)
        self.kind = pa.array(
            [INFO[EventKind(k)].name for k in range(max(int(k) for k in EventKind) + 1)]
        )
        self.batch = pa.array(m.batches.number)
        self.production = pa.array(np.array(m.batches.production, np.int32), pa.date32())
        expiry = [str(np.datetime64(day, "D")) for day in m.batches.expiry]
        # Full dates first, then the same to the month.
        self.expiry = pa.array(expiry + [text[:7] for text in expiry])
        self.platform = pa.array([party_ids[p] for p in m.shop_platform])
        self.shop = pa.array([shop_id(i) for i in range(len(m.shop_owner))])

    def table(self, rows: Rows) -> pa.Table:
        """Return the canonical event table of ``rows``."""
        m = self.market
        time = rows["time"] * MICRO
        lag = np.where(rows["lag"] == NONE, usual_lag(rows), rows["lag"])
        # A bill that carries a date only is uploaded in the evening of that day at the earliest.
        lag = lag + np.where(
            (time % (DAY * MICRO) == 0) & (rows["lag"] == NONE), 18 * 3600 * MICRO, 0
        )
        month = m.month_expiry[rows["actor"]].astype(np.int32)
        online = rows["shop"]
        stated = self.habits.columns(rows)
        columns = {
            "event_id": event_ids(rows["uid"]),
            "event_time": pa.array(time, pa.timestamp("us")),
            "record_time": pa.array(time + lag, pa.timestamp("us")),
            "event_type": self.kind.take(pa.array(rows["kind"])),
            "code": code_numbers.code_texts(
                rows["code"], m.gtins, m.other_codes, m.bare_gs1[rows["actor"]]
            ),
            "parent_code": self._parents(stated["parent"]),
            "pack_level": pa.array(
                stated["pack_level"].astype(np.int8), mask=stated["pack_level"] < 0
            ),
            "actor_id": _look_up(self.party, rows["actor"]),
            "from_id": _look_up(self.party, rows["source"]),
            "to_id": _look_up(self.party, rows["target"]),
            "from_region": _look_up(self.region, rows["source_city"]),
            "to_region": _look_up(self.region, rows["target_city"]),
            "drug_id": _look_up(self.drug, rows["drug"]),
            "batch_no": _look_up(self.batch, rows["batch"]),
            "production_date": _look_up(self.production, rows["batch"]),
            "expiry_date": _look_up(self.expiry, rows["batch"] + month * len(self.batch)),
            "quantity": pa.array(rows["quantity"]),
            "unit_price": _decimal(rows["price"]),
            "bill_code": _numbered(rows["bill"], b"B"),
            "from_bill_code": _numbered(rows["from_bill"], b"B"),
            "order_code": _numbered(rows["order"], b"O"),
            "invoice_no": _numbered(stated["invoice"], b"I"),
            "platform_id": _look_up(self.platform, online),
            "shop_id": _look_up(self.shop, online),
            "buyer_id": _numbered(rows["buyer"], b"P"),
            "contact_id": _numbered(stated["contact"], b"C"),
            "address_id": _numbered(stated["address"], b"A"),
            "buyer_device_id": _numbered(stated["buyer_device"], b"BD"),
            "rx_no": _numbered(rows["prescription"], b"R"),
            "pharmacist_id": _numbered(stated["pharmacist"], b"PH"),
            "doctor_id": _numbered(stated["doctor"], b"DR"),
            "device_id": _numbered(stated["device"], b"D"),
            "operator_id": _numbered(stated["operator"], b"U"),
            "split_sale": pa.array((rows["flags"] & SPLIT) > 0),
            "gift": pa.array((rows["flags"] & GIFT) > 0),
            "receivable": _number(rows["receivable"]),
            "temperature": pa.array(
                (stated["temperature"] / 100).astype(np.float32),
                mask=np.isin(stated["temperature"], (NONE, EMPTY)),
            ),
            "voids_event_id": event_ids(rows["voids"]),
        }
        return pa.table(columns)

    def _parents(self, parent: npt.NDArray[np.uint64]) -> pa.Array:
        """Return the codes of cases, null where there is none (0)."""
        stated = parent != 0
        if not stated.any():
            return pa.nulls(len(parent), pa.string())
        m = self.market
        codes = code_numbers.code_texts(parent[stated], m.gtins, m.other_codes)
        place = np.zeros(len(parent), np.int64)
        place[stated] = np.arange(len(codes))
        return codes.take(pa.array(place, mask=~stated))


def shop_id(index: int) -> str:
    """Return the id of a shop."""
    return f"SHOP{index:06d}"


def _look_up(words: pa.Array, index: npt.NDArray[Any]) -> pa.Array:
    missing = index < 0
    if not missing.any():
        return words.take(pa.array(index))
    return words.take(pa.array(index, mask=missing))


def _numbered(values: npt.NDArray[Any], prefix: bytes) -> pa.Array:
    """Return numbers as texts: ``prefix`` and ten digits; null where negative."""
    present = values >= 0
    if present.all():
        return code_numbers.text_array(
            code_numbers.digits(values.astype(np.uint64), 10, prefix), None
        )
    if not present.any():
        return pa.nulls(len(values), pa.string())
    return code_numbers.sparse_array(
        code_numbers.digits(values[present].astype(np.uint64), 10, prefix), present
    )


def _number(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, mask=values < 0)


def _decimal(fen: npt.NDArray[np.int32]) -> pa.Array:
    """Return fen as decimal(12, 2) CNY, null where negative."""
    wide = np.zeros((len(fen), 2), np.int64)
    wide[:, 0] = fen
    present = fen >= 0
    validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        pa.decimal128(12, 2), len(fen), [validity, pa.py_buffer(wide.tobytes())]
    )


class Writer:
    """Writes ordered tables as numbered files of a folder, ``FILE_ROWS`` rows each."""

    def __init__(self, folder: Path, form: str) -> None:
        self._folder = folder
        self._form = form
        self._number = 0
        self._in_file = 0
        self._parquet: pq.ParquetWriter | None = None
        self._text: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: pa.Table) -> None:
        """Append a table."""
        start = 0
        while start < len(table):
            if self._in_file >= FILE_ROWS:
                self.close()
            part = table.slice(start, min(ROW_GROUP, FILE_ROWS - self._in_file))
            self._put(part)
            self._in_file += len(part)
            start += len(part)

    def _put(self, part: pa.Table) -> None:
        if self._parquet is None and self._text is None:
            path = self._folder / f"events-{self._number:05d}.{self._form}"
            self._number += 1
            if self._form == "parquet":
                self._parquet = pq.ParquetWriter(
                    path,
                    part.schema,
                    compression="zstd",
                    compression_level=1,
                    use_dictionary=_FEW_VALUES,
                    store_schema=False,
                )
            else:
                self._text = path.open("wb")
        if self._parquet is not None:
            self._parquet.write_table(part)
        elif self._form == "csv":
            options = pa_csv.WriteOptions(include_header=self._in_file == 0, quoting_style="needed")
            sink = io.BytesIO()
            pa_csv.write_csv(_plain(part), sink, options)
            self._text.write(sink.getvalue())
        else:
            for record in _plain(part).to_pylist():
                line = {k: v for k, v in record.items() if v is not None}
                self._text.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Finish the current file."""
        if self._parquet is not None:
            self._parquet.close()
        if self._text is not None:
            self._text.close()
        self._parquet = self._text = None
        self._in_file = 0


_FEW_VALUES = [
    "event_type", "actor_id", "from_id", "to_id", "from_region", "to_region", "drug_id",
    "batch_no", "production_date", "expiry_date", "platform_id", "shop_id", "device_id",
    "unit_price", "quantity", "pack_level", "receivable",
]  # fmt: skip


def _plain(table: pa.Table) -> pa.Table:
    """Return the table with times, dates and prices as text, as a text export has them."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(table.column(i).cast(pa.timestamp("s")), "%Y-%m-%d %H:%M:%S")
            table = table.set_column(i, field.name, text)
        elif pa.types.is_date(field.type) or pa.types.is_decimal(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
    return table


def write_events(
    spool: Spool, texts: Texts, folder: Path, form: str, progress: Callable[[int], None]
) -> int:
    """Write everything in ``spool``; returns the number of rows.

    One thread writes while the next rows are given their texts; at most one table waits.
    """
    writer = Writer(folder, form)
    written = 0
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1) as pool:
        try:
            for rows in spool.drain():
                for start in range(0, len(rows), ROW_GROUP):
                    stop = start + ROW_GROUP
                    part = Rows({k: v[start:stop] for k, v in rows.columns.items()})
                    table = texts.table(part)
                    if waiting is not None:
                        waiting.result()
                    waiting = pool.submit(writer.write, table)
                    written += len(part)
                    progress(len(part))
            if waiting is not None:
                waiting.result()
        finally:
            pool.shutdown()
            writer.close()
    return written
