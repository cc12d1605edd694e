"""Choose the guilty and deal out schemes and twins, so that every one of them occurs.

In a market too small to hold everything, kinds take turns by seed: an order drawn from the seed
decides which are left out, and the summary counts their cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from trace_engine.simulate import schemes, twins
from trace_engine.simulate.cities import distances
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.market import CHAIN_STORE, MEDICAL, PHARMACY, WHOLESALER, Market
from trace_engine.simulate.plugins import gather
from trace_engine.simulate.schemes.cast import By, Cast, Scene, SchemeKind
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.twins.common import TwinKind

GUILTY_SHARE = 0.02  # of all sellers, distributors included
FEWEST_GUILTY = 12
MEDIAN_CASES = 10  # cases of one guilty seller; 5 to 40
FEWEST_CASES = 3  # of one kind by one culprit
SCHEME_ROOM, TWIN_ROOM = 0.5, 0.35  # of all events; small markets give schemes and twins no more
SHARE = 0.0001  # of all packs, for each kind of twin
FEWEST_TWINS = 3
USUAL_ROWS = 30  # of one twin
# Kinds that each culprit of a sort commits at least, where there are so many.
FEWEST_KINDS = {By.SHOP: 2, By.ONLINE: 1, By.DISTRIBUTOR: 1, By.RING: 5}


def scheme_kinds() -> tuple[SchemeKind, ...]:
    """Return all schemes of the package, in a fixed order."""
    return gather(schemes, "SCHEMES", SchemeKind)


def twin_kinds() -> tuple[TwinKind, ...]:
    """Return all twins of the package, in a fixed order."""
    return gather(twins, "TWINS", TwinKind)


@dataclass
class Planted:
    """What is still to be done after planting, and what could not be done."""

    dumping: list[tuple[int, int]] = field(default_factory=list)  # seller, cases
    left_out: dict[str, int] = field(default_factory=dict)  # cases by detector


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one kind: they do not depend on what other kinds there are."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(crc32(name.encode()),)))


def choose_cast(market: Market, rng: np.random.Generator) -> Cast:
    """Choose guilty sellers of all sizes: rings of distributors, shops and clinics, web shops."""
    m = market
    distributors = m.members(WHOLESALER)
    number = max(FEWEST_GUILTY, round(GUILTY_SHARE * (len(m.sellers) + len(distributors))))
    cast = Cast()
    for _ in range(max(1, number // 20)):
        cast.rings.append(_ring(m, rng, {r for ring in cast.rings for r in ring}))
    ringed = [r for ring in cast.rings for r in ring]
    single = distributors[(m.group[distributors] < 0) & ~np.isin(distributors, ringed)]
    single = single[m.buys_from_makers(single)]
    cast.distributors = rng.permutation(single)[: max(2, number // 12)].tolist()
    online = rng.permutation(m.online)
    cast.online = online[: max(2, number // 7)].tolist()
    rest = max(5, number - len(cast.online) - len(cast.distributors) - len(ringed))
    chains = rest // 5
    clinics = max(1, rest // 4)
    offline = np.flatnonzero((m.type == PHARMACY) & (m.shop_of < 0) & ~m.apart)
    cast.shops = [
        *rng.permutation(offline)[: rest - chains - clinics].tolist(),
        *rng.permutation(m.members(CHAIN_STORE))[:chains].tolist(),
        *rng.permutation(m.members(MEDICAL))[:clinics].tolist(),
    ]
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


def _fitting(
    kinds: tuple[SchemeKind, ...], events: int, rng: np.random.Generator
) -> tuple[list[SchemeKind], list[SchemeKind]]:
    """Return the kinds that a market of ``events`` holds, and those that it has no room for."""
    room = SCHEME_ROOM * events
    held: set[str] = set()
    for i in rng.permutation(len(kinds)).tolist():
        kind = kinds[i]
        need = kind.rows * _fewest(kind)
        if events >= kind.smallest and need <= room:
            room -= need
            held.add(kind.name)
    return [k for k in kinds if k.name in held], [k for k in kinds if k.name not in held]


def _fewest(kind: SchemeKind) -> int:
    return min(FEWEST_CASES, kind.most_cases or FEWEST_CASES)


def _deal(
    kinds: list[SchemeKind], types: list[int], fewest: int, rng: np.random.Generator
) -> list[list[SchemeKind]]:
    """Return the schemes of each culprit: every scheme once, then more at random.

    ``types``: of each culprit, -1 where its type does not matter.
    """
    hands: list[list[SchemeKind]] = [[] for _ in types]
    for kind in kinds:
        able = [i for i, t in enumerate(types) if t < 0 or t in kind.types]
        least = min(len(hands[i]) for i in able)
        choice = [i for i in able if len(hands[i]) == least]
        hands[choice[int(rng.integers(0, len(choice)))]].append(kind)
    for hand, t in zip(hands, types, strict=True):
        others = [k for k in kinds if (t < 0 or t in k.types) and k not in hand]
        while len(hand) < fewest and others:
            hand.append(others.pop(int(rng.integers(0, len(others)))))
    return hands


def _culprits(
    market: Market, cast: Cast, by: By, kinds: list[SchemeKind], rng: np.random.Generator
) -> Iterator[tuple[int, list[SchemeKind]]]:
    """Yield who commits which of ``kinds`` (all of them ``by`` one sort of culprit)."""
    if by is By.NOBODY:
        yield from ((-1, [kind]) for kind in kinds)
    elif by is By.NEWCOMER:
        each = max(1, len(cast.shops) // 20)
        yield from ((-1, [kind]) for kind in kinds for _ in range(each))
    else:
        parties = {
            By.SHOP: cast.shops,
            By.ONLINE: cast.online,
            By.DISTRIBUTOR: cast.distributors,
            By.RING: list(range(len(cast.rings))),
        }[by]
        types = [int(market.type[p]) if by is By.SHOP else -1 for p in parties]
        yield from zip(parties, _deal(kinds, types, FEWEST_KINDS[by], rng), strict=True)


def _cases(hand: list[SchemeKind], sellers: int, rng: np.random.Generator) -> list[int]:
    """Return how many cases of each kind in its hand a culprit commits."""
    if hand and hand[0].by is By.NOBODY:
        total = max(FEWEST_CASES, sellers // 100)
    elif hand and hand[0].by is By.NEWCOMER:
        total = FEWEST_CASES  # often each an enterprise of its own
    else:
        total = int(np.clip(np.exp(rng.normal(np.log(MEDIAN_CASES), 0.7)), 5, 40))
    total = max(total, FEWEST_CASES * len(hand))
    cases = [total // len(hand) + (1 if i < total % len(hand) else 0) for i in range(len(hand))]
    return [min(n, k.most_cases or n) for n, k in zip(cases, hand, strict=True)]


def plant_schemes(desk: Desk, truth: Truth, events: int, seed: int) -> Planted:
    """Plant all schemes that a market of ``events`` holds, but dumping (see ``dumping.py``)."""
    market, planted = desk.market, Planted()
    rng = stream(seed, "cast")
    cast = choose_cast(market, rng)
    kinds, others = _fitting(scheme_kinds(), events, stream(seed, "room"))
    for kind in others:
        if not any(set(kind.detectors) <= set(k.detectors) for k in kinds):
            for detector in kind.detectors:
                planted.left_out[detector] = _fewest(kind)
    turns: dict[str, list[tuple[int, int]]] = {kind.name: [] for kind in kinds}
    for by in By:
        mine = [k for k in kinds if k.by is by]
        for who, hand in _culprits(market, cast, by, mine, rng):
            for kind, cases in zip(hand, _cases(hand, len(market.sellers), rng), strict=True):
                turns[kind.name].append((who, cases))
    scene = Scene(desk, truth, cast, planted.dumping)
    for kind in kinds:
        desk.rng = stream(seed, kind.name)
        truth.blames = kind.by is not By.NOBODY
        for who, cases in turns[kind.name]:
            if kind.by is By.NEWCOMER:
                kind_of = desk.pick(sorted(kind.types))
                who = market.found_anywhere(kind_of, desk.rng)
            kind.plant(scene, who, cases)
    truth.blames = True
    desk.rng = stream(seed, "dumping")
    return planted


def plant_twins(desk: Desk, truth: Truth, events: int, packs: int, seed: int) -> None:
    """Plant twins of every kind: ``SHARE`` of ``packs`` each, at least three.

    Kinds of long stories are planted less often; where there is no room they take turns by seed.
    """
    kinds = twin_kinds()
    room = TWIN_ROOM * events
    for i in stream(seed, "room for twins").permutation(len(kinds)).tolist():
        kind = kinds[i]
        need = kind.rows * FEWEST_TWINS
        if events < kind.smallest or need > room:
            continue
        room -= need
        desk.rng = stream(seed, f"twin {kind.name}")
        rare = min(1.0, USUAL_ROWS / kind.rows)
        for _ in range(max(FEWEST_TWINS, round(packs * SHARE * rare))):
            kind.plant(desk, truth)
