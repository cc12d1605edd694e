"""Arrow tables to files: Parquet with the same bytes each time, CSV that a spreadsheet may open."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection"). Tab and carriage
# return count because spreadsheets skip them and look at the next character.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
CSV_SLICE_ROWS = 50_000
LIST_SEPARATOR = "; "


def safe_text(text: str) -> str:
    """Return ``text`` so that a spreadsheet shows it and never computes it.

    A cell that begins like a formula gets an apostrophe in front. NUL characters, which end a cell
    in some programs, are dropped.
    """
    text = text.replace("\x00", "")
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def cell(value: Any) -> str | int | float:
    """Return one CSV cell. Numbers stay numbers; text is made harmless; lists are joined."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], (list, tuple)) and len(value[0]) == 2:
            value = dict(value)  # an Arrow map arrives as pairs
        elif all(not isinstance(part, Mapping) for part in value):
            return safe_text(LIST_SEPARATOR.join(str(cell(part)) for part in value))
    if isinstance(value, (list, tuple, Mapping)):
        return safe_text(msgspec.json.encode(value, order="sorted").decode())
    return safe_text(str(value))


def write_csv(table: pa.Table, path: Path, headers: Mapping[str, str] | None = None) -> None:
    """Write ``table`` as CSV: UTF-8 with a byte-order mark, CRLF line ends, cells made harmless.

    ``headers`` gives other names to columns. Lists are joined by ``"; "``, maps become JSON, times
    are written as ``YYYY-MM-DD HH:MM:SS`` of the column's own time zone.
    """
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([(headers or {}).get(name, name) for name in table.column_names])
        for start in range(0, table.num_rows, CSV_SLICE_ROWS):
            part = table.slice(start, CSV_SLICE_ROWS)
            columns = [_cells(part.column(i)) for i in range(part.num_columns)]
            writer.writerows(zip(*columns, strict=True))


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows of equal keys as CSV like :func:`write_csv`, for standard output."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0] if rows else ())
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _cells(column: pa.ChunkedArray) -> Sequence[str | int | float]:
    values = column.to_pylist()
    if pa.types.is_string(column.type):
        return ["" if value is None else safe_text(value) for value in values]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return ["" if value is None else value for value in values]
    return [cell(value) for value in values]


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write ``table`` as Parquet (zstd). The same table gives the same bytes."""
    pq.write_table(
        table.combine_chunks(),
        path,
        compression="zstd",
        compression_level=3,
        row_group_size=131_072,
        store_schema=True,
    )
