"""Rings, collectors and pass-through on random trade, with thresholds small markets can reach."""

from __future__ import annotations

import random
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.places import point
from tests.reference.events import Row, decode, moment, table_of
from tests.reference.history import RawHit, history_of
from tests.reference.rings import DETECTORS
from tests.reference.world import World
from trace_engine.detectors.registry import detector_classes
from trace_engine.engine import Engine
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder, content_key_rows
from trace_engine.events.raw import RawBatch
from trace_engine.policy import Policy

LOWER = """
[policy]
name = "lower"
extends = "default"

[detectors.circular_trade]
fewest = 2
enterprises = 4
days = 5

[detectors.fan_in_collection]
sources = 3
days = 6

[detectors.pass_through]
likeness = 0.6
codes = 1
minutes = 45
"""
DEALERS = tuple(f"W{i}" for i in range(5))
SHOPS = tuple(f"P{i}" for i in range(5))
REGIONS = ("310115", "440106", "510104", "330106", "320102")
CLOCK = ("00:00:00", "09:00:00", "09:00:00", "09:20:00", "09:40:00", "16:30:00")


@lru_cache(maxsize=1)
def lower(folder: Path) -> Policy:
    path = folder / "lower_supply_graph.toml"
    path.write_text(LOWER, encoding="utf-8")
    return Policy.load(path)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return lower(tmp_path_factory.getbasetemp())


def registry_rows(r: random.Random) -> dict[str, list[Row]]:
    """Return dealers and shops, a few of them of a group or with a warehouse elsewhere."""
    enterprises: list[Row] = [
        {
            "enterprise_id": party,
            "name": party,
            "type": r.choice(("wholesaler", "wholesaler", "chain_hq", None))
            if party in DEALERS
            else r.choice(("pharmacy", "pharmacy", "medical", "chain_store")),
            "region": REGIONS[i % len(REGIONS)],
            "group_id": r.choice((None, None, None, "G1", "G2")),
            "warehouse_regions": r.choice((None, None, None, r.choice(REGIONS))),
        }
        for i, party in enumerate((*DEALERS, *SHOPS))
    ]
    return {"enterprises": enterprises}


def trade(r: random.Random, codes: int) -> list[Row]:
    """Return lives of packs that walk among dealers and shops, on bills they share."""
    rows: list[Row] = []
    for number in range(codes):
        drug = r.choice(("8100001", "8100001", "8100003"))
        code = f"{drug}{number:013d}"
        holder = r.choice((*DEALERS, *SHOPS))
        day = r.randrange(8)
        since = r.choice(CLOCK)
        for _ in range(r.randint(1, 4)):
            other = r.choice((*DEALERS, *DEALERS, *SHOPS))
            region = r.choice((*REGIONS, None))
            kind = r.choice(("201", "201", "201", "201", "208", "202", "203", "207"))
            given: Row = {
                "code": code,
                "from_id": holder,
                "to_id": other,
                "quantity": r.choice((1, 1, 2, 5)),
            }
            if region is not None:
                given["from_region"] = region
            shipment = {"event_type": kind, "actor_id": holder, **given}
            if r.random() < 0.9:
                shipment["bill_code"] = f"{other}{day}{r.choice('ab')}"
            if r.random() < 0.9:
                rows.append(shipment | {"event_time": f"2025-03-{day + 1:02d} {since}"})
            if r.random() < 0.5:
                day += r.choice((0, 1, 1, 4))
            since = r.choice(CLOCK)
            if r.random() < 0.8:
                incoming = {"202": "103", "203": "104"}.get(kind, "102")
                receipt = {"event_type": incoming, "actor_id": other, **given}
                if r.random() < 0.9:
                    receipt["bill_code"] = f"{holder}{day}"
                rows.append(receipt | {"event_time": f"2025-03-{day + 1:02d} {since}"})
            if r.random() < 0.5:
                since = r.choice(CLOCK)
            holder = other
    return [{"event_id": f"E{i}", **row} for i, row in enumerate(rows)]


