"""An event log on disk: a chunk is two Arrow files, mapped into memory when it is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.eventlog import Chunk, EventLog, MemoryChunk
from trace_engine.events.batch import STRING_COLUMNS, EventBatch
from trace_engine.store.arrays import file_checksum
from trace_engine.store.chunkfile import (
    Layout,
    layout_of,
    numbers_at,
    read_ipc,
    strings_at,
    write_ipc,
)
from trace_engine.store.maps import Maps, map_file
from trace_engine.store.room import WaitsForRoom, with_room

Int64 = npt.NDArray[np.int64]

SCATTERED = 16384  # values: more are read through a map of their own, closed when they are read
_NUMBERS, _STRINGS = "numbers.arrow", "strings.arrow"


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """A file of a chunk as it was when written."""

    name: str
    size: int  # bytes
    checksum: int  # CRC-32


def _identity(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another that takes its name, and even its inode, later."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def chunk_names(number: int) -> tuple[str, str]:
    """Return the names of the files of chunk ``number``."""
    return f"{number:06d}-{_NUMBERS}", f"{number:06d}-{_STRINGS}"


def place_file(source: Path, target: Path) -> None:
    """Have the file ``source`` under another name too: linked, or where that cannot be, copied."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class FolderChunk:
    """A chunk in two files: numeric columns, and strings."""

    def __init__(
        self,
        folder: Path,
        number: int,
        length: int,
        maps: Maps | None,
        layout: Layout | None = None,
    ) -> None:
        """Know files that are there; without ``maps`` they are mapped at once and for good."""
        self.paths = tuple(folder / name for name in chunk_names(number))
        self.on_disk = False  # whether the system was asked to write it there
        self._length = length
        self._maps = maps
        self._layouts: Layout = layout if layout is not None else self._look()
        self._files: tuple[ChunkFile, ...] | None = None
        self._held = None if maps is not None else [map_file(p, scattered=True) for p in self.paths]
        self._identity = [_identity(path) for path in self.paths]

    def _look(self) -> Layout:
        numbers, strings = (layout_of(path) for path in self.paths)
        return {"numbers": numbers, "strings": strings}

    @classmethod
    def write(
        cls,
        folder: Path,
        number: int,
        columns: Mapping[str, npt.NDArray[Any]],
        strings: pa.Table,
        string_rows: Int64 | None,
        maps: Maps | None,
        *,
        sync: bool = False,
    ) -> FolderChunk:
        """Write a chunk: ``strings`` holds the columns of ``STRING_COLUMNS``.

        ``string_rows`` are its rows in it (None: all of them, in order). With ``sync`` the files
        are on the disk afterwards (their names are not yet).
        """
        rows = len(columns["time"])
        numbers = {name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()}
        if string_rows is not None:
            if strings.num_rows > 2 * rows:
                strings, string_rows = taken(strings, string_rows), None
            else:
                numbers["string_row"] = pa.array(string_rows)
        tables = (pa.table(numbers), strings.select(STRING_COLUMNS).combine_chunks())
        paths = [folder / name for name in chunk_names(number)]
        try:
            for path, table in zip(paths, tables, strict=True):
                path.unlink(missing_ok=True)  # it may have other names
                write_ipc(path, table, sync=sync)
        except OSError:
            for path in paths:  # half a file takes room that others need
                path.unlink(missing_ok=True)
            raise
        written = cls(folder, number, rows, maps)
        written.on_disk = sync
        return written

    def __len__(self) -> int:
        return self._length

    @property
    def layout(self) -> Layout:
        """Where the columns lie in the files: spares who loads the chunk to look."""
        return self._layouts

    def files(self) -> tuple[ChunkFile, ...]:
        """Return names, sizes and checksums of the files, which are read once for it."""
        if self._files is None:
            self._files = tuple(
                ChunkFile(path.name, path.stat().st_size, file_checksum(path))
                for path in self.paths
            )
        return self._files

    def remember(self, files: Sequence[ChunkFile]) -> None:
        """Take checksums as known: those of files that were checked, or are trusted."""
        self._files = tuple(files)

    def lies_there(self) -> bool:
        """Return whether the files are still under their names, and still the same."""
        with suppress(OSError):
            return [_identity(path) for path in self.paths] == self._identity
        return False

    def has(self, name: str) -> bool:
        """Return whether a column of ``LOG_OPTIONAL`` is held."""
        return name in self._layouts["numbers"]

    def _mapped(self, file: int, values: int) -> Any:
        """Return the map of a file, of which so many values will be read."""
        if self._held is not None:
            return self._held[file]
        assert self._maps is not None
        path = self.paths[file]
        if values > SCATTERED:
            return map_file(path, scattered=False)
        return self._maps.get(path, values)

    def columns(self, names: Sequence[str], rows: Int64 | None) -> dict[str, npt.NDArray[Any]]:
        """Return numeric columns at ``rows`` (all for None, and then read-only)."""
        if self._length == 0:
            layout = self._layouts["numbers"]
            return {name: np.empty(0, layout[name][0]) for name in names}
        mapped = self._mapped(0, len(names) * (self._length if rows is None else len(rows)))
        found = {}
        for name in names:
            whole = numbers_at(mapped, self._layouts["numbers"][name], self._length)
            found[name] = whole if rows is None else whole[rows]
        return found

    def texts(self, names: Sequence[str], rows: Int64) -> dict[str, list[str | None]]:
        """Return strings at ``rows``."""
        if len(rows) == 0:
            return {name: [] for name in names}
        if "string_row" in self._layouts["numbers"]:
            rows = self.columns(["string_row"], rows)["string_row"]
        mapped = self._mapped(1, 2 * len(names) * len(rows))
        return {name: strings_at(mapped, self._layouts["strings"][name], rows) for name in names}

    def write_again(self, folder: Path, number: int) -> FolderChunk:
        """Write the chunk anew elsewhere: where its files are gone and only the maps are left."""
        columns = self.columns(
            [name for name in self._layouts["numbers"] if name != "string_row"], None
        )
        every = np.arange(self._length)
        strings = {
            n: pa.array(c, pa.string()) for n, c in self.texts(STRING_COLUMNS, every).items()
        }
        return FolderChunk.write(folder, number, columns, pa.table(strings), None, self._maps)


