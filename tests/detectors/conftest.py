"""Tiny slices built by hand: events as dictionaries, custody columns stated where they matter."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trace_engine.core import signals
from trace_engine.core.signals import Custody, Overdue
from trace_engine.detectors.base import Hits, Slice
from trace_engine.events import batch as eb
from trace_engine.events.batch import COLUMN_TYPES, EventBatch, Vocabulary
from trace_engine.events.kinds import INCOMING, INFO, OUTGOING, EventKind, Role
from trace_engine.policy import Policy
from trace_engine.registry import Registry, RegistryView
from trace_engine.registry.regions import load_regions

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - wall clock by convention

NO_OVERDUE = Overdue(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))


def micros(text: str) -> int:
    """Microseconds of a wall-clock time such as ``2025-03-01`` or ``2025-03-01 09:30``."""
    return int((dt.datetime.fromisoformat(text) - EPOCH) / dt.timedelta(microseconds=1))


def day(text: str) -> int:
    return micros(text) // eb.DAY


def table(key: str, rows: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """A registry table of text columns from ``{id: {column: value}}``."""
    columns = sorted({name for row in rows.values() for name in row})
    data = {key: list(rows)}
    data |= {name: [row.get(name) for row in rows.values()] for name in columns}
    return pa.table({name: pa.array(values, pa.string()) for name, values in data.items()})


class World:
    """A vocabulary and what stands beside the events."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.policy = Policy.load()
        self.enterprises: Mapping[str, Mapping[str, Any]] = {}
        self.drugs: Mapping[str, Mapping[str, Any]] = {}
        self.recalls: Sequence[Mapping[str, Any]] = ()
        self.seq = 0

    def registry(self) -> RegistryView:
        tables = {}
        if self.enterprises:
            tables["enterprises"] = table("enterprise_id", self.enterprises)
        if self.drugs:
            tables["drugs"] = table("drug_id", self.drugs)
        if self.recalls:
            names = ("drug_id", "batch_no", "level", "range_region", "effective")
            tables["recalls"] = pa.table(
                {n: pa.array([r.get(n) for r in self.recalls], pa.string()) for n in names}
            )
        return Registry(tables).view(self.vocabulary)

    def slice(self, events: Sequence[Mapping[str, Any]]) -> Slice:
        """Build a slice of ``events``, sorted by time, numbered after those of earlier slices."""
        numbered = [dict(e, number=self.seq + i) for i, e in enumerate(events)]
        ordered = sorted(numbered, key=lambda e: micros(e["time"]))
        columns: dict[str, list[Any]] = {name: [] for name in COLUMN_TYPES}
        for event in ordered:
            for name, value in self._row(event).items():
                columns[name].append(value)
        arrays = {n: np.array(columns[n], t) for n, t in COLUMN_TYPES.items()}
        ids = [e.get("id", f"e{e['number']}") for e in ordered]
        strings = pa.table(
            {
                "event_id": pa.array(ids, pa.string()),
                **{
                    name: pa.array([e.get(name) for e in ordered], pa.string())
                    for name in ("bill_code", "order_code", "buyer_id")
                },
            }
        )
        n = len(ordered)
        signal = [self._signal(e) for e in ordered]
        columns_of_custody: dict[str, Any] = {
            field.name: np.zeros(n, np.int32) for field in fields(Custody)
        }
        columns_of_custody |= {
            "signal": np.array(signal, np.uint32),
            "cost": np.array([e.get("cost", -1) for e in ordered], np.int32),
            "overdue_shipments": NO_OVERDUE,
            "overdue_receipts": NO_OVERDUE,
        }
        custody = Custody(**columns_of_custody)
        base, self.seq = self.seq, self.seq + n
        return Slice(
            batch=EventBatch(**arrays, strings=strings),
            seq_base=base,
            custody=custody,
            registry=self.registry(),
            policy=self.policy,
            vocabulary=self.vocabulary,
            first_day=int(arrays["time"].min() // eb.DAY) if n else 0,
            last_day=int(arrays["time"].max() // eb.DAY) if n else 0,
            data_begin=0,
        )

    @staticmethod
    def _signal(event: Mapping[str, Any]) -> int:
        if "signal" in event:
            return int(event["signal"])
        role = INFO[event["kind"]].role
        return {Role.SHIP: signals.HOP, Role.PERSON_SALE: signals.NEW_SALE}.get(role, 0)

    def _row(self, event: Mapping[str, Any]) -> dict[str, Any]:
        v, kind, time = self.vocabulary, event["kind"], micros(event["time"])
        regions = load_regions()
        source = v.parties.id(event["source"]) if event.get("source") else -1
        target = v.parties.id(event["target"]) if event.get("target") else -1
        actor = event.get("actor") or (event.get("source" if kind in OUTGOING else "target"))
        actor = actor or event.get("source") or event.get("target") or "actor"
        drug = v.drugs.id(event.get("drug", "8000001"))
        flags = event.get("flags", 0) | (eb.DATE_ONLY if time % eb.DAY == 0 else 0)
        assert kind in OUTGOING | INCOMING or INFO[kind].role in (Role.NONE, Role.VOID)
        return {
            "time": time,
            "record_time": micros(event["record"]) if "record" in event else eb.MISSING_TIME,
            "kind": int(kind),
            "flags": flags,
            "code_problem": event.get("code_problem", 0),
            "code": event.get("code", 1000 + event["number"]),
            "actor": v.parties.id(actor),
            "source": source,
            "target": target,
            "source_region": regions.index(event.get("source_region", "")),
            "target_region": regions.index(event.get("target_region", "")),
            "drug": drug,
            "code_drug": v.drugs.id(event["code_drug"]) if "code_drug" in event else drug,
            "batch_no": v.batches.id(event["batch"]) if event.get("batch") else -1,
            "production": eb.MISSING_DAY,
            "expiry": day(event["expiry"]) if "expiry" in event else eb.MISSING_DAY,
            "quantity": event.get("quantity", 1),
            "price": event.get("price", -1),
            "bill": event.get("bill", 0),
            "order": event.get("order", 0),
            "buyer": event.get("buyer", 0),
            "platform": -1,
            "shop": -1,
            "voids": event.get("voids", 0),
            "event_key": event.get("key", 7_000 + event["number"]),
            "content_key": 0,
        }


def numbers(data: Slice, hits: Hits | None) -> list[int]:
    """Which of the events as written fired, sorted (their keys are 7000 + number)."""
    if hits is None:
        return []
    return sorted(int(k) - 7_000 for k in data.batch.event_key[hits.seq - data.seq_base])


@pytest.fixture
def world() -> World:
    return World()


SHIP, SALE = EventKind.SALE_SHIPMENT, EventKind.RETAIL_SALE
