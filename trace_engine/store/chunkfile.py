"""Arrow files and where in them the bytes of each column lie.

A file that is read a few rows at a time is mapped and read at known places: asking Arrow to open it
takes 0.2 ms each time, which is more than the reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.store.syncing import SteadyFile

Layout = Mapping[str, Any]
"""Numeric column: ``[dtype, place]``; strings: parts ``[rows, validity, offsets, data]``, -1 none."""

Int64 = npt.NDArray[np.int64]

FEW = 64  # rows read one by one


def write_ipc(path: Path, table: pa.Table, *, sync: bool = False) -> None:
    """Write ``table`` as an uncompressed Arrow file, which maps without copying.

    With ``sync`` it is on the disk afterwards.
    """
    if not sync:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return
    with SteadyFile(path) as file, pa.ipc.new_file(pa.PythonFile(file), table.schema) as writer:
        writer.write_table(table)


def read_ipc(path: Path) -> pa.Table:
    """Return a table mapped from an Arrow file."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def layout_of(path: Path) -> dict[str, Any]:
    """Return where in an Arrow file of numbers and strings each column lies."""
    with pa.memory_map(str(path)) as source:
        whole = source.read_buffer(source.size())
        table = pa.ipc.open_file(whole).read_all()
        base = whole.address

        def place(buffer: pa.Buffer | None) -> int:
            return -1 if buffer is None else int(buffer.address - base)

        layout: dict[str, Any] = {}
        for name, column in zip(table.schema.names, table.columns, strict=True):
            if column.type == pa.string():
                layout[name] = [
                    [len(part), *map(place, part.buffers())] for part in column.chunks if len(part)
                ]
            else:
                parts = [part for part in column.chunks if len(part)]
                if len(parts) > 1 or column.null_count:
                    raise ValueError(f"{path}: {name} is in {len(parts)} parts, or has gaps")
                kind = np.dtype(column.type.to_pandas_dtype()).str
                layout[name] = [kind, place(parts[0].buffers()[1]) if parts else 0]
        del table, whole
    return layout


def numbers_at(mapped: Any, where: list[Any], rows: int) -> npt.NDArray[Any]:
    """Return a numeric column of a mapped file (a view)."""
    kind, begin = where
    return np.frombuffer(mapped, kind, rows, begin)


def strings_at(mapped: Any, parts: list[list[int]], rows: Int64) -> list[str | None]:
    """Return the strings at ``rows`` of a column of a mapped file."""
    if len(parts) == 1:
        return _part(mapped, parts[0], rows)
    ends = np.cumsum([part[0] for part in parts])
    which = np.searchsorted(ends, rows, side="right")
    out: list[str | None] = [None] * len(rows)
    for number in np.unique(which).tolist():
        places = np.flatnonzero(which == number)
        begin = int(ends[number]) - parts[number][0]
        found = _part(mapped, parts[number], rows[places] - begin)
        for at, text in zip(places.tolist(), found, strict=True):
            out[at] = text
    return out


def _part(mapped: Any, part: list[int], rows: Int64) -> list[str | None]:
    count, validity, offsets, data = part
    bounds = np.frombuffer(mapped, np.int32, count + 1, offsets)
    if len(rows) > FEW:
        whole = memoryview(mapped)
        buffers = [
            None if validity < 0 else pa.py_buffer(whole[validity:]),
            pa.py_buffer(whole[offsets:]),
            pa.py_buffer(b"") if data < 0 else pa.py_buffer(whole[data:]),  # none: all are empty
        ]
        array = pa.Array.from_buffers(pa.string(), count, buffers)
        texts: list[str | None] = array.take(pa.array(rows)).to_pylist()
        return texts
    out: list[str | None] = []
    for row in rows.tolist():
        if validity >= 0 and not mapped[validity + (row >> 3)] >> (row & 7) & 1:
            out.append(None)
            continue
        begin, end = int(bounds[row]), int(bounds[row + 1])
        out.append(mapped[data + begin : data + end].decode() if end > begin else "")
    return out
