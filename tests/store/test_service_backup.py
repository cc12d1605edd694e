"""A backup of a running service starts, and goes on where the service was."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.service.test_host import (
    by_id,
    events,
    expected,
    finished,
    market,
    open_host,
    pieces,
    send,
    stored,
)
from trace_engine.cli.root import run
from trace_engine.scoring import Result
from trace_engine.store.checkpoints import CheckpointFolder
from trace_engine.store.migrate import StoreError
from trace_engine.store.place import note_place, noted_place, place_of
from trace_engine.store.service_backup import JOURNAL, backup_service

__all__ = ["events", "expected", "market"]


def test_a_backup_goes_on_like_the_original(
    tmp_path: Path,
    market: Path,
    events: object,
    expected: Result,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACE_ENGINE_HASH_KEY", "a key of at least thirty-two characters")
    host = open_host(tmp_path / "data", market)
    parts = list(pieces(events, 400))
    for number, piece in enumerate(parts[:9]):
        last = send(host, piece)
        if number in (3, 6):
            assert host.wait_taken(last, 60) is not None
            host.checkpoint_now()
    made = backup_service(tmp_path / "data", tmp_path / "copy")
    assert made.offset == host.status().checkpoint_offset
    assert made.has_database
    assert str(made.database) == "sqlite trace-engine.sqlite3"
    host.close()
    assert not (tmp_path / "copy" / "hash.key").exists()
    copy = open_host(tmp_path / "copy", market)
    last = [send(copy, piece) for piece in parts[9:]][-1]
    finished(copy, last)
    assert stored(copy).equals(by_id(expected.findings))
    copy.close()


def test_what_another_database_is_said_to_be_is_not_copied(
    tmp_path: Path, market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", str(tmp_path / "copy")
    open_host(data, market).close()
    backup = ["backup", "--data", str(data), "--out", out, "--lang", "en"]
    url = "postgresql://desk:secret@db.example/trace"
    assert run([*backup, "--database", url]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "uses the database sqlite trace-engine.sqlite3" in line
    assert "postgresql db.example:5432/trace" in line
    assert "secret" not in line
    assert "desk" not in line
    # A service with PostgreSQL, and a SQLite file that somebody made beside it by mistake.
    note_place(data, place_of(url, data))
    assert run(backup) == 0
    assert "does not lie here (postgresql db.example:5432/trace)" in capsys.readouterr().out
    assert not (tmp_path / "copy" / "trace-engine.sqlite3").exists()
    assert noted_place(tmp_path / "copy") == place_of(url, data)


def test_what_is_no_data_folder_or_there_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no journal of a service"):
        backup_service(tmp_path, tmp_path / "copy")
    (tmp_path / JOURNAL).touch()
    (tmp_path / "copy").mkdir()
    with pytest.raises(StoreError, match="never overwrites"):
        backup_service(tmp_path, tmp_path / "copy")


def test_a_checkpoint_removed_while_it_is_copied_is_left_for_the_next(
    tmp_path: Path, market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(tmp_path / "data", market)
    host.close()
    folders = CheckpointFolder(tmp_path / "data" / "checkpoints")
    (number,) = folders.numbers()
    plain = shutil.copy2
    removed: list[str] = []

    def slow(source: str, target: str) -> str:
        if not removed:  # two newer ones were saved since the copy began
            removed.append(source)
            folders.folder(number).rename(folders.folder(number + 1))
        return plain(source, target)

    monkeypatch.setattr(shutil, "copytree", partial(shutil.copytree, copy_function=slow))
    made = backup_service(tmp_path / "data", tmp_path / "copy")
    assert removed
    assert made.offset == number + 1


def test_a_checkpoint_written_over_while_it_is_copied_is_left_for_the_next(
    tmp_path: Path, market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(tmp_path / "data", market)
    host.close()
    folders = CheckpointFolder(tmp_path / "data" / "checkpoints")
    (number,) = folders.numbers()
    plain = shutil.copy2
    torn: list[str] = []

    def slow(source: str, target: str) -> str:
        copied = plain(source, target)
        if not torn and source.endswith("state.bin"):
            torn.append(source)
            Path(target).write_bytes(b"half of another state")
            folders.folder(number).rename(folders.folder(number + 1))
        return copied

    def slow_tree(source: Path, target: Path) -> Path:
        found = sorted(source.iterdir(), key=lambda path: path.name == "state.bin")
        target.mkdir()
        for path in found:  # the large file last, when all others were copied
            slow(str(path), str(target / path.name))
        return target

    monkeypatch.setattr(shutil, "copytree", slow_tree)
    made = backup_service(tmp_path / "data", tmp_path / "copy")
    assert torn
    assert made.offset == number + 1


def test_a_copy_that_fails_is_told_in_one_line(
    tmp_path: Path, market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_host(tmp_path / "data", market).close()

    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", partial(shutil.copytree, copy_function=full))
    with pytest.raises(StoreError, match=r"could not be copied: .*No space left"):
        backup_service(tmp_path / "data", tmp_path / "copy")
