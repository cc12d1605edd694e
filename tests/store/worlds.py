"""Events of one busy month, a table a day, for tests of what is kept."""

from __future__ import annotations

import zlib
from functools import cache
from itertools import groupby

import pyarrow as pa

from tests.conformance.casefile import world_rows
from tests.conformance.machine import registry_of
from tests.conformance.strategies import Row
from tests.conformance.test_placement import by_time, everything, same, tree_of
from tests.reference.events import table_of
from trace_engine.engine import Engine
from trace_engine.registry import Registry


@cache
def registry() -> Registry:
    """Return what is known of the enterprises and drugs of the cases."""
    return registry_of(world_rows())


@cache
def month() -> tuple[Row, ...]:
    """Return rows of the cases' busiest month, by time: a fifth of what was packed together."""
    tree = tree_of(everything())
    rows = [
        row
        for row in by_time(everything())
        if day_of(row).startswith("2025-03") and zlib.crc32(tree[row["code"]].encode()) % 5 == 0
    ]
    assert len({day_of(row) for row in rows}) > 12
    return tuple(rows)


def day_of(row: Row) -> str:
    """Return the day of a row, ``2025-03-01``."""
    return str(row["event_time"])[:10]


@cache
def tables() -> tuple[pa.Table, ...]:
    """Return the month as a table for each day."""
    return tuple(table_of(list(day)) for _, day in groupby(month(), day_of))


def findings_after(engine: Engine, some: tuple[pa.Table, ...]) -> pa.Table:
    """Feed tables to an engine, end, and return all its findings."""
    for table in some:
        engine.process(table)
    engine.finish()
    return engine.findings


def whole() -> pa.Table:
    """Return the findings of an engine that never stopped."""
    return findings_after(Engine(registry()), tables())


__all__ = [
    "findings_after",
    "month",
    "registry",
    "same",
    "tables",
    "tree_of",
    "whole",
]
