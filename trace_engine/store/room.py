"""Writing to a disk that may be full: whoever can wait for room does, anyone else gets the error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol, TypeVar

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
R = TypeVar("R")


class WaitsForRoom(Protocol):
    """Whoever can wait until a full disk has room again."""

    def wait(self, error: OSError) -> None:
        """Return when the write that ended with ``error`` shall be tried again, or raise."""
        ...

    def found(self) -> None:
        """Hear that a write succeeded that had to wait."""
        ...


def with_room(write: Callable[[], R], waits: WaitsForRoom | None) -> R:
    """Return what ``write`` does, which can be repeated from its beginning.

    Where the disk is full, or a quota used up, ``waits`` is asked; None gives up at once.
    """
    waited = False
    while True:
        try:
            done = write()
        except OSError as error:
            if waits is None or error.errno not in _FULL:
                raise
            waits.wait(error)
            waited = True
        else:
            if waits is not None and waited:
                waits.found()
            return done
