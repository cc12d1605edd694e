"""Files mapped into memory, the latest few kept open."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from pathlib import Path

MOST_MAPS = 512
MOST_PAGES = 1 << 16  # 256 MiB of pages of 4 KiB


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
    """The latest maps asked for, open.

    A map costs about 1 KB and address space. What is read through it counts as used memory, a page
    (4 KiB) for each value, until the map is closed, though the system may take it back at any time:
    so all are closed after so many values that at most 256 MiB can have been touched. Thread-safe:
    who reads holds on to the map that it was given.
    """

    def __init__(self, most: int = MOST_MAPS, most_pages: int = MOST_PAGES) -> None:
        self.most = most
        self.most_pages = most_pages
        self._open: OrderedDict[Path, mmap.mmap] = OrderedDict()
        self._pages = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, path: Path, values: int) -> mmap.mmap:
        """Return the map of ``path``, of which so many values will be read."""
        with self._lock:
            self._pages += values
            if self._pages > self.most_pages:
                self._open.clear()
                self._pages = values
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        fresh = map_file(path, scattered=True)
        with self._lock:
            found = self._open.setdefault(path, fresh)
            if len(self._open) > self.most:
                self._open.popitem(last=False)  # closed when its last reader lets go of it
        return found
