"""A host with a real database and made findings, for tests of routes without an engine."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from tests.service.fakes import FakeStatus
from trace_engine.events.batch import Vocabulary
from trace_engine.events.codes import parse_code
from trace_engine.events.encode import Encoder
from trace_engine.events.findings import EXPOSURE, FINDINGS
from trace_engine.policy import Policy
from trace_engine.ranking import rank
from trace_engine.registry import Registry
from trace_engine.sampling import plan
from trace_engine.service.routes._shapes import SHANGHAI
from trace_engine.store.database import Database
from trace_engine.store.findings_table import FindingStore

FIRST_TIME = dt.datetime(2026, 3, 1, 9, 0, tzinfo=SHANGHAI)


def finding(number: int, **other: Any) -> dict[str, Any]:
    """Return a row of schema FINDINGS; all differ."""
    row: dict[str, Any] = {
        "finding_id": f"f{number:06d}",
        "detector": "repeated_transfer",
        "family": "suspected_violation",
        "severity": 0.5,
        "event_time": FIRST_TIME + dt.timedelta(hours=number),
        "subject_id": f"S{number % 3}",
        "subject_type": "wholesaler",
        "counterparty_id": "C1",
        "drug_id": "8123456",
        "batch_no": "B1",
        "code": f"8123456{number:013d}",
        "code_count": 1,
        "codes": [f"8123456{number:013d}"],
        "bill_code": f"XS{number}",
        "order_code": None,
        "buyer_id": None,
        "region": "370102",
        "observed": 6.0,
        "threshold": 4.0,
        "unit": "hops",
        "amount": 12.5,
        "event_ids": [f"e{number}"],
        "title_zh": "多次倒手",
        "title_en": "Repeated transfer",
        "explanation_zh": "经6次倒手",
        "explanation_en": "Changed hands 6 times",
        "evidence": '{"path":[{"event_id":"e1"}],"hops":6}',
        "basis": "药品经营质量管理规范",
        "jurisdiction": "山东省药品监督管理局",
        "policy_version": "default 2026.1",
    }
    return row | other


def findings_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows as a table of schema FINDINGS."""
    return pa.Table.from_pylist(rows, schema=FINDINGS)


def exposure(ids: list[str]) -> pa.Table:
    """Return what each of these enterprises did."""
    rows = [
        {
            "enterprise_id": one,
            "events": 1000,
            "packs_received": 500,
            "packs_shipped": 400,
            "packs_sold": 100,
            "packs_sold_online": 0,
            "sales_value": 1000.0,
            "first_time": FIRST_TIME,
            "last_time": FIRST_TIME + dt.timedelta(days=30),
        }
        for one in ids
    ]
    return pa.Table.from_pylist(rows, schema=EXPOSURE)


@dataclass
class World:
    """Stands in for ``EngineHost``: findings in a real database, the rest made up."""

    database: Database
    findings: FindingStore = field(init=False)
    registry: Registry = field(default_factory=lambda: Registry.load(None))
    policy: Policy = field(default_factory=lambda: Policy.load(None))
    encoder: Encoder = field(default_factory=lambda: Encoder(Vocabulary(), key=b"test"))
    ready: bool = True
    watermark: dt.date | None = dt.date(2026, 4, 2)
    offset: int = 0
    callbacks: list[Callable[[list[int]], None]] = field(default_factory=list)
    paths: dict[str, dict[str, Any]] = field(default_factory=dict)
    graphs: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranked: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.findings = FindingStore(self.database)

    def store(self, *rows: dict[str, Any], late: bool = False) -> list[int]:
        """Add findings as the loop does, and announce them."""
        with self.lock:
            self.offset += 1
            numbers = self.findings.add(findings_table(list(rows)), self.offset, [late] * len(rows))
            for callback in list(self.callbacks):
                callback(numbers)
        return numbers

    def listen(self, callback: Callable[[list[int]], None]) -> Callable[[], None]:
        """Keep a callback; return how to let go of it."""
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def status(self) -> FakeStatus:
        """Return what is told of the state."""
        return FakeStatus(
            ready=self.ready,
            replaying=not self.ready,
            watermark=self.watermark,
            closed_through=dt.date(2026, 3, 31),
        )

    def ranking(self) -> Any:
        """Return the ranking of what is stored, made once until ``ranked`` is cleared."""
        if self.ranked is None:
            ids = [f"S{i}" for i in range(12)]
            self.ranked = SimpleNamespace(
                table=rank(self.findings.for_ranking(), exposure(ids), self.registry, self.policy),
                made_at=time.time(),
                closed_through=dt.date(2026, 3, 31),
            )
        return self.ranked

    def plan(self, budget: int, seed: int = 0, as_of: dt.date | None = None) -> pa.Table:
        """Return a plan as ``trace_engine.sampling.plan`` makes it."""
        return plan(
            self.ranking().table,
            self.findings.table(self.all_of()),
            self.registry,
            self.policy,
            budget=budget,
            seed=seed,
            as_of=as_of or dt.date(2026, 3, 31),
        )

    @staticmethod
    def all_of() -> Any:
        """Return filters that let everything through."""
        from trace_engine.store.findings_table import FindingFilters

        return FindingFilters()

    def code_path(self, text: str) -> dict[str, Any] | None:
        """Return a path that was put into ``paths``."""
        return self.paths.get(parse_code(text).identity)

    def neighbourhood(self, enterprise_id: str, **asked: Any) -> dict[str, Any] | None:
        """Return a graph that was put into ``graphs``."""
        return self.graphs.get(enterprise_id)

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        """Take no events: these tests send none."""
        raise NotImplementedError


def open_world(folder: Path) -> World:
    """Return a world with an empty database in ``folder``."""
    return World(Database.open(folder / "world.sqlite3"))
