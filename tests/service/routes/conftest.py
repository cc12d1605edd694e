"""A client of an app over a world, with and without keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.routes.worlds import World, open_world
from trace_engine.service.access import KeyRecord, Role, new_key
from trace_engine.service.app import create_app
from trace_engine.service.settings import ServiceSettings


@dataclass
class KeyRing:
    """Keys in memory."""

    records: dict[str, KeyRecord] = field(default_factory=dict)

    def get(self, key_id: str) -> KeyRecord | None:
        return self.records.get(key_id)

    def any(self) -> bool:
        return bool(self.records)

    def used(self, key_id: str, at: datetime) -> None:
        return None

    def add(self, name: str, role: Role) -> dict[str, str]:
        text, record = new_key(name, frozenset({role}), now=datetime.now(UTC))
        self.records[record.key_id] = record
        return {"Authorization": f"Bearer {text}"}


class Notes:
    """What was handed over for the audit log."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._notes: list[dict[str, Any]] = []

    def add(self, notes: list[dict[str, Any]]) -> None:
        with self.changed:
            self._notes += notes
            self.changed.notify_all()

    def of(self, action: str) -> list[dict[str, Any]]:
        return [note for note in self._notes if note["action"] == action]


@dataclass
class Api:
    """An app, its world, and what it noted for the audit log."""

    world: World
    client: TestClient
    keys: KeyRing
    notes: Notes
    officer: dict[str, str]
    reader: dict[str, str]
    sender: dict[str, str]
    admin: dict[str, str]

    def get(self, path: str, **more: Any) -> Any:
        headers = self.reader | more.pop("headers", {})
        return self.client.get(path, headers=headers, **more)

    def noted(self, action: str) -> dict[str, Any]:
        """Return the last note of an action, once the writer has written it."""
        with self.notes.changed:
            found = self.notes.changed.wait_for(lambda: self.notes.of(action), timeout=5)
        assert found, f"nothing was noted as {action}"
        return found[-1]


def settings_for(folder: Path, **more: Any) -> ServiceSettings:
    return ServiceSettings(data=folder, rate_per_key="100000/second", access_log=False, **more)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = open_world(tmp_path)
    yield world
    world.database.close()


@pytest.fixture
def api(world: World, tmp_path: Path) -> Iterator[Api]:
    keys, notes = KeyRing(), Notes()
    officer = keys.add("case desk", Role.OFFICER)
    reader = keys.add("reader", Role.READ)
    sender = keys.add("sender", Role.INGEST)
    admin = keys.add("administrator", Role.ADMIN)
    app = create_app(world, settings_for(tmp_path), keys=keys, audit=notes.add)  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Api(world, client, keys, notes, officer, reader, sender, admin)
