"""Objects that stay are kept from the collector of garbage."""

from __future__ import annotations

import gc

FREEZES = 4


class Settling:
    """Call it when much was loaded that stays: the collector never looks at it again.

    Looking at the two hundred thousand objects of modules and compiled kernels stops every thread
    for 120 to 160 ms and finds nothing. Kernels are loaded when they are first needed, so this is
    called when the service listens and after saves of the state, and does something ``freezes``
    times: what is garbage at such a moment stays for good, which must not go on for ever.
    """

    def __init__(self, freezes: int = FREEZES) -> None:
        self._left = freezes

    def __call__(self) -> None:
        """Keep what there is now from the collector."""
        if self._left > 0:
            self._left -= 1
            gc.collect(1)  # the young ones, in a few milliseconds
            gc.freeze()
