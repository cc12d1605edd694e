"""Raw rows to the canonical event table, for ``convert``.

The encoder says which rows can be taken and what their times, prices and the like are; what it only
checks (prescription, device, ...) is taken from the row itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from trace_engine.cli.bilingual import say
from trace_engine.cli.errors import UserError
from trace_engine.events import batch as b
from trace_engine.events.batch import EventBatch, Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.kinds import INFO, EventKind
from trace_engine.events.raw import RawBatch
from trace_engine.events.schema import CANONICAL, COLUMNS
from trace_engine.events.values import ValueReader, as_text
from trace_engine.readers import EventSource

SHANGHAI_OFFSET = 8 * b.HOUR  # µs east of UTC
_NAMES = pa.array([INFO[EventKind(i)].name for i in range(len(EventKind))])
_STRINGS = {"event_id", "bill_code", "order_code", "buyer_id"}
_WHOLE = {"pack_level": pa.int8(), "receivable": pa.int32()}
WRITERS = (".parquet", ".csv", ".ndjson", ".jsonl")


class Converter:
    """Turns raw batches into tables of schema ``CANONICAL``; rejected rows are collected."""

    def __init__(self) -> None:
        self._encoder = Encoder(Vocabulary())
        self._values = ValueReader()
        self.rejects: list[pa.Table] = []
        self.rows = 0

    def convert(self, raw: RawBatch) -> pa.Table:
        """Return the rows of ``raw`` that are events."""
        encoded = self._encoder.encode(raw)
        self.rows += len(raw)
        kept = np.ones(len(raw), np.bool_)
        if encoded.rejects.num_rows:
            self.rejects.append(encoded.rejects)
            refused = encoded.rejects.column("row").to_numpy()
            numbers = raw.rows if raw.rows is not None else raw.first_row + np.arange(len(raw))
            kept = ~np.isin(numbers, refused)
        rows = raw.batch.filter(pa.array(kept))
        columns = [self._column(c.name, encoded.batch, rows).cast(c.type) for c in COLUMNS]
        return pa.Table.from_arrays(columns, schema=CANONICAL)

    def _column(self, name: str, events: EventBatch, rows: pa.RecordBatch) -> pa.Array:
        """Return one column; null where the source does not state it."""
        if name in _STRINGS:
            text = events.compact_strings().column(name).combine_chunks()
            if name != "event_id":
                return text
            # A row without an id gets a name from its content for evidence: it is not its id.
            return pc.if_else(pc.starts_with(text, "content:"), pa.scalar(None, pa.string()), text)
        derived = _DERIVED.get(name)
        if derived is not None:
            return derived(events)
        if name not in rows.schema.names:
            return pa.nulls(len(events), pa.string())
        stated = rows.column(name)
        if pa.types.is_null(stated.type):
            return pa.nulls(len(events), pa.string())
        if name == "event_type":
            named = _NAMES.take(pa.array(events.kind))
            known = pa.array(events.kind != EventKind.UNKNOWN)
            return pc.if_else(known, named, as_text(stated, name).cast(pa.string()))
        if name in _WHOLE:
            return _nullable(self._values.whole(stated, name), b.MISSING_TIME, pa.int64())
        if name == "temperature":
            milli = self._values.milli(stated, name)
            degrees = np.where(milli == b.MISSING_TIME, np.nan, milli / 1000)
            return pa.array(degrees.astype(np.float32), from_pandas=True)
        text = pc.utf8_trim_whitespace(as_text(stated, name).cast(pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _nullable(
    values: npt.NDArray[Any], missing: int | np.integer[Any], kind: pa.DataType
) -> pa.Array:
    return pa.array(values, kind, mask=values == missing)


def _time(values: npt.NDArray[np.int64]) -> pa.Array:
    missing = values == b.MISSING_TIME
    utc = np.where(missing, 0, values - SHANGHAI_OFFSET)
    return pa.array(utc, pa.timestamp("us", tz="Asia/Shanghai"), mask=missing)


def _expiry(events: EventBatch) -> pa.Array:
    days = _nullable(events.expiry, b.MISSING_DAY, pa.date32()).cast(pa.string())
    month_only = pa.array((events.flags & b.EXPIRY_MONTH_ONLY) != 0)
    return pc.if_else(month_only, pc.utf8_slice_codeunits(days, 0, 7), days)


def _price(events: EventBatch) -> pa.Array:
    fen = _nullable(events.price, b.MISSING, pa.int64()).cast(pa.decimal128(19, 0))
    return pc.multiply(fen, pa.scalar("0.01").cast(pa.decimal128(3, 2)))


def _flag(bit: int) -> Callable[[EventBatch], pa.Array]:
    return lambda events: pa.array((events.flags & bit) != 0)


_DERIVED: dict[str, Callable[[EventBatch], pa.Array]] = {
    "event_time": lambda events: _time(events.time),
    "record_time": lambda events: _time(events.record_time),
    "production_date": lambda events: _nullable(events.production, b.MISSING_DAY, pa.date32()),
    "expiry_date": _expiry,
    "quantity": lambda events: pa.array(events.quantity),
    "unit_price": _price,
    "split_sale": _flag(b.SPLIT_SALE),
    "gift": _flag(b.GIFT),
}


def _plain(table: pa.Table) -> pa.Table:
    """Return ``table`` with dictionaries as text and times as Shanghai wall clock without zone."""
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            columns.append(column.cast(pa.string()))
        elif pa.types.is_timestamp(column.type):
            columns.append(pc.local_timestamp(column))
        else:
            columns.append(column)
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


class _LinesWriter:
    """Newline-delimited JSON; null fields are left out."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of ``table``."""
        rows = (
            {name: value for name, value in row.items() if value is not None}
            for row in _plain(table).to_pylist()
        )
        self._file.write(self._encoder.encode_lines(list(rows)))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class _CsvWriter:
    """CSV with a header, UTF-8."""

    def __init__(self, path: Path) -> None:
        schema = _plain(CANONICAL.empty_table()).schema
        self._writer = pa_csv.CSVWriter(path, schema)

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of ``table``."""
        self._writer.write_table(_plain(table))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def open_writer(path: Path) -> Any:
    """Return a writer (``write_table``, ``close``) by the file's extension."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pq.ParquetWriter(path, CANONICAL, compression="zstd")
    if suffix == ".csv":
        return _CsvWriter(path)
    if suffix in (".ndjson", ".jsonl"):
        return _LinesWriter(path)
    raise UserError(
        say(
            f"{path}：扩展名应为 {'、'.join(WRITERS)}",
            f"{path}: expected a name ending in {', '.join(WRITERS)}",
        )
    )


def tables(source: EventSource, converter: Converter) -> Iterator[pa.Table]:
    """Yield the canonical tables of all batches of a source."""
    for raw in source.batches():
        yield converter.convert(raw)
