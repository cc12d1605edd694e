"""The event log as part of a saved state: its files are named, never copied where it can be helped.

A state lists the chunks of its log, each with its two files (name, size, checksum) and where their
columns lie. Where the files are depends on the log:

* a ``lasting`` log folder keeps them, and the state says where that folder is, seen from the state.
  Files that no state and no running engine names may be deleted; nothing else may.
* of any other log the state has them in its own folder ``log``: linked where they lie on disk (a
  file has two names then, and goes when both are gone), written where they are in memory. A state
  and the folder it was made from may be deleted in any order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_engine.core.eventlog import EventLog, MemoryChunk
from trace_engine.store.arrays import DamagedError, each, file_checksum
from trace_engine.store.eventlog import (
    ChunkFile,
    FolderChunk,
    FolderLog,
    chunk_names,
    place_file,
)
from trace_engine.store.maps import Maps
from trace_engine.store.syncing import fsync_path

FOLDER = "log"
CHECKED = 1 << 30  # bytes at the end of a lasting log whose checksums are looked at


def save_log(log: EventLog, target: Path, partial: Path, *, sync: bool) -> dict[str, Any]:
    """Write or name the chunks of ``log`` for the state that will be ``target``.

    ``partial`` is where the state lies until it is whole, beside ``target``.
    """
    if isinstance(log, FolderLog):
        log.settle()
    lasting = isinstance(log, FolderLog) and log.lasting
    chunks: list[FolderChunk] = []
    if lasting:
        assert isinstance(log, FolderLog)
        chunks = [chunk for chunk in log.chunks if isinstance(chunk, FolderChunk)]
        folder = os.path.relpath(log.folder.resolve(), target.resolve())
        if not folder.startswith(os.pardir):
            raise ValueError(f"{log.folder}: a lasting log cannot lie in a state, {target}")
        places = [chunk.paths for chunk in chunks]
    else:
        folder = FOLDER
        here = partial / FOLDER
        here.mkdir()
        maps = Maps()
        chunks = [_placed(chunk, here, number, maps) for number, chunk in enumerate(log.chunks)]
        places = [tuple(here / name for name in chunk_names(n)) for n in range(len(chunks))]
    each(lambda number: _check(chunks[number]), range(len(chunks)))
    if sync:
        for chunk, paths in zip(chunks, places, strict=True):
            if not chunk.on_disk:
                for path in paths:
                    fsync_path(path)
                chunk.on_disk = True
        if chunks:
            fsync_path(places[0][0].parent)
    described = [
        {
            "rows": len(chunk),
            "files": [
                [name, file.size, file.checksum]
                for name, file in zip((p.name for p in paths), chunk.files(), strict=True)
            ],
            "layout": chunk.layout,
        }
        for chunk, paths in zip(chunks, places, strict=True)
    ]
    return {"folder": folder, "lasting": lasting, "chunks": described}


def _check(chunk: FolderChunk) -> None:
    chunk.files()


def _placed(chunk: Any, folder: Path, number: int, maps: Maps) -> FolderChunk:
    """Have the files of a chunk in ``folder``."""
    known = chunk.stored if isinstance(chunk, MemoryChunk) else chunk
    if isinstance(known, FolderChunk) and known.lies_there():
        for path, name in zip(known.paths, chunk_names(number), strict=True):
            place_file(path, folder / name)
        return known
    if isinstance(chunk, MemoryChunk):
        chunk.stored = FolderChunk.write(folder, number, *chunk.parts(), maps)
        written: FolderChunk = chunk.stored
        return written
    again: FolderChunk = chunk.write_again(folder, number)
    return again


def settled(log: EventLog, partial: Path, target: Path) -> None:
    """Note that the state is whole: what was written to ``partial`` now lies in ``target``."""
    for chunk in log.chunks:
        stored = chunk.stored if isinstance(chunk, MemoryChunk) else chunk
        if isinstance(stored, FolderChunk) and stored.paths[0].parent.parent == partial:
            stored.paths = tuple(target / FOLDER / path.name for path in stored.paths)


def log_folder(state: Path, saved: Mapping[str, Any]) -> Path:
    """Return where the log of a saved state lies."""
    return Path(os.path.normpath(state / saved["folder"]))


def check_log(state: Path, saved: Mapping[str, Any]) -> None:
    """Raise :class:`DamagedError` unless the files of a saved log are there and whole.

    Of a lasting log, which may be larger than is read at every start, checksums are looked at for
    the latest chunks only (``CHECKED`` bytes), sizes for all.
    """
    folder = log_folder(state, saved)
    checked = 0
    wanted: list[ChunkFile] = []
    for chunk in reversed(saved["chunks"]):
        for name, size, checksum in chunk["files"]:
            path = folder / name
            there = path.stat().st_size if path.is_file() else None
            if there != size:
                found = "missing" if there is None else f"damaged: {there} bytes, expected {size}"
                raise DamagedError(f"{path}: {found}")
            if not saved["lasting"] or checked < CHECKED:
                wanted.append(ChunkFile(name, size, checksum))
            checked += size

    def check(number: int) -> None:
        file = wanted[number]
        if file_checksum(folder / file.name) != file.checksum:
            raise DamagedError(f"{folder / file.name}: damaged")

    each(check, range(len(wanted)))


def load_log(log: EventLog, state: Path, saved: Mapping[str, Any]) -> None:
    """Add the chunks of a saved log (which was checked) to ``log``, which holds nothing.

    A log in memory maps the files where they lie. A log in the folder where they lie goes on there:
    files of later chunks, which a process that was stopped has left, are removed. A log in another
    folder has the files linked (or copied) there.
    """
    source = log_folder(state, saved)
    folder, maps = source, None
    if isinstance(log, FolderLog):
        maps = log.maps
        folder = log.folder
    there = folder.is_dir() and source.is_dir() and folder.samefile(source)
    for number, chunk in enumerate(saved["chunks"]):
        if not there:
            for name, _, _ in chunk["files"]:
                place_file(source / name, folder / name)
        known = FolderChunk(folder, number, int(chunk["rows"]), maps, chunk["layout"])
        known.remember([ChunkFile(*file) for file in chunk["files"]])
        log.add_chunk(known)
    if isinstance(log, FolderLog):
        log.drop_others()
