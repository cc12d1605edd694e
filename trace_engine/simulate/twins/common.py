"""What the modules of twins share: the kind of a twin, and who lives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from trace_engine.simulate.desk import Desk, Event
from trace_engine.simulate.market import PHARMACY
from trace_engine.simulate.truth import Truth

Twin = Callable[[Desk, Truth], None]  # plants one twin and records it


@dataclass(frozen=True, slots=True)
class TwinKind:
    """A kind of benign twin.

    ``rows``: about how many events one twin takes; the dearer, the fewer are planted (see
    ``planting.plant_benign``). ``smallest``: events of the smallest market it is planted in.
    """

    plant: Twin
    rows: int = 30
    smallest: int = 0

    @property
    def name(self) -> str:
        """Name of the kind: the function's."""
        return self.plant.__name__


def pharmacy(desk: Desk, province: int | None = None) -> int:
    """Return a pharmacy without a web shop, in a province where one is there."""
    m = desk.market
    offline = (m.type == PHARMACY) & (m.shop_of < 0) & ~m.apart
    here = np.flatnonzero(offline & (m.province == province))
    return desk.pick(here if province is not None and len(here) else np.flatnonzero(offline))


def uids(events: Iterable[Event]) -> list[int]:
    """Return the event numbers of what the desk wrote."""
    return [uid for uid, _ in events]
