"""Rules that need long histories or many sellers, on random markets and with thresholds to match."""

from __future__ import annotations

import datetime as dt
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.reference.abuse import DETECTORS
from tests.reference.events import decode, table_of
from tests.reference.history import RawHit, history_of
from tests.reference.world import World
from trace_engine.detectors.registry import detector_classes
from trace_engine.engine import Engine
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.raw import RawBatch
from trace_engine.policy import Policy

Row = dict[str, Any]

LOWER = """
[policy]
name = "lower"
extends = "default"

[detectors.psychotropic_sale]
minimum_statements = 2
share = 0.6

[detectors.gift_sale]
minimum_priced = 2
maximum_free = 0.4

[detectors.sale_exceeds_purchase]
minimum_packs = 2

[detectors.seller_volume]
minimum_months = 1
minimum_peers = 2
minimum_packs = 2
mean_ratio = 1.0
mad_ratio = 0.5
"""
FIRST = dt.date(2025, 1, 1)
SELLERS = tuple(f"P{i}" for i in range(7))
GTINS = ("04987123456784", "06912345678902", "05012345678900")


@lru_cache(maxsize=1)
def policy(folder: Path) -> Policy:
    path = folder / "lower.toml"
    path.write_text(LOWER, encoding="utf-8")
    return Policy.load(path)


def registry_rows(r: random.Random) -> dict[str, list[Row]]:
    """Return sellers of two types in two provinces, and drugs of every class that matters."""
    enterprises = [
        {
            "enterprise_id": party,
            "name": party,
            "type": r.choice((*4 * ("pharmacy",), "medical", "chain_store")),
            "region": r.choice((*4 * ("440106",), "440103", "310115", None)),
            "group_id": r.choice((None, None, "G1")),
            "scope": r.choice((None, None, "rx;otc_a;psychotropic_2", "rx;otc_a")),
        }
        for party in (*SELLERS, "W1")
    ]
    drugs: list[Row] = [
        {
            "drug_id": "8100001",
            "generic_name": "艾司唑仑片",
            "classes": "rx;psychotropic_2",
            "approval_no": r.choice(("国药准字H31021534", None)),
        },
        {
            "drug_id": "8100002",
            "generic_name": "氨酚伪麻美芬片",
            "classes": "otc_a;ephedrine_compound",
            "approval_no": r.choice(("国药准字H31021534", "国药准字 H10900002", "假字1号")),
            "valid_from": r.choice((None, "2025-02-10")),
            "valid_to": r.choice((None, "2024-08-01")),
        },
        {
            "drug_id": "8100003",
            "generic_name": "恩格列净片",
            "classes": "rx",
            "approval_no": "国药准字H20253456",
            "valid_from": "2025-02-10",
        },
        {"drug_id": GTINS[2], "generic_name": "维生素D滴剂", "classes": "otc_b"},
    ]
    return {"enterprises": enterprises, "drugs": drugs}


def market(r: random.Random, days: int, count: int) -> list[Row]:
    """Return sales of many packs, most of them bought before, and what else may befall them."""
    rows: list[Row] = []
    for number in range(count):
        drug = r.choice(("8100001", "8100002", "8100002", "8100003", *GTINS))
        code = f"(01){drug}(21)S{number}" if len(drug) == 14 else f"{drug}{number:013d}"
        seller, day = r.choice(SELLERS), r.randrange(days)
        clock = r.choice(("00:00:00", "09:00:00", "09:00:00", f"{r.randrange(24):02d}:15:00"))
        more: Row = {"code": code, "batch_no": r.choice(("L1", "L1", "L2", None))}
        if r.random() < 0.7:
            more["production_date"] = str(FIRST + dt.timedelta(r.choice((-200, 0, 3))))
        if r.random() < 0.4:
            more["quantity"] = r.choice((1, 2, 5))
        if r.random() < 0.1:
            more["pack_level"] = r.choice((1, 2))

        def add(kind: str, on: int, event: Row, common: Row = more, at: str = clock) -> None:
            time = f"{FIRST + dt.timedelta(on)} {at}"
            rows.append(
                {"event_id": f"E{len(rows)}", "event_time": time, "event_type": kind, **common}
                | event
            )

        if r.random() < 0.6:
            came = max(day - r.randrange(4), 0)
            price = r.choice((5.0, 10.0, 200.0))
            giver = r.choice(("W1", *SELLERS))
            bought = {"from_id": giver, "to_id": seller, "actor_id": seller, "unit_price": price}
            add(r.choice(("102", "102", "104", "103")), came, bought)
            if r.random() < 0.3:
                onward = {"from_id": seller, "to_id": r.choice(SELLERS), "actor_id": seller}
                add("201", day, onward | {"unit_price": r.choice((10.0, 22.0, 45.0))})
        sale: Row = {"actor_id": seller}
        sale["unit_price"] = r.choice((0.0, 10.0, 10.0, 10.0, None))
        sale["rx_no"] = r.choice((None, "R1", "R1"))
        sale["gift"] = r.random() < 0.05
        sale["split_sale"] = r.random() < 0.1
        sale["shop_id"] = "S1" if r.random() < 0.1 else None
        add(r.choice(("321", "321", "321", "323")), day, sale)
        if r.random() < 0.1:
            add("116", min(day + r.randrange(40), days), {"actor_id": seller})
        if r.random() < 0.03:
            present = {"actor_id": seller, "buyer_id": r.choice((None, "U1"))}
            add("212", day, present, {"code": code + "9"})
    return rows


def plain_hits(rows: list[Row], registry: dict[str, list[Row]], chosen: Policy) -> list[RawHit]:
    vocabulary = Vocabulary()
    table = table_of(rows).combine_chunks().to_batches()[0]
    events = decode(Encoder(vocabulary).encode(RawBatch(table, "case", 1)).batch, vocabulary)
    classes = detector_classes()
    parameters: dict[str, dict[str, Any]] = {}
    for name in DETECTORS:
        found = chosen.parameters(name, classes[name].parameters, defaults.DAY_IN_FORCE)
        parameters[name] = {f: getattr(found, f) for f in found.__struct_fields__}
    history = history_of(
        events,
        World.of(registry["enterprises"], registry["drugs"]),
        defaults.settings(),
        parameters,
        defaults.lists(),
    )
    return [found for function in DETECTORS.values() for found in function(history)]


def day_by_day(engine: Engine, table: pa.Table) -> None:
    """Feed rows of one month after another."""
    months = [str(time)[:7] for time in table.column("event_time").to_pylist()]
    for month in sorted(set(months)):
        engine.process(table.filter(pa.array([m == month for m in months])))


def agree(seed: int, folder: Path, count: int, days: int = 190) -> set[str]:
    r = random.Random(seed)
    registry, rows = registry_rows(r), market(r, days, count)
    chosen = policy(folder)
    plain = plain_hits(rows, registry, chosen)
    for feed in (None, day_by_day):
        engine = run_engine(rows, registry_of(registry), chosen, feed=feed)
        hits = [found for found in hits_of_engine(engine) if found.detector in DETECTORS]
        assert comparable(hits) == comparable(plain)
    return {found.detector for found in plain}


@given(seed=st.integers(0, 2**32))
def test_random_markets(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    agree(seed, tmp_path_factory.getbasetemp(), 60)


def test_every_rule_is_reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = [agree(seed, tmp_path_factory.getbasetemp(), 300) for seed in range(4)]
    assert set.union(*found) == set(DETECTORS)
