"""Writing to a disk that may be full: whoever can wait for room does, anyone else gets the error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
R = TypeVar("R")

NoRoom = Callable[[OSError], None]
"""Returns when the write shall be tried again; raises to give up."""


def with_room(write: Callable[[], R], no_room: NoRoom | None) -> R:
    """Return what ``write`` does, which can be repeated from its beginning.

    Where the disk is full, or a quota used up, ``no_room`` is asked; None gives up at once.
    """
    while True:
        try:
            return write()
        except OSError as error:
            if no_room is None or error.errno not in _FULL:
                raise
            no_room(error)
