"""An event log on disk: a chunk is two Arrow files, mapped into memory when it is asked for."""

from __future__ import annotations

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
    """A chunk in two files, mapped into memory when first asked for."""

    def __init__(self, folder: Path, number: int, length: int) -> None:
        self._numbers = folder / f"{number:06d}-numbers.arrow"
        self._strings = folder / f"{number:06d}-strings.arrow"
        self._length = length
        self._remapped = False
        self._mapped: dict[Path, pa.Table] = {}  # opened when first asked for

    def __len__(self) -> int:
        return self._length

    def write(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> None:
        """Write the chunk's files."""
        numbers = {name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()}
        if batch.string_rows is not None:
            numbers["string_row"] = pa.array(batch.string_rows)
            self._remapped = True
        write_ipc(self._numbers, pa.table(numbers))
        write_ipc(self._strings, batch.strings.select(STRING_COLUMNS))

    def _table(self, path: Path) -> pa.Table:
        if path not in self._mapped:
            self._mapped[path] = read_ipc(path)
        return self._mapped[path]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a numeric column."""
        column = read_ipc(self._numbers)[name]
        found: npt.NDArray[Any] = (
            column.chunk(0).to_numpy() if column.num_chunks else (np.empty(0, np.int64))
        )
        return found

    def text(self, name: str, rows: npt.NDArray[np.int64]) -> list[str | None]:
        """Return strings at ``rows``."""
        if self._remapped:
            rows = self.column("string_row")[rows]
        return texts_at(self._table(self._strings)[name], rows)


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
