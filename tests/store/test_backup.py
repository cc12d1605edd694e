from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.store.test_findings import finding, table
from trace_engine.store.backup import backup_file
from trace_engine.store.database import Database, StoreError
from trace_engine.store.findings_table import FindingStore
from trace_engine.store.journal import Journal


def test_a_backup_of_a_database_in_use_is_whole(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "store.sqlite")
    store = FindingStore(database)
    stop = threading.Event()
    first = threading.Event()

    def write() -> None:
        offset = 0
        while not stop.is_set():
            offset += 1
            rows = [finding(f"{offset}-{k}") for k in range(10)]
            store.add(table(*rows), offset, [False] * 10)
            first.set()

    writing = threading.Thread(target=write)
    writing.start()
    first.wait()
    target = tmp_path / "copy.sqlite"
    size = backup_file(tmp_path / "store.sqlite", target)
    stop.set()
    writing.join()
    assert size == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    copy = Database.open(target)
    stored = FindingStore(copy)
    assert stored.count() == stored.last_number() > 0
    assert stored.count() % 10 == 0  # no half transaction
    assert FindingStore(database).count() >= stored.count()
    copy.close()
    database.close()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_backup_of_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for k in range(5):
        journal.append(b"%d" % k, batch_id=str(k)).result()
    backup_file(tmp_path / "journal.sqlite", tmp_path / "copy.sqlite")
    journal.append(b"later").result()
    copy = Journal(tmp_path / "copy.sqlite")
    assert copy.identity == journal.identity
    assert [record.payload for record in copy.read(0)] == [b"%d" % k for k in range(5)]
    assert copy.append(b"3", batch_id="3").result().repeated
    copy.close()
    journal.close()


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"something")
    (tmp_path / "text").write_bytes(b"no database at all, but long enough to have a header" * 100)
    with pytest.raises(StoreError, match="never overwrites"):
        backup_file(tmp_path / "text", tmp_path / "there")
    with pytest.raises(StoreError, match="no such file"):
        backup_file(tmp_path / "nowhere", tmp_path / "copy")
    with pytest.raises(StoreError, match="not a database"):
        backup_file(tmp_path / "text", tmp_path / "copy")
    with pytest.raises(StoreError, match="No such file or directory"):
        backup_file(tmp_path / "text", tmp_path / "no" / "folder" / "copy")
    assert (tmp_path / "there").read_bytes() == b"something"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text", "there"]
