"""Stores are tested on both databases: every test that asks for ``database`` runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.store.postgres import NoServerError, fresh_database, running_server
from trace_engine.store.database import Database

NOW = 1_780_000_000_000_000  # µs UTC, 2026-05-28


class Clock:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.micros = NOW

    def __call__(self) -> int:
        return self.micros


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    try:
        with running_server() as url:
            yield url
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.sqlite"
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(database_url: str, clock: Clock) -> Iterator[Database]:
    opened = Database.open(database_url, clock=clock)
    yield opened
    opened.close()
