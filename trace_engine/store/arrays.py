"""Arrays on disk: one file of raw bytes after another, checked block by block.

The file is the arrays' bytes, each beginning at a multiple of 64, and nothing else; names, types and
places stand in an *index* that the caller keeps (JSON). A checksum of every block of 1 MiB stands in
it too: CRC-32 finds damage, which is what is asked of it (it is no seal against forgery), and zlib's
takes blocks outside of the interpreter's lock, so that blocks are checked and written in threads.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_NOWHERE: Mapping[str, Array] = {}

ALIGNED = 64
BLOCK = 1 << 20  # bytes checked together; small enough to stay in the cache between two looks
_THREADS = 4  # at most; two keep a disk busy
_SYNCED = 2  # blocks written between two looks at the disk, where all must be there in the end
_ALONE = 8  # blocks not worth a thread
_ZEROS = memoryview(bytes(ALIGNED))


class DamagedError(Exception):
    """Bytes on disk are not those that were written."""


def file_checksum(path: Path) -> int:
    """Return the CRC-32 of a whole file."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(BLOCK):
            found = zlib.crc32(piece, found)
    return found


def each(function: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Call ``function`` with each number, in threads if there are many; the first error is raised."""
    waiting = list(numbers)
    threads = min(_THREADS, len(os.sched_getaffinity(0)))
    if len(waiting) <= _ALONE or threads == 1:
        for number in waiting:
            function(number)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="state") as pool:
        for done in [pool.submit(function, number) for number in waiting]:
            done.result()


def _bytes_of(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array that has any."""
    return array.reshape(-1).view(np.uint8).data


def _pieces(start: int, stop: int, begins: list[int], views: list[memoryview]) -> list[memoryview]:
    """Return what lies between two places of the file, zeros between arrays included."""
    found: list[memoryview] = []
    at = start
    number = max(bisect_right(begins, start) - 1, 0)
    while at < stop and number < len(views):
        begin = begins[number]
        if at < begin:
            gap = min(begin, stop) - at
            found.append(_ZEROS[:gap])
            at += gap
            continue
        if at < begin + len(views[number]):
            piece = views[number][at - begin : stop - begin]
            found.append(piece)
            at += len(piece)
        number += 1
    return found


def _laid_out(shapes: Iterable[tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Return where each named array of so many bytes begins, and the size of the file."""
    begins, end = {}, 0
    for name, size in shapes:
        if size == 0:
            begins[name] = 0
            continue
        begin = -(-end // ALIGNED) * ALIGNED
        begins[name] = begin
        end = begin + size
    return begins, end


def write_arrays(path: Path, arrays: Mapping[str, Array], *, sync: bool = False) -> dict[str, Any]:
    """Write arrays (of plain types) to ``path`` and return their index.

    A file that is there is written over, not emptied first: a disk is slow to give space back and
    to find it again, and whoever else writes to it waits meanwhile.

    Raises
    ------
    TypeError
        For arrays of objects or records: neither says in one word what its bytes mean.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in whole.items():
        if array.dtype.hasobject or array.dtype.names is not None:
            raise TypeError(f"{name}: arrays of {array.dtype} are not kept")
    begins, size = _laid_out((name, array.nbytes) for name, array in whole.items())
    filled = [name for name, array in whole.items() if array.nbytes]
    starts = [begins[name] for name in filled]
    views = [_bytes_of(whole[name]) for name in filled]
    checks = [0] * (-(-size // BLOCK))
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:

        def write(number: int) -> None:
            start = number * BLOCK
            pieces = _pieces(start, min(start + BLOCK, size), starts, views)
            block = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
            checks[number] = zlib.crc32(block)
            done = 0
            while done < len(block):
                done += os.pwrite(file, block[done:], start + done)
            if sync and number % _SYNCED == _SYNCED - 1:
                os.fdatasync(file)  # bit by bit: others wait for this disk, too

        each(write, range(len(checks)))
        if os.fstat(file).st_size > size:
            os.ftruncate(file, size)
        if sync:
            os.fsync(file)
    finally:
        os.close(file)
    return {
        "size": size,
        "block": BLOCK,
        "checks": checks,
        "arrays": {name: [a.dtype.str, list(a.shape), begins[name]] for name, a in whole.items()},
    }


def read_arrays(
    path: Path, index: Mapping[str, Any], into: Mapping[str, Array] = _NOWHERE
) -> dict[str, Array]:
    """Return the arrays of a file that :func:`write_arrays` wrote, checked.

    ``into`` may name arrays (C-contiguous, of that type and shape) that are read into, so that what
    they hold need not be copied there; the others are new.

    Raises
    ------
    DamagedError
        Where the file is not of the size, or its bytes are not those, that were written.
    """
    arrays: dict[str, Array] = {}
    for name, (kind, shape, _) in index["arrays"].items():
        given = into.get(name)
        arrays[name] = np.empty(shape, kind) if given is None else given
    filled = [name for name, array in arrays.items() if array.nbytes]
    starts = [int(index["arrays"][name][2]) for name in filled]
    views = [_bytes_of(arrays[name]) for name in filled]
    _read_blocks(path, index, starts, views)
    return arrays


def read_some(path: Path, index: Mapping[str, Any], names: Iterable[str]) -> dict[str, Array]:
    """Return some arrays of a file, unchecked: for a look before it is read as a whole.

    Raises
    ------
    DamagedError
        Where the file cannot be read, or ends before an array does.
    """
    arrays: dict[str, Array] = {}
    try:
        with path.open("rb") as file:
            for name in names:
                kind, shape, begin = index["arrays"][name]
                array = np.empty(shape, kind)
                file.seek(int(begin))
                if array.nbytes and file.readinto(_bytes_of(array)) != array.nbytes:
                    raise DamagedError(f"{path}: damaged: ends within {name}")
                arrays[name] = array
    except OSError as error:
        raise DamagedError(f"{path}: missing ({error.strerror})") from error
    return arrays


def check_arrays(path: Path, index: Mapping[str, Any]) -> None:
    """Raise :class:`DamagedError` unless the file holds what was written, keeping nothing of it."""
    _read_blocks(path, index, [], [])


def _read_blocks(
    path: Path, index: Mapping[str, Any], starts: list[int], views: list[memoryview]
) -> None:
    size, step, checks = int(index["size"]), int(index["block"]), index["checks"]
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DamagedError(f"{path}: missing ({error.strerror})") from error
    try:
        there = os.fstat(file).st_size
        if there != size:
            raise DamagedError(f"{path}: damaged: {there} bytes, expected {size}")

        def read(number: int) -> None:
            start = number * step
            stop = min(start + step, size)
            pieces = _pieces(start, stop, starts, views)
            if len(pieces) == 1 and len(pieces[0]) == stop - start and not pieces[0].readonly:
                block = pieces[0]
                _fill(file, block, start)
            else:
                block = memoryview(bytearray(stop - start))
                _fill(file, block, start)
                at = 0
                for piece in pieces:
                    if not piece.readonly:
                        piece[:] = block[at : at + len(piece)]
                    at += len(piece)
            if zlib.crc32(block) != checks[number]:
                raise DamagedError(f"{path}: damaged between bytes {start} and {stop}")

        each(read, range(len(checks)))
    finally:
        os.close(file)


def _fill(file: int, block: memoryview, start: int) -> None:
    """Read ``block`` from place ``start``; a file that ends before stays as it is (checks tell)."""
    done = 0
    while done < len(block):
        got = os.preadv(file, [block[done:]], start + done)
        if got == 0:
            return
        done += got
