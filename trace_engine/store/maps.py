"""Files mapped into memory, the latest few kept open."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from pathlib import Path

MOST_MAPS = 64
MOST_MAPPED = 1 << 30


def map_file(path: Path, *, scattered: bool) -> mmap.mmap:
    """Map a file for reading; ``scattered`` reads take a page each and not its neighbours too.

    The mapping lives as long as something refers to it, whatever becomes of the file's name.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        found = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(file)
    if scattered and hasattr(mmap, "MADV_RANDOM"):
        found.madvise(mmap.MADV_RANDOM)
    return found


class Maps:
    """The latest maps asked for, open: at most so many, of at most so many bytes together.

    A map costs about 1 KB and address space. What is read through it counts as used memory, a page
    (4 KiB) a look, until the map is closed; it is the system's to take back at any time. Thread-safe:
    who reads holds on to the map that it was given.
    """

    def __init__(self, most: int = MOST_MAPS, most_bytes: int = MOST_MAPPED) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._open: OrderedDict[Path, mmap.mmap] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, path: Path) -> mmap.mmap:
        """Return the map of ``path``, opening it if it is not open."""
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        fresh = map_file(path, scattered=True)
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                return found
            self._open[path] = fresh
            self._bytes += len(fresh)
            while len(self._open) > 1 and (
                len(self._open) > self.most or self._bytes > self.most_bytes
            ):
                _, closed = self._open.popitem(last=False)
                self._bytes -= len(closed)  # closed when its last reader lets go of it
        return fresh

    def forget(self) -> None:
        """Close all maps."""
        with self._lock:
            self._open.clear()
            self._bytes = 0
