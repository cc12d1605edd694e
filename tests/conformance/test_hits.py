"""Every detector of the engine fires just where its plain twin does, on random histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.places import point
from tests.conformance.strategies import Case, case_of, cases
from tests.reference.detectors import REFERENCE
from tests.reference.events import Event, decode, table_of
from tests.reference.history import RawHit, history_of
from tests.reference.world import World
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder, content_key_rows
from trace_engine.events.raw import RawBatch


def events_at_the_door(case: Case) -> list[Event]:
    """Return the rows as the engine's own reader keys them, and only keys them."""
    vocabulary = Vocabulary()
    table = table_of(case.rows).combine_chunks().to_batches()[0]
    batch = Encoder(vocabulary).encode(RawBatch(table, "case", 1)).batch
    contents = content_key_rows(batch, None, vocabulary)
    return [
        replace(event, content_key=int(content))
        for event, content in zip(decode(batch, vocabulary), contents, strict=True)
    ]


def plain_hits(case: Case) -> list[RawHit]:
    history = history_of(
        events_at_the_door(case),
        World.of(coordinates=point, **case.registry),
        defaults.settings(),
        defaults.parameters(),
        defaults.lists(),
    )
    return [found for function in REFERENCE.values() for found in function(history)]


def agree(case: Case) -> None:
    engine = run_engine(case.rows, registry_of(case.registry))
    assert comparable(hits_of_engine(engine)) == comparable(plain_hits(case))


@given(cases(codes=3, events=8))
def test_short_histories(case: Case) -> None:
    agree(case)


@given(cases(codes=1, events=20))
def test_long_histories(case: Case) -> None:
    agree(case)


@pytest.mark.parametrize("seed", range(3))
def test_many_codes_at_once(seed: int) -> None:
    agree(case_of(seed, codes=200, events=10))
