"""What is in a case moves with it: engine and plain implementation, in whatever way events come."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.packing import packed_case, packed_cases
from tests.conformance.places import point
from tests.conformance.strategies import Case
from tests.conformance.test_hits import events_at_the_door
from tests.conformance.test_placement import (
    fed,
    findings_of,
    merged,
    pieces,
    resumed,
    same,
    shuffled,
    streamed,
)
from tests.reference.detectors import REFERENCE
from tests.reference.history import history_of
from tests.reference.world import World

# Detectors that read custody: the others do not see what is in what.
OF_CUSTODY = (
    "aggregation_conflict", "cross_region_resale", "dead_code_use", "duplicate_sale", "impossible_travel",
    "ownership_cycle", "price_inversion", "rapid_turnover", "repeated_transfer", "reverse_flow",
    "sold_code_moves", "unmatched_receipt", "unmatched_shipment", "unrecorded_source",
)  # fmt: skip


def agree(case: Case) -> None:
    engine = run_engine(case.rows, registry_of(case.registry))
    got = [hit for hit in comparable(hits_of_engine(engine)) if hit[0] in OF_CUSTODY]
    history = history_of(
        events_at_the_door(case),
        World.of(coordinates=point, **case.registry),
        defaults.settings(),
        defaults.parameters(),
        defaults.lists(),
    )
    assert got == comparable(hit for name in OF_CUSTODY for hit in REFERENCE[name](history))


@given(packed_cases(codes=2, events=4))
def test_short_histories(case: Case) -> None:
    if case.rows:
        agree(case)


@given(packed_cases(codes=4, events=8))
def test_long_histories(case: Case) -> None:
    if case.rows:
        agree(case)


@pytest.mark.parametrize("seed", range(3))
def test_seeds(seed: int) -> None:
    agree(packed_case(seed, 6, 10))


# ---------------------------------------------------------------- any order, any place


def all_ways(case: Case, folder: Path, seed: int) -> None:
    registry = registry_of(case.registry)
    rows = case.rows
    if not rows:
        return
    whole = findings_of(rows, registry)
    same(findings_of(rows, registry, threads=2), whole)
    same(shuffled(rows, registry, seed), whole)
    same(streamed(rows, registry, 1 + seed % 9), whole)
    same(resumed(rows, registry, folder / f"state{seed}", 0.5), whole)
    same(merged(rows, registry, seed % 2 == 0), whole)


@settings(max_examples=max(15, settings().max_examples // 4), deadline=None)
@given(case=packed_cases(codes=3, events=5), seed=st.integers(0, 10**6))
def test_any_history_in_any_way(
    case: Case, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    all_ways(case, tmp_path_factory.mktemp("ways"), seed)


def test_parents_and_children_in_two_engines_are_refused() -> None:
    rows = [row for row in packed_case(7, 4, 6).rows if row.get("parent_code")]
    registry = registry_of(packed_case(7, 4, 6).registry)
    outer = {
        "event_id": "outer",
        "event_time": "2025-03-02",
        "event_type": "201",
        "code": rows[0]["parent_code"],
        "actor_id": "P1",
        "to_id": "P2",
    }
    ours, theirs = (fed(pieces(part, 5), registry, 2) for part in (rows, [outer]))
    with pytest.raises(ValueError, match="each see all that was ever in a code"):
        ours.merge(theirs)
