"""An event log on disk: a chunk is two Arrow files, mapped into memory when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.eventlog import Chunk, EventLog
from trace_engine.events.batch import STRING_COLUMNS, EventBatch, texts_at


def write_ipc(path: Path, table: pa.Table) -> None:
    """Write ``table`` as an uncompressed Arrow file, which maps without copying."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_ipc(path: Path) -> pa.Table:
    """Return a table mapped from an Arrow file."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


class FolderChunk:
    """A chunk in two files, mapped only while something is read: what is mapped counts as used."""

    def __init__(self, folder: Path, number: int, length: int) -> None:
        self._numbers = folder / f"{number:06d}-numbers.arrow"
        self._strings = folder / f"{number:06d}-strings.arrow"
        self._length = length
        self._remapped = False
        self._names: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return self._length

    def write(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> None:
        """Write the chunk's files."""
        numbers = {name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()}
        self._names = frozenset(columns)
        if batch.string_rows is not None:
            numbers["string_row"] = pa.array(batch.string_rows)
            self._remapped = True
        write_ipc(self._numbers, pa.table(numbers))
        write_ipc(self._strings, batch.strings.select(STRING_COLUMNS))

    def has(self, name: str) -> bool:
        """Return whether a column of ``LOG_OPTIONAL`` is held."""
        return name in self._names

    def columns(
        self, names: Sequence[str], rows: npt.NDArray[np.int64] | None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return numeric columns at ``rows`` (all for None)."""
        table = read_ipc(self._numbers)
        found = {}
        for name in names:
            column = table[name]
            # A file of ours holds one chunk (none if empty); joining chunks would copy it.
            whole = column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()
            found[name] = whole if rows is None else whole[rows]
        return found

    def texts(
        self, names: Sequence[str], rows: npt.NDArray[np.int64]
    ) -> dict[str, list[str | None]]:
        """Return strings at ``rows``."""
        if self._remapped:
            rows = self.columns(["string_row"], rows)["string_row"]
        table = read_ipc(self._strings)
        return {name: texts_at(table[name], rows) for name in names}


class FolderLog(EventLog):
    """An event log whose chunks lie in ``folder``, which its maker removes."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _keep(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> Chunk:
        chunk = FolderChunk(self.folder, len(self.chunks), len(batch))
        chunk.write(columns, batch)
        return chunk
