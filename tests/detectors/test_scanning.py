"""The rules about scanning on histories made for them: engine and plain twin, in any placement."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.places import point
from tests.detectors import scan_histories
from tests.detectors.scan_histories import Row
from tests.reference.events import Event, decode, moment, table_of
from tests.reference.history import RawHit, history_of
from tests.reference.scanning import DETECTORS
from tests.reference.world import World
from trace_engine.detectors.registry import detector_classes
from trace_engine.engine import Engine
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder, content_key_rows
from trace_engine.events.raw import RawBatch
from trace_engine.policy import Policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    path = tmp_path_factory.mktemp("policy") / "small.toml"
    path.write_text(scan_histories.policy_text(), encoding="utf-8")
    return Policy.load(path)


def parameters(policy: Policy) -> dict[str, dict[str, Any]]:
    classes = detector_classes()
    return {
        name: msgspec.structs.asdict(
            policy.parameters(name, classes[name].parameters, defaults.DAY_IN_FORCE)
        )
        for name in DETECTORS
    }


def events_at_the_door(rows: tuple[Row, ...]) -> list[Event]:
    vocabulary = Vocabulary()
    table = table_of(rows).combine_chunks().to_batches()[0]
    batch = Encoder(vocabulary).encode(RawBatch(table, "case", 1)).batch
    contents = content_key_rows(batch, None, vocabulary)
    return [
        replace(event, content_key=int(content))
        for event, content in zip(decode(batch, vocabulary), contents, strict=True)
    ]


@lru_cache(maxsize=8)
def case(seed: int, deals: int) -> tuple[dict[str, tuple[Row, ...]], tuple[Row, ...]]:
    r = random.Random(seed)
    return scan_histories.registry(r), scan_histories.history(r, deals)


def mine(hits: list[RawHit]) -> list[RawHit]:
    return [found for found in hits if found.detector in DETECTORS]


def told_plainly(seed: int, deals: int, policy: Policy) -> list[RawHit]:
    tables, rows = case(seed, deals)
    history = history_of(
        events_at_the_door(rows),
        World.of(coordinates=point, **tables),
        defaults.settings(),
        parameters(policy),
        defaults.lists(),
    )
    return [found for function in DETECTORS.values() for found in function(history)]


def found_by_engine(seed: int, deals: int, policy: Policy) -> list[RawHit]:
    tables, rows = case(seed, deals)
    return mine(hits_of_engine(run_engine(rows, registry_of(tables), policy)))


SIZES = [(1, 6), (2, 12), (3, 25), (4, 60), (5, 120), (6, 120), (7, 250)]


@pytest.mark.parametrize(("seed", "deals"), SIZES)
def test_engine_finds_what_the_definition_says(seed: int, deals: int, policy: Policy) -> None:
    found, told = found_by_engine(seed, deals, policy), told_plainly(seed, deals, policy)
    assert comparable(found) == comparable(told)


def test_each_rule_fires_in_these_histories(policy: Policy) -> None:
    count = Counter(found.detector for found in found_by_engine(7, 250, policy))
    assert set(count) == set(DETECTORS)


@pytest.mark.parametrize("seed", [5, 6])
def test_placement(seed: int, policy: Policy, tmp_path: Path) -> None:
    tables, rows = case(seed, 120)
    registry = registry_of(tables)
    whole = comparable(mine(hits_of_engine(run_engine(rows, registry, policy))))
    ordered = sorted(rows, key=lambda row: moment(row["event_time"]))

    streamed = Engine(registry, policy, keep_hits=True)
    for start in range(0, len(ordered), 37):
        streamed.process(table_of(ordered[start : start + 37]))
    streamed.finish()
    assert comparable(mine(hits_of_engine(streamed))) == whole

    first = Engine(registry, policy, keep_hits=True)
    first.process(table_of(ordered[: len(ordered) // 2]))
    first.save(tmp_path / "state")
    second = Engine.load(tmp_path / "state", registry, policy, keep_hits=True)
    second.process(table_of(ordered[len(ordered) // 2 :]))
    second.finish()
    assert comparable(mine(hits_of_engine(second))) == whole

    halves = []
    for half in (0, 1):
        engine = Engine(registry, policy, keep_hits=True)
        engine.process(
            table_of([row for row in rows if zlib.crc32(row["code"].encode()) % 2 == half])
        )
        engine.finish()
        halves.append(engine)
    halves[0].merge(halves[1])
    assert comparable(mine(hits_of_engine(halves[0]))) == whole
