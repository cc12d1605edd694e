"""Have the system write to the disk what it holds back."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

STEADY_BYTES = 2 << 20


def fsync_path(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class SteadyFile(io.RawIOBase):
    """A new file that is written to the disk bit by bit, and is there when it is closed.

    What the system holds back it writes all at once in the end, and others who need the same disk,
    such as the journal, wait for it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._held_back = 0

    def writable(self) -> bool:
        """Say that it is."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Write all of ``data`` and return its size."""
        whole = memoryview(data).cast("B")
        done = 0
        while done < len(whole):
            written = os.write(self._file, whole[done : done + STEADY_BYTES])
            done += written
            self._held_back += written
            if self._held_back >= STEADY_BYTES:
                os.fdatasync(self._file)
                self._held_back = 0
        return done

    def close(self) -> None:
        """Have all of it on the disk."""
        if not self.closed:
            try:
                os.fsync(self._file)
            finally:
                os.close(self._file)
                super().close()
