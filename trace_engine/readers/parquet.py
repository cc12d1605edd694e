"""Parquet files: a unit for each row group, labels read as dictionaries, times from statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.events.batch import DAY
from trace_engine.events.parsing import SHANGHAI_OFFSET
from trace_engine.events.raw import InputError, RawBatch
from trace_engine.events.schema import LABELS, match_headers
from trace_engine.events.texts import is_text
from trace_engine.readers.units import Unit

_TO_MICROSECONDS = {"milliseconds": (1000, 1), "microseconds": (1, 1), "nanoseconds": (1, 1000)}
_READ_ERRORS = (pa.ArrowException, OSError, ValueError)


@dataclass
class ParquetUnit(Unit):
    """One row group of one file."""

    path: str
    size_bytes: int
    first_time: int | None
    last_time: int | None
    rows: int | None
    group: int
    first_row: int
    headers: dict[str, str]  # canonical name -> column of the file
    labels: list[str]  # columns of the file to read as dictionaries
    batch_rows: int

    def batches(self) -> Iterator[RawBatch]:
        """Yield the row group in batches of at most ``batch_rows`` rows."""
        row = self.first_row
        names = list(self.headers)
        columns = list(self.headers.values())
        try:
            with pq.ParquetFile(
                self.path, read_dictionary=self.labels, memory_map=True, pre_buffer=False
            ) as file:
                for batch in file.iter_batches(
                    self.batch_rows, row_groups=[self.group], columns=columns, use_threads=False
                ):
                    arrays = [batch.column(header) for header in columns]
                    yield RawBatch(pa.RecordBatch.from_arrays(arrays, names), self.path, row)
                    row += batch.num_rows
        except _READ_ERRORS as error:
            raise damaged(self.path, error) from error


def damaged(path: str, error: Exception) -> InputError:
    """Return the error for a Parquet file whose bytes make no sense."""
    return InputError(
        f"{path}: not readable as Parquet, truncated or damaged ({error})",
        f"{path}：无法作为 Parquet 读取，文件被截断或损坏（{error}）",
    )


def parquet_units(path: str, batch_rows: int) -> list[Unit]:
    """Return the units of one file; none if it holds no rows.

    Raises :class:`InputError` for a damaged file, missing columns or nested types.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            leaves = {file.schema.column(i).path: i for i in range(len(file.schema))}
            headers = match_headers(schema.names, path).columns
            leaf = leaves.get(headers["event_time"])
            time_logic = _time_logic(file, leaf)
    except _READ_ERRORS as error:
        raise damaged(path, error) from error
    for name, header in headers.items():
        kind = schema.field(header).type
        if pa.types.is_nested(kind):
            raise InputError(
                f"{path}: column {header} has type {kind}; expected one value a row",
                f"{path}：列 {header} 的类型为 {kind}，应为每行一个值",
            )
        if name == "code" and pa.types.is_floating(kind):
            raise InputError(
                f"{path}: column {header} has type {kind}: codes of 20 digits do not survive as "
                "floating-point numbers; expected text",
                f"{path}：列 {header} 的类型为 {kind}：20 位追溯码无法用浮点数表示，应为文本",
            )
    labels = [
        headers[name]
        for name in LABELS
        if name in headers and is_text(schema.field(headers[name]).type)
    ]
    units: list[Unit] = []
    first_row = 1
    wanted = set(headers.values())
    for group in range(metadata.num_row_groups):
        part = metadata.row_group(group)
        size = sum(
            part.column(i).total_compressed_size
            for i in range(part.num_columns)
            if part.column(i).path_in_schema in wanted
        )
        first, last = _time_range(part, leaf, time_logic)
        if part.num_rows:
            units.append(
                ParquetUnit(
                    path, size, first, last, part.num_rows, group, first_row, headers, labels,
                    batch_rows,
                )
            )  # fmt: skip
        first_row += part.num_rows
    return units


def _time_logic(file: pq.ParquetFile, leaf: int | None) -> dict[str, object] | None:
    """Return the logical type (as JSON) of the column of event times, if it is a time or a date."""
    if leaf is None:
        return None
    logic: dict[str, object] = json.loads(file.schema.column(leaf).logical_type.to_json())
    return logic if logic.get("Type") in ("Timestamp", "Date") else None


def _time_range(
    group: pq.RowGroupMetaData, leaf: int | None, logic: dict[str, object] | None
) -> tuple[int | None, int | None]:
    """Return first and last event time of a row group by its statistics, µs of Shanghai time."""
    if leaf is None or logic is None:
        return None, None
    statistics = group.column(leaf).statistics
    if statistics is None or not statistics.has_min_max:
        return None, None
    low, high = statistics.min_raw, statistics.max_raw
    if not (isinstance(low, int) and isinstance(high, int)):
        return None, None
    if logic["Type"] == "Date":
        return low * DAY, high * DAY
    factor, divisor = _TO_MICROSECONDS[str(logic["timeUnit"])]
    shift = SHANGHAI_OFFSET if logic["isAdjustedToUTC"] else 0
    return low * factor // divisor + shift, high * factor // divisor + shift
