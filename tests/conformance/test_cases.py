"""Hand-made cases: what each detector must find, and what nothing may ever accuse."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest

from tests.conformance import defaults
from tests.conformance.casefile import HandCase, all_cases, world_rows
from tests.conformance.machine import (
    comparable,
    hits_of_engine,
    policy_from,
    registry_of,
    run_engine,
)
from tests.conformance.places import point
from tests.reference.detectors import REFERENCE
from tests.reference.events import events_of
from tests.reference.history import RawHit, history_of
from tests.reference.world import World
from trace_engine.detectors.base import Family
from trace_engine.detectors.registry import detector_classes
from trace_engine.registry import Registry

CASES = all_cases()
VIOLATIONS = {
    name
    for name, cls in detector_classes().items()
    if cls.family == Family.SUSPECTED_VIOLATION and not cls.__module__.startswith("tests.")
}


@lru_cache(maxsize=1)
def world() -> World:
    return World.of(coordinates=point, **world_rows())


def plain_hits(case: HandCase) -> list[RawHit]:
    """Return all hits of the plain implementation."""
    history = history_of(
        events_of(case.rows),
        world(),
        defaults.settings(case.history_from),
        defaults.parameters(),
        defaults.lists(),
    )
    return [found for function in REFERENCE.values() for found in function(history)]


def check(case: HandCase, hits: list[RawHit]) -> None:
    """Hold hits of a case to what the case says."""
    if not case.detector:
        assert [found for found in hits if found.detector in VIOLATIONS] == []
        return
    mine = [found for found in hits if found.detector == case.detector]
    assert {found.event_id for found in mine} == case.fires
    for found in mine:
        if found.event_id in case.subjects:
            assert found.subject == case.subjects[found.event_id]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_implementation(case: HandCase) -> None:
    check(case, plain_hits(case))


@lru_cache(maxsize=1)
def registry() -> Registry:
    return registry_of(world_rows())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_engine(case: HandCase, tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = policy_from(tmp_path_factory.getbasetemp(), case.history_from)
    engine = run_engine(case.rows, registry(), policy)
    hits = hits_of_engine(engine)
    check(case, hits)
    assert comparable(hits) == comparable(plain_hits(case))


def test_case_names_are_their_own() -> None:
    twice = [name for name, count in Counter(map(str, CASES)).items() if count > 1]
    assert twice == []
