"""The engine on small inputs, and its hits as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.reference.events import Row, moment, table_of
from tests.reference.history import RawHit
from trace_engine.engine import Engine
from trace_engine.policy import Policy
from trace_engine.registry import Registry

EIGHT_HOURS = 8 * 3600 * 1_000_000


def registry_of(tables: Mapping[str, Sequence[Row]]) -> Registry:
    """Return a registry of plain rows, every value as text."""
    found = {}
    for name, rows in tables.items():
        columns = dict.fromkeys(column for row in rows for column in row)
        found[name] = pa.table(
            {column: pa.array([row.get(column) for row in rows], pa.string()) for column in columns}
        )
    return Registry(found)


@lru_cache(maxsize=4)
def policy_from(folder: Path | None, history_from: str | None) -> Policy:
    """Return the default policy, or one that says from which day history is whole."""
    if history_from is None:
        return Policy.load()
    assert folder is not None
    path = folder / f"whole_{history_from}.toml"
    path.write_text(
        f'[policy]\nname = "whole"\nextends = "default"\nhistory_from = {history_from}\n',
        encoding="utf-8",
    )
    return Policy.load(path)


def run_engine(
    rows: Sequence[Row],
    registry: Registry,
    policy: Policy | None = None,
    *,
    threads: int = 1,
    feed: Callable[[Engine, pa.Table], None] | None = None,
) -> Engine:
    """Return an engine that has judged ``rows``."""
    engine = Engine(registry, policy, threads=threads, keep_hits=True)
    if rows:
        table = table_of(rows)
        if feed is None:
            engine.process(table)
        else:
            feed(engine, table)
    engine.finish()
    return engine


def hits_of_engine(engine: Engine) -> list[RawHit]:
    """Return the engine's hits."""
    return [
        RawHit(
            detector=found["detector"],
            event_id=found["event_id"],
            observed=found["observed"],
            subject=found["subject_id"] or None,
            counterparty=found["counterparty_id"] or None,
            time=moment(found["event_time"].replace(tzinfo=None)),
        )
        for found in engine.hits.to_pylist()
    ]


def comparable(hits: Iterable[RawHit]) -> list[tuple[Any, ...]]:
    """Return hits as sorted values to compare, floats rounded to what arithmetic leaves."""
    return sorted(
        (
            h.detector,
            h.event_id,
            h.subject or "",
            h.counterparty or "",
            h.time,
            round(h.observed, 4),
        )
        for h in hits
    )