def passing(r: random.Random, codes: int) -> list[Row]:
    """Return packs that a dealer receives and sends on at once from where they were."""
    rows: list[Row] = []
    supplier, dealer = r.sample(DEALERS, 2)
    buyer = r.choice((*DEALERS, *SHOPS))
    region = REGIONS[DEALERS.index(supplier)]
    for number in range(codes):
        code = f"8100001{number + 500:013d}"
        side = {"code": code, "from_region": region}
        late = r.choice(("09:15:00", "09:30:00", "09:59:00"))
        rows += [
            {"event_type": "201", "actor_id": supplier, "from_id": supplier, "to_id": dealer,
             "bill_code": "S", "event_time": "2025-03-05 08:00:00", **side},
            {"event_type": "102", "actor_id": dealer, "from_id": supplier, "to_id": dealer,
             "bill_code": r.choice("RRRQ"), "event_time": "2025-03-05 09:05:00", **side},
            {"event_type": "201", "actor_id": dealer, "from_id": dealer, "to_id": buyer,
             "bill_code": r.choice("OOOQ"), "event_time": f"2025-03-05 {late}", **side},
        ]  # fmt: skip
    return [{"event_id": f"F{i}", **row} for i, row in enumerate(rows)]


def market(seed: int) -> tuple[dict[str, list[Row]], list[Row]]:
    r = random.Random(seed)
    rows = trade(r, 30) + passing(r, r.randint(1, 6))
    r.shuffle(rows)
    return registry_rows(r), rows


def plain(tables: dict[str, list[Row]], rows: list[Row], policy: Policy) -> list[RawHit]:
    vocabulary = Vocabulary()
    raw = table_of(rows).combine_chunks().to_batches()[0]
    batch = Encoder(vocabulary).encode(RawBatch(raw, "case", 1)).batch
    content_key_rows(batch, None, vocabulary)
    parameters = {
        name: msgspec.structs.asdict(policy.parameters(name, cls.parameters, defaults.DAY_IN_FORCE))
        for name, cls in detector_classes().items()
    }
    history = history_of(
        decode(batch, vocabulary),
        World.of(coordinates=point, **tables),
        defaults.settings(),
        parameters,
        defaults.lists(),
    )
    return [found for function in DETECTORS.values() for found in function(history)]


def ours(engine: Engine) -> list[RawHit]:
    return [found for found in hits_of_engine(engine) if found.detector in DETECTORS]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_engine_and_twin_agree(policy: Policy, seed: int) -> None:
    tables, rows = market(seed)
    engine = run_engine(rows, registry_of(tables), policy)
    assert comparable(ours(engine)) == comparable(plain(tables, rows, policy))


def test_the_random_markets_reach_every_rule(policy: Policy) -> None:
    fired = [found.detector for seed in range(40) for found in plain(*market(seed), policy)]
    for name in DETECTORS:
        assert fired.count(name) >= 5, name


@pytest.mark.parametrize("seed", range(6))
def test_placement_does_not_matter(policy: Policy, seed: int, tmp_path: Path) -> None:
    tables, rows = market(seed)
    registry = registry_of(tables)
    rows = sorted(rows, key=lambda row: moment(row["event_time"]))
    once = run_engine(rows, registry, policy).findings

    def fed(some: list[Row], size: int) -> Engine:
        engine = Engine(registry, policy, lateness_days=2, keep_hits=True)
        for start in range(0, len(some), size):
            engine.process(table_of(some[start : start + size]))
        engine.finish()
        return engine

    assert fed(rows, 9).findings.equals(once)
    halves: list[list[Row]] = [[], []]
    for row in rows:
        halves[zlib.crc32(str(row["code"]).encode()) % 2].append(row)
    first, second = (fed(half, 50) for half in halves)
    first.merge(second)
    assert first.findings.equals(once)
    stopped = Engine(registry, policy, keep_hits=True)
    stopped.process(table_of(rows[: len(rows) // 2]))
    stopped.save(tmp_path)
    resumed: Any = Engine.load(tmp_path, registry, policy, keep_hits=True)
    resumed.process(table_of(rows[len(rows) // 2 :]))
    resumed.finish()
    assert resumed.findings.equals(once)
