"""Arrow columns of text made from numbers without a Python string, and row groups of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

_FOUR_DIGITS = np.array(
    [[ord(c) for c in f"{number:04d}"] for number in range(10_000)], dtype=np.uint8
)


def digits(values: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint8]:
    """Return ``values`` as zero-padded decimal text, shape ``(n, width)``."""
    groups = -(-width // 4)
    text = np.empty((len(values), groups * 4), np.uint8)
    rest = values.astype(np.uint64)
    for group in range(groups - 1, -1, -1):
        rest, last = np.divmod(rest, np.uint64(10_000))
        text[:, group * 4 : group * 4 + 4] = _FOUR_DIGITS[last.astype(np.intp)]
    return text[:, groups * 4 - width :]


def strings(
    letter: str | npt.NDArray[np.uint8],
    digits: npt.NDArray[np.uint8],
    present: npt.NDArray[np.bool_] | None = None,
) -> pa.Array:
    """Return an Arrow string array: one letter, then ``digits``; null where not ``present``.

    ``digits`` has one row for each present value.
    """
    text = np.empty((len(digits), digits.shape[1] + 1), np.uint8)
    text[:, 0] = ord(letter) if isinstance(letter, str) else letter
    text[:, 1:] = digits
    width = text.shape[1]
    rows = len(digits) if present is None else len(present)
    offsets = np.zeros(rows + 1, np.int32)
    if present is None:
        offsets[1:] = np.arange(1, rows + 1, dtype=np.int64) * width
        validity = None
    else:
        np.cumsum(present * np.int32(width), out=offsets[1:])
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


def chosen(
    index: npt.NDArray[np.int64], dictionary: pa.Array, present: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return ``dictionary[index]`` as an Arrow dictionary array; null where not ``present``."""
    mask = None if present is None else ~present
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32), mask=mask), dictionary)


class RowGroups:
    """Write tables to one Parquet file (zstd) in row groups of exactly ``rows`` rows.

    Arrow dictionaries are written as plain strings with dictionary encoding, as any other system
    would write them: the file carries no Arrow schema. ``text`` names the columns that are not
    worth a dictionary.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows: int, text: set[str]) -> None:
        self._rows = rows
        self._waiting = schema.empty_table()
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name not in text],
            store_schema=False,
        )

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while self._waiting.num_rows >= self._rows:
            self._writer.write_table(self._waiting.slice(0, self._rows), self._rows)
            self._waiting = self._waiting.slice(self._rows)

    def close(self) -> None:
        """Write what is left."""
        if self._waiting.num_rows:
            self._writer.write_table(self._waiting, self._rows)
        self._writer.close()