def taken(table: pa.Table, rows: Int64) -> pa.Table:
    """Return rows of a table, chunk by chunk: Arrow's own take joins all chunks first."""
    table = table.select(STRING_COLUMNS)
    columns: list[pa.ChunkedArray] = table.columns
    if columns[0].num_chunks <= 1:
        return table.take(pa.array(rows))
    found = []
    for column in columns:
        ends = np.cumsum([len(part) for part in column.chunks])
        which = np.searchsorted(ends, rows, side="right")
        order = np.argsort(which, kind="stable")
        parts = []
        for number in np.unique(which).tolist():
            mine = order[np.searchsorted(which[order], [number, number + 1])[0] :]
            mine = mine[: int(np.count_nonzero(which == number))]
            part = column.chunks[number]
            parts.append(part.take(pa.array(rows[mine] - (int(ends[number]) - len(part)))))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        found.append(pa.concat_arrays(parts).take(pa.array(back)))
    return pa.table(dict(zip(STRING_COLUMNS, found, strict=True)))


class FolderLog(EventLog):
    """An event log whose chunks lie in ``folder``.

    A ``lasting`` folder is part of the saved states that were made of the log: they name its files
    and do not copy them (see ``store.checkpoint``). Any other folder its maker removes, and states
    have the files under names of their own.
    """

    def __init__(self, folder: str | Path, *, lasting: bool = False) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.lasting = lasting
        self.waits_for_room: WaitsForRoom | None = None  # asked where the disk is full
        self.maps = Maps()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _keep(self, columns: dict[str, npt.NDArray[Any]], batch: EventBatch) -> Chunk:
        def write() -> Chunk:
            return FolderChunk.write(
                self.folder,
                len(self.chunks),
                columns,
                batch.strings,
                batch.string_rows,
                self.maps,
                sync=self.lasting,
            )

        return with_room(write, self.waits_for_room)

    def settle(self) -> None:
        """Write chunks that are in memory (those of a merged engine) to the folder."""
        for number, chunk in enumerate(self.chunks):
            if isinstance(chunk, MemoryChunk):
                self.chunks[number] = FolderChunk.write(
                    self.folder, number, *chunk.parts(), self.maps
                )

    def drop_others(self) -> None:
        """Remove files of chunks that are not this log's, such as those after a saved state."""
        mine = {
            path for chunk in self.chunks if isinstance(chunk, FolderChunk) for path in chunk.paths
        }
        for kind in (_NUMBERS, _STRINGS):
            for path in self.folder.glob(f"{'[0-9]' * 6}-{kind}"):
                if path not in mine:
                    path.unlink()


__all__ = ["ChunkFile", "FolderChunk", "FolderLog", "layout_of", "read_ipc", "write_ipc"]
