"""Who commits what: the guilty sellers of a market and the strangers around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from trace_engine.simulate.desk import Desk
from trace_engine.simulate.market import CHAIN_STORE, MEDICAL, PHARMACY, Market
from trace_engine.simulate.truth import Truth

SHOPS = frozenset({PHARMACY, CHAIN_STORE})
OWN_STOCK = frozenset({PHARMACY, MEDICAL})  # buys for itself, not through a head office
ANY_SELLER = frozenset({PHARMACY, CHAIN_STORE, MEDICAL})


@dataclass
class Cast:
    """The guilty: rings of three distributors, shops and clinics, online shops."""

    rings: list[tuple[int, int, int]] = field(default_factory=list)
    shops: list[int] = field(default_factory=list)
    online: list[int] = field(default_factory=list)

    def collector(self, desk: Desk) -> int:
        """Return a distributor of a ring: it buys what shops should not sell back."""
        return desk.pick(self.rings[desk.number(0, len(self.rings) - 1)])

    def accomplice(self, desk: Desk, market: Market, seller: int) -> int:
        """Return another guilty shop to persons, or the seller itself if it is the only one."""
        others = [s for s in self.shops if s != seller and int(market.type[s]) in ANY_SELLER]
        return desk.pick(others) if others else seller


class Scene(NamedTuple):
    """What a scheme works with."""

    desk: Desk
    truth: Truth
    cast: Cast
    dumping: list[tuple[int, int]]  # seller, cases: planted once honest prices are known


Plant = Callable[[Scene, int, int], None]  # scene, seller (or number of the ring), cases


@dataclass(frozen=True, slots=True)
class SchemeKind:
    """A scheme that shops of some types commit."""

    plant: Plant
    types: frozenset[int]
