"""Detectors of prescriptions, cold chains and flows where histories are dense enough for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.places import point
from tests.conformance.strategies import Case
from tests.conformance.test_hits import events_at_the_door
from tests.conformance.test_placement import all_ways
from tests.detectors.retail_histories import MAKERS
from tests.reference.detectors import REFERENCE
from tests.reference.history import RawHit, history_of
from tests.reference.world import World

SEEDS = range(6)


def plain_hits(case: Case, detector: str) -> list[RawHit]:
    world = World.of(case.enterprises, case.drugs, coordinates=point)
    history = history_of(
        events_at_the_door(case),
        world,
        defaults.settings(),
        defaults.parameters(),
        defaults.lists(),
    )
    return REFERENCE[detector](history)


@pytest.mark.parametrize("detector", MAKERS)
def test_fires_just_where_its_plain_twin_does(detector: str) -> None:
    fired = []
    for seed in SEEDS:
        case = MAKERS[detector](seed)
        engine = run_engine(case.rows, registry_of(case.registry))
        mine = [found for found in hits_of_engine(engine) if found.detector == detector]
        assert comparable(mine) == comparable(plain_hits(case, detector)), seed
        fired.append(len(mine))
    assert any(fired), "no history was dense enough to fire"
    assert not all(fired) or len(set(fired)) > 1


@pytest.mark.parametrize("maker", sorted({maker.__name__ for maker in MAKERS.values()}))
@pytest.mark.parametrize("seed", [11])
def test_found_alike_however_events_arrive(maker: str, seed: int, tmp_path: Path) -> None:
    makers = {one.__name__: one for one in MAKERS.values()}
    all_ways(makers[maker](seed), tmp_path, seed)
