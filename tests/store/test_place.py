"""A data folder knows its database, however the address is spelt, and nothing secret of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trace_engine.store.migrate import StoreError
from trace_engine.store.place import (
    NOTE,
    DatabasePlace,
    OtherDatabaseError,
    check_place,
    note_place,
    noted_place,
    place_of,
)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://desk:secret@db.example/trace", "db.example:5432/trace"),
        ("postgres://DB.example:5432/trace?sslmode=verify-full", "db.example:5432/trace"),
        ("postgresql+psycopg://other@db.example:6000/trace", "db.example:6000/trace"),
        ("postgresql:///trace?host=/run/postgresql&port=5433", "/run/postgresql:5433/trace"),
        ("postgresql://desk@", "localhost:5432/desk"),
    ],
)
def test_places_of_postgresql(url: str, where: str) -> None:
    assert place_of(url, Path("data")) == DatabasePlace("postgresql", where)


def test_places_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    inside = DatabasePlace("sqlite", "findings.db")
    for url in (f"sqlite:///{data}/findings.db", "data/findings.db", data / "findings.db"):
        assert place_of(url, data) == place_of(url, Path("data")) == inside
    assert inside.file(data) == data / "findings.db"
    outside = place_of(tmp_path / "other.db", data)
    assert outside == DatabasePlace("sqlite", str(tmp_path / "other.db"))
    assert outside.file(data) is None
    with pytest.raises(StoreError, match="oracle"):
        place_of("oracle://x/y", data)


def test_only_the_noted_database_will_do(tmp_path: Path) -> None:
    place = place_of("postgresql://desk:secret@db.example/trace", tmp_path)
    other = place_of(tmp_path / "trace-engine.sqlite3", tmp_path)
    check_place(tmp_path, other)  # nothing is noted yet
    note_place(tmp_path, place)
    assert noted_place(tmp_path) == place
    text = (tmp_path / NOTE).read_text()
    assert "secret" not in text
    assert "desk" not in text
    assert [path.name for path in tmp_path.iterdir()] == [NOTE]
    check_place(tmp_path, place)
    with pytest.raises(
        OtherDatabaseError, match=r"db\.example:5432/trace.*sqlite trace"
    ) as refused:
        check_place(tmp_path, other)
    assert "数据库" in refused.value.zh


def test_a_damaged_note_is_told(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        noted_place(tmp_path)
