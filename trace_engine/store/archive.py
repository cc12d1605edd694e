"""Archived codes on disk: two files that only grow, part of the saved states made of them.

``lines.bin`` holds units of 80 bytes (``core.archive.UNIT``), ``keys.bin`` the 8-byte key of each, so
that an index can be made without reading the units. A state says how many units it knows of; what
stands after them was archived later, by a process that was stopped, and is written over.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.archive import UNIT, Archive, MemoryUnits, Units
from trace_engine.core.records import Records
from trace_engine.store.arrays import DamagedError
from trace_engine.store.room import WaitsForRoom, with_room
from trace_engine.store.syncing import fsync_path

Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

LINES, KEYS = "lines.bin", "keys.bin"
CHECKED = 1 << 30  # bytes of lines whose checksum is looked at when a state is loaded
_KEY = 8
_SOME = 1 << 20  # units read together


class FolderUnits:
    """Units in files of ``folder``, which holds nothing else. Reads are thread-safe."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT
        self._lines = os.open(self.folder / LINES, flags, 0o600)
        self._keys = os.open(self.folder / KEYS, flags, 0o600)
        self._used = 0
        self.waits_for_room: WaitsForRoom | None = None  # asked where the disk is full
        self.checks = (0, 0)  # CRC-32 of the used parts of both files

    def __len__(self) -> int:
        return self._used

    def close(self) -> None:
        """Close the files."""
        os.close(self._lines)
        os.close(self._keys)

    def append(self, units: Records, keys: Keys) -> None:
        """Add units and the keys of their codes."""
        lines, some = np.ascontiguousarray(units).view(np.uint8).data, keys.view(np.uint8).data

        def write() -> None:
            _write(self._lines, lines, self._used * UNIT.itemsize)
            _write(self._keys, some, self._used * _KEY)

        with_room(write, self.waits_for_room)
        self.checks = (zlib.crc32(lines, self.checks[0]), zlib.crc32(some, self.checks[1]))
        self._used += len(units)

    def read(self, numbers: Int64) -> Records:
        """Return units by number; runs of numbers are read together."""
        units: Records = np.empty(len(numbers), UNIT)
        if len(numbers) == 0:
            return units
        data = units.view(np.uint8).data
        size = UNIT.itemsize
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        bounds = [0, *breaks.tolist(), len(numbers)]
        for begin, end in pairwise(bounds):
            _read(self._lines, data[begin * size : end * size], int(numbers[begin]) * size)
        return units

    def codes(self) -> Iterator[Keys]:
        """Yield the keys of all units in order, some at a time."""
        for begin in range(0, self._used, _SOME):
            keys = np.empty(min(_SOME, self._used - begin), np.uint64)
            _read(self._keys, keys.view(np.uint8).data, begin * _KEY)
            yield keys

    def sync(self) -> None:
        """Have the system write the files to the disk."""
        os.fsync(self._lines)
        os.fsync(self._keys)
        fsync_path(self.folder)

    def take_up(self, used: int, checks: tuple[int, int]) -> None:
        """Hold the first ``used`` units of what lies there (which was checked)."""
        self._used, self.checks = used, checks


def _write(file: int, data: memoryview, place: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], place + done)


def _read(file: int, data: memoryview, place: int) -> None:
    done = 0
    while done < len(data):
        got = os.preadv(file, [data[done:]], place + done)
        if got == 0:
            raise DamagedError("an archive of codes ends before its last unit")
        done += got


def save_archive(
    archive: Archive | None, target: Path, *, sync: bool
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any] | None]:
    """Return the arrays and the description of an archive for the state that will be ``target``."""
    if archive is None or len(archive.units) == 0:
        return {}, None
    arrays: dict[str, npt.NDArray[Any]] = {"archive.returned": archive.returned()}
    units = archive.units
    if isinstance(units, FolderUnits):
        if sync:
            units.sync()
        folder = os.path.relpath(units.folder.resolve(), target.resolve())
        return arrays, {"units": len(units), "folder": folder, "checks": list(units.checks)}
    every = np.ascontiguousarray(units.read(np.arange(len(units))))
    arrays["archive.units"] = every.view(np.uint8).reshape(len(every), UNIT.itemsize)
    arrays["archive.keys"] = np.concatenate(list(units.codes()))
    return arrays, {"units": len(units), "folder": None, "checks": []}


def _folder(state: Path, saved: Mapping[str, Any]) -> Path:
    return Path(os.path.normpath(state / saved["folder"]))


def check_archive(state: Path, saved: Mapping[str, Any] | None) -> None:
    """Raise :class:`DamagedError` unless the files a saved archive names are whole.

    Checksums of lines are looked at where there are not more than ``CHECKED`` bytes of them.
    """
    if saved is None or saved["folder"] is None:
        return
    for name, size, check in zip(
        (LINES, KEYS), (UNIT.itemsize, _KEY), saved["checks"], strict=True
    ):
        path = _folder(state, saved) / name
        wanted = saved["units"] * size
        there = path.stat().st_size if path.is_file() else None
        if there is None or there < wanted:
            found = "missing" if there is None else f"damaged: {there} bytes, expected {wanted}"
            raise DamagedError(f"{path}: {found}")
        if wanted > CHECKED and name == LINES:
            continue
        with path.open("rb") as file:
            found_check, left = 0, wanted
            while left:
                piece = file.read(min(_SOME, left))
                found_check = zlib.crc32(piece, found_check)
                left -= len(piece)
        if found_check != check:
            raise DamagedError(f"{path}: damaged")


def load_archive(
    archive: Archive,
    state: Path,
    saved: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Fill an archive that holds nothing with a saved one (which was checked).

    An archive in the folder where the units lie goes on there; any other gets a copy of them.
    """
    units = archive.units
    count = int(saved["units"])
    if saved["folder"] is None:
        kept: Records = arrays["archive.units"].reshape(-1).view(UNIT)
        units.append(kept, arrays["archive.keys"])
    else:
        folder = _folder(state, saved)
        first, second = saved["checks"]
        if isinstance(units, FolderUnits) and units.folder.samefile(folder):
            units.take_up(count, (int(first), int(second)))
        else:
            _copy(folder, count, units)
    archive.restore(arrays["archive.returned"])


def _copy(folder: Path, count: int, units: Units) -> None:
    with (folder / LINES).open("rb") as lines, (folder / KEYS).open("rb") as keys:
        for begin in range(0, count, _SOME):
            some = min(_SOME, count - begin)
            kept: Records = np.fromfile(lines, UNIT, some)
            units.append(kept, np.fromfile(keys, np.uint64, some))


__all__ = ["FolderUnits", "MemoryUnits", "check_archive", "load_archive", "save_archive"]
