"""Who commits what: the guilty sellers of a market and the strangers around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from trace_engine.simulate.desk import Desk
from trace_engine.simulate.market import CHAIN_STORE, MEDICAL, PHARMACY, Market
from trace_engine.simulate.truth import Truth

SHOPS = frozenset({PHARMACY, CHAIN_STORE})
OWN_STOCK = frozenset({PHARMACY, MEDICAL})  # buys for itself, not through a head office
ANY_SELLER = frozenset({PHARMACY, CHAIN_STORE, MEDICAL})


@dataclass
class Cast:
    """The guilty: rings of three distributors, single ones, shops and clinics, online shops."""

    rings: list[tuple[int, int, int]] = field(default_factory=list)
    distributors: list[int] = field(default_factory=list)
    shops: list[int] = field(default_factory=list)
    online: list[int] = field(default_factory=list)

    def everybody(self) -> set[int]:
        """Return all of them."""
        ringed = (r for ring in self.rings for r in ring)
        return {*self.distributors, *self.shops, *self.online, *ringed}

    def collector(self, desk: Desk) -> int:
        """Return a distributor of a ring: it buys what shops should not sell back."""
        return desk.pick(self.rings[desk.number(0, len(self.rings) - 1)])

    def accomplice(self, desk: Desk, market: Market, seller: int) -> int:
        """Return another guilty shop to persons, or the seller itself if it is the only one."""
        others = [s for s in self.shops if s != seller and int(market.type[s]) in ANY_SELLER]
        return desk.pick(others) if others else seller


class Scene(NamedTuple):
    """What a scheme works with: write with the desk, record in the truth.

    The cast names the other guilty, for schemes that need an accomplice or a collector.
    """

    desk: Desk
    truth: Truth
    cast: Cast
    dumping: list[tuple[int, int]]  # seller, cases: planted once honest prices are known


Plant = Callable[[Scene, int, int], None]  # scene, who (see By), cases


class By(Enum):
    """Who commits a scheme, and what ``who`` is when it is planted."""

    SHOP = "shop"  # party: a single pharmacy, store, clinic or hospital of the kind's types
    ONLINE = "online"  # party: a pharmacy with an online shop
    DISTRIBUTOR = "distributor"  # party: one distributor that buys from makers
    RING = "ring"  # number of the ring in ``scene.cast.rings``: three distributors
    NEWCOMER = "newcomer"  # party: an enterprise founded for it, of one of the kind's types
    NOBODY = "nobody"  # -1: a system or a habit; the plant chooses whom it befalls, none is guilty


@dataclass(frozen=True, slots=True)
class SchemeKind:
    """A scheme of the catalogue and where it occurs.

    ``plant(scene, who, cases)`` writes and records ``cases`` cases. ``detectors``: what must find
    them. ``types``: the types of shops or newcomers that commit it. ``rows``: about how many
    events one case takes, supply included. ``smallest``: events of the smallest market it makes
    sense in. ``most_cases``: by one culprit; 0: no limit.
    """

    plant: Plant
    detectors: tuple[str, ...]
    by: By = By.SHOP
    types: frozenset[int] = ANY_SELLER
    rows: int = 40
    smallest: int = 0
    most_cases: int = 0

    @property
    def name(self) -> str:
        """Name of the kind: the function's, and who commits it."""
        return f"{self.plant.__name__}:{self.by.value}"
