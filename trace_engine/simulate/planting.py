"""Choose the guilty and deal out the schemes, so that every one of them occurs."""

from __future__ import annotations

import numpy as np

from trace_engine.simulate.cities import distances
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.market import CHAIN_STORE, MEDICAL, PHARMACY, WHOLESALER, Market
from trace_engine.simulate.schemes.cast import Cast, Plant, Scene, SchemeKind
from trace_engine.simulate.schemes.custody import CUSTODY_SCHEMES
from trace_engine.simulate.schemes.quality import QUALITY_SCHEMES
from trace_engine.simulate.schemes.ring import RING_SCHEMES
from trace_engine.simulate.schemes.trade import (
    BIG_MARKET,
    TRADE_SCHEMES,
    abnormal_low_price,
    online_banned_sale,
    remote_dispatch,
)
from trace_engine.simulate.truth import Truth

GUILTY_SHARE = 0.02  # of all sellers, distributors included
MEDIAN_CASES = 10  # cases of one guilty seller; 5 to 40


def choose_cast(desk: Desk) -> Cast:
    """Choose guilty sellers of all sizes: rings of distributors, shops and clinics, web shops."""
    m, rng = desk.market, desk.rng
    number = max(10, round(GUILTY_SHARE * (len(m.sellers) + int((m.type == WHOLESALER).sum()))))
    cast = Cast()
    for _ in range(max(1, number // 20)):
        cast.rings.append(_ring(m, rng, {r for ring in cast.rings for r in ring}))
    online = rng.permutation(m.online)
    cast.online = online[: max(2, number // 7)].tolist()
    rest = max(5, number - len(cast.online) - 3 * len(cast.rings))
    chains = rest // 5
    clinics = max(1, rest // 4)
    offline = np.flatnonzero((m.type == PHARMACY) & (m.shop_of < 0))
    cast.shops = [
        *rng.permutation(offline)[: rest - chains - clinics].tolist(),
        *rng.permutation(m.members(CHAIN_STORE))[:chains].tolist(),
        *rng.permutation(m.members(MEDICAL))[:clinics].tolist(),
    ]
    m.guilty = sorted({*cast.shops, *cast.online, *(r for ring in cast.rings for r in ring)})
    return cast


def _ring(m: Market, rng: np.random.Generator, taken: set[int]) -> tuple[int, int, int]:
    """Return three distributors: two of one province, the third at least 1000 km from both."""
    members = m.members(WHOLESALER)
    free = members[(m.group[members] < 0) & ~np.isin(members, list(taken))]
    km = distances()
    while True:
        one = int(rng.choice(free))
        near = free[(m.province[free] == m.province[one]) & (free != one)]
        if len(near) == 0:
            continue
        two = int(rng.choice(near))
        far = free[
            (km[m.city[one]][m.city[free]] > 1000)
            & (km[m.city[two]][m.city[free]] > 1000)
            & (m.province[free] != m.province[one])
        ]
        if len(far):
            return one, two, int(rng.choice(far))


def _budget(desk: Desk) -> int:
    """Return how many cases a guilty seller commits."""
    return int(np.clip(np.exp(desk.rng.normal(np.log(MEDIAN_CASES), 0.7)), 5, 40))


def _deal(desk: Desk, cast: Cast) -> list[list[SchemeKind]]:
    """Return the schemes of each guilty shop: every scheme once, then more at random."""
    kinds = [*CUSTODY_SCHEMES, *TRADE_SCHEMES]
    types = [int(desk.market.type[s]) for s in cast.shops]
    hands: list[list[SchemeKind]] = [[] for _ in cast.shops]
    for kind in kinds:
        able = [i for i, t in enumerate(types) if t in kind.types]
        fewest = min(len(hands[i]) for i in able)
        hands[desk.pick([i for i in able if len(hands[i]) == fewest])].append(kind)
    for i, hand in enumerate(hands):
        able_kinds = [k for k in kinds if types[i] in k.types and k not in hand]
        while len(hand) < 2 and able_kinds:
            hand.append(able_kinds.pop(desk.number(0, len(able_kinds) - 1)))
    return hands


def plant_schemes(desk: Desk, truth: Truth) -> list[tuple[int, int]]:
    """Plant all schemes of the catalogue but dumping; return who is to dump, and how many cases."""
    cast = choose_cast(desk)
    scene = Scene(desk, truth, cast, [])
    for ring in range(len(cast.rings)):
        _share(scene, ring, list(RING_SCHEMES))
    for seller, hand in zip(cast.shops, _deal(desk, cast), strict=True):
        _share(scene, seller, [k.plant for k in hand])
    for i, seller in enumerate(cast.online):
        plants: list[Plant] = [(online_banned_sale, remote_dispatch)[i % 2]]
        if desk.market.sellers_planned >= BIG_MARKET:
            plants.append((abnormal_low_price, online_banned_sale, remote_dispatch)[i % 3])
        _share(scene, seller, list(dict.fromkeys(plants)))
    each = max(3, desk.market.sellers_planned // 100)
    for plant in QUALITY_SCHEMES:
        for _ in range(each):
            plant(desk, truth)
    return scene.dumping


def _share(scene: Scene, who: int, plants: list[Plant]) -> None:
    """Deal a culprit's cases over its schemes, at least three of each."""
    total = max(_budget(scene.desk), 3 * len(plants))
    for i, plant in enumerate(plants):
        cases = total // len(plants) + (1 if i < total % len(plants) else 0)
        plant(scene, who, cases)
