"""Stand-ins for what stands behind the app: a host's status, keys, an audit log."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from trace_engine.service.access import Role, new_key
from trace_engine.service.settings import ServiceSettings
from trace_engine.store.database import Database
from trace_engine.store.keys import KeyRecord

LOCAL = "http://127.0.0.1"
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def settings(**given: Any) -> ServiceSettings:
    """Return settings for a test: nothing of the environment counts."""
    return ServiceSettings(**given)


def client(app: FastAPI, **options: Any) -> TestClient:
    """Return a client of an app, by a name that an open service answers to."""
    return TestClient(app, base_url=LOCAL, **options)


@dataclass
class FakeStatus:
    ready: bool = True
    replaying: bool = False
    error: str | None = None
    last_offset: int = 7
    taken_offset: int = 5
    checkpoint_offset: int = 3
    checkpoint_at: float | None = NOW.timestamp()
    checkpoint_seconds: float | None = 1.5
    problem: str | None = None
    watermark: date | None = date(2026, 2, 28)
    closed_through: date | None = date(2026, 2, 26)
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "rows": 1200,
            "events": 1100,
            "duplicates": 60,
            "rejects": 40,
            "late": 9,
        }
    )
    pending_events: int = 321
    live_codes: int = 4567
    archived_codes: int = 89
    state_bytes: int = 8 << 20
    findings: int = 12
    waiting_rows: int = 20
    waiting_bytes: int = 4096
    started_at: float = NOW.timestamp()


class FakeHost(SimpleNamespace):
    """A host that only tells its status, with an empty database."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(told=replace(FakeStatus(), **changes))
        folder = tempfile.mkdtemp()
        self.database = Database.open(Path(folder) / "x.sqlite3")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def status(self) -> FakeStatus:
        return self.told


class FakeKeys:
    """Keys in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRecord] = {}
        self.uses: list[str] = []
        self.asked = 0

    def add(self, *roles: Role, expires_at: datetime | None = None) -> str:
        text, row = new_key("test", frozenset(roles), now=NOW, expires_at=expires_at)
        self.rows[row.key_id] = row
        return text

    def get(self, key_id: str) -> KeyRecord | None:
        self.asked += 1
        return self.rows.get(key_id)

    def any(self) -> bool:
        return bool(self.rows)

    def used(self, key_id: str, at: datetime) -> None:
        self.uses.append(key_id)
