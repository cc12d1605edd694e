"""States on disk: whole or refused, with the log where it lies, and going on from there."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.reference.events import table_of
from tests.store.worlds import findings_after, month, registry, same, tables, tree_of, whole
from trace_engine.engine import Engine
from trace_engine.store import checkpoint as module
from trace_engine.store.checkpoint import (
    CheckpointError,
    check_state,
    load_engine,
    read_reference,
    read_values,
    save_engine,
)
from trace_engine.store.checkpoints import CheckpointFolder
from trace_engine.store.eventlog import FolderChunk, FolderLog

HALF = len(tables()) // 2
QUARTER = len(tables()) // 3


@pytest.fixture(scope="module")
def expected() -> pa.Table:
    return whole()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "state"
    started().save(folder)
    return folder


def started(log: Any = None, stop: int = HALF) -> Engine:
    engine = Engine(registry(), log=log)
    for table in tables()[:stop]:
        engine.process(table)
    return engine


def chunk_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.arrow"))


# ---------------------------------------------------------------- where the log lies


def test_memory_to_memory_twice(tmp_path: Path, expected: pa.Table) -> None:
    engine = started(stop=QUARTER)
    engine.save(tmp_path / "state")
    engine = Engine.load(tmp_path / "state", registry())
    for table in tables()[QUARTER:HALF]:
        engine.process(table)
    engine.save(tmp_path / "state")  # over the folder whose files are mapped
    engine = Engine.load(tmp_path / "state", registry())
    same(findings_after(engine, tables()[HALF:]), expected)


def test_an_engine_outlives_the_state_it_came_from(tmp_path: Path, expected: pa.Table) -> None:
    started().save(tmp_path / "first")
    engine = Engine.load(tmp_path / "first", registry())
    shutil.rmtree(tmp_path / "first")
    engine.save(tmp_path / "second")
    again = Engine.load(tmp_path / "second", registry())
    same(findings_after(engine, tables()[HALF:]), expected)
    same(findings_after(again, tables()[HALF:]), expected)


def test_chunks_written_before_are_linked(tmp_path: Path) -> None:
    engine = started()
    engine.save(tmp_path / "state")
    files = {p.name: p.stat().st_ino for p in (tmp_path / "state" / "log").iterdir()}
    for table in tables()[HALF:]:
        engine.process(table)
    engine.save(tmp_path / "state")
    later = {p.name: p.stat().st_ino for p in (tmp_path / "state" / "log").iterdir()}
    assert len(files) > 8
    assert later.items() > files.items()


def test_a_temporary_folder_may_go(tmp_path: Path, expected: pa.Table) -> None:
    engine = started(FolderLog(tmp_path / "work"))
    engine.save(tmp_path / "state")
    shutil.rmtree(tmp_path / "work")
    loaded = Engine.load(tmp_path / "state", registry())
    same(findings_after(loaded, tables()[HALF:]), expected)


@pytest.mark.parametrize("inside", [False, True])
def test_a_log_goes_on_in_its_folder(tmp_path: Path, expected: pa.Table, inside: bool) -> None:
    state = tmp_path / "state"
    place = state / "log" if inside else tmp_path / "events"

    def log() -> FolderLog:
        return FolderLog(place, lasting=not inside)

    engine = started(FolderLog(tmp_path / "first") if inside else log())
    engine.save(state)
    kept = chunk_files(place)
    assert len(kept) > 8
    inodes = {name: (place / name).stat().st_ino for name in kept}
    engine = Engine.load(state, registry(), log=log())
    for table in tables()[HALF : HALF + 3]:
        engine.process(table)  # lost when the process is stopped here
    assert len(chunk_files(place)) > len(kept)
    engine = Engine.load(state, registry(), log=log())
    assert chunk_files(place) == kept
    assert {name: (place / name).stat().st_ino for name in kept} == inodes
    same(findings_after(engine, tables()[HALF:]), expected)
    engine.save(state)
    assert (state / "log").exists() == inside
    loaded = Engine.load(state, registry())  # to look at: nothing is removed
    same(loaded.findings, expected)
    assert len(chunk_files(place)) > len(kept)


def test_a_state_moves_to_another_log_folder(tmp_path: Path, expected: pa.Table) -> None:
    started(FolderLog(tmp_path / "a", lasting=True)).save(tmp_path / "state")
    engine = Engine.load(
        tmp_path / "state", registry(), log=FolderLog(tmp_path / "b", lasting=True)
    )
    assert chunk_files(tmp_path / "b") == chunk_files(tmp_path / "a")
    same(findings_after(engine, tables()[HALF:]), expected)


def test_a_lasting_log_cannot_lie_in_what_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    engine = started()
    engine.save(state)
    log = FolderLog(state / "log", lasting=True)
    with pytest.raises(ValueError, match="cannot lie in a state"):
        Engine(registry(), log=log).save(state)
    assert check_state(state) == {}


def test_a_merged_engine_writes_its_chunks_to_its_folder(tmp_path: Path) -> None:
    tree = tree_of(month())
    roots = sorted(set(tree.values()))
    mine = set(roots[: len(roots) // 2])
    engines = []
    for half, log in ((True, FolderLog(tmp_path / "log", lasting=True)), (False, None)):
        rows = [row for row in month() if (tree[row["code"]] in mine) == half]
        engine = Engine(registry(), log=log)
        engine.process(table_of(rows))
        engine.finish()
        engines.append(engine)
    ours, theirs = engines
    ours.merge(theirs)
    before = ours.findings
    assert not all(isinstance(chunk, FolderChunk) for chunk in ours.log.chunks)
    ours.save(tmp_path / "state")
    assert all(isinstance(chunk, FolderChunk) for chunk in ours.log.chunks)
    log = FolderLog(tmp_path / "log", lasting=True)
    same(Engine.load(tmp_path / "state", registry(), log=log).findings, before)


def test_hits_held_back_are_not_lost(tmp_path: Path) -> None:
    engine = Engine(registry(), keep_hits=False, hits_at_once=50)
    for table in tables():
        engine.process(table)
    assert engine.built_findings
    expected = engine.findings.num_rows
    again = Engine(registry(), keep_hits=False, hits_at_once=50)
    for table in tables():
        again.process(table)
    again.save(tmp_path / "state")
    loaded = Engine.load(tmp_path / "state", registry(), keep_hits=False)
    assert loaded.findings.num_rows == expected


# ---------------------------------------------------------------- values, damage


def test_values_and_reference(tmp_path: Path) -> None:
    values = {"offset": 2**53, "时": ["a", None, 1.5]}
    save_engine(started(), tmp_path / "s", {"registry": "r"}, values=values, sync=True)
    assert read_values(tmp_path / "s") == values
    assert check_state(tmp_path / "s") == values
    assert read_reference(tmp_path / "s") == {"registry": "r"}


@pytest.mark.parametrize("kind", ["cut", "changed", "gone"])
@pytest.mark.parametrize(
    "name", ["state.json", "state.bin", "log/000001-numbers.arrow", "log/000003-strings.arrow"]
)
def test_damage_is_refused_in_one_line(saved: Path, tmp_path: Path, name: str, kind: str) -> None:
    shutil.copytree(saved, tmp_path / "s")
    path = tmp_path / "s" / name
    data = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        while name == "state.json" and not chr(data[middle]).isdigit():
            middle += 1
        data[middle] = data[middle] ^ 1
        path.write_bytes(data if kind == "changed" else data[:-9])
    for use in (check_state, lambda folder: load_engine(Engine(registry()), folder)):
        with pytest.raises(CheckpointError, match=r"damaged|missing|no saved state") as caught:
            use(tmp_path / "s")
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "s") in str(caught.value)


def test_an_older_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "state.json").write_text(json.dumps({"format": 3, "files": {}}))
    with pytest.raises(CheckpointError, match="state of format 3, expected 4"):
        Engine.load(tmp_path / "s", registry())


def test_a_save_that_fails_leaves_the_state_before(
    tmp_path: Path, expected: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = started()
    engine.save(tmp_path / "s")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module, "write_arrays", full)
    for table in tables()[HALF:]:
        engine.process(table)
    with pytest.raises(OSError, match="space"):
        engine.save(tmp_path / "s")
    monkeypatch.undo()
    same(findings_after(Engine.load(tmp_path / "s", registry()), tables()[HALF:]), expected)
    engine.save(tmp_path / "s")
    same(findings_after(Engine.load(tmp_path / "s", registry()), ()), expected)


def test_stopped_between_the_two_renames(tmp_path: Path) -> None:
    engine = started()
    engine.save(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / ".s.before")
    with pytest.raises(CheckpointError, match="the one before lies in"):
        Engine.load(tmp_path / "s", registry())
    engine.save(tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


# ---------------------------------------------------------------- the latest two


def service(tmp_path: Path) -> Engine:
    log = FolderLog(tmp_path / "log", lasting=True)
    return Engine(registry(), keep_hits=True, log=log)


def test_two_are_kept_and_the_latest_is_used(tmp_path: Path, expected: pa.Table) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.latest() is None
    engine = service(tmp_path)
    for number, table in enumerate(tables()[:HALF], 1):
        engine.process(table)
        if number % 3 == 0:
            folder.save(engine, number, {"taken": number})
            assert folder.numbers() == [n for n in (number - 3, number) if n]
    latest = folder.latest()
    assert latest is not None
    assert latest.values == {"taken": latest.number}
    engine = service(tmp_path)
    latest.load(engine)
    same(findings_after(engine, tables()[latest.number :]), expected)


def test_the_space_of_one_no_longer_needed_is_used_again(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    engine = service(tmp_path)
    places: list[int] = []
    for number, table in enumerate(tables()[:6], 1):
        engine.process(table)
        folder.save(engine, number, {"taken": number})
        places.append((folder.folder(number) / "state.bin").stat().st_ino)
        latest = folder.latest()
        assert latest is not None
        assert latest.number == number
    assert len(set(places)) == 3  # two that are kept, and the one being written
    assert places[3:] == places[:3]
    kept = {path.name for path in folder.path.iterdir()}
    assert kept == {".spare", f"{5:020d}", f"{6:020d}"}
    shutil.rmtree(folder.path / ".spare")  # an operator may do that
    folder.save(engine, 7, {})
    assert folder.numbers() == [6, 7]


def test_saves_that_fail_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    engine = service(tmp_path)
    for number in (1, 2, 3):
        folder.save(engine, number, {})
    with monkeypatch.context() as patched:

        def full(path: Path, *_: Any, **__: Any) -> None:
            path.write_bytes(bytes(1000))
            raise OSError(28, "No space left on device")

        patched.setattr(module, "write_arrays", full)
        for number in (4, 5, 6):
            with pytest.raises(OSError, match="No space left"):
                folder.save(engine, number, {})
    left = [path.name for path in folder.path.iterdir() if path.name.endswith(".partial")]
    assert left == [f".{6:020d}.partial"]
    folder.save(engine, 7, {})
    assert folder.numbers() == [3, 7]
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".partial")]


def test_a_copy_that_shares_its_bytes_is_not_written_over(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    engine = service(tmp_path)
    for number, table in enumerate(tables()[:3], 1):
        engine.process(table)
        folder.save(engine, number, {})
    copy = tmp_path / "copy.bin"
    os.link(folder.path / ".spare" / "state.bin", copy)
    before = copy.read_bytes()
    engine.process(tables()[3])
    folder.save(engine, 4, {})
    assert copy.read_bytes() == before


def test_a_damaged_one_is_passed_over(
    tmp_path: Path, expected: pa.Table, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", sync=False)
    engine = service(tmp_path)
    for number, table in enumerate(tables()[:HALF], 1):
        engine.process(table)
        if number in (3, 8):
            folder.save(engine, number, {"taken": number})
    broken = folder.folder(8) / "state.bin"
    broken.write_bytes(broken.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        latest = folder.latest()
    assert latest is not None
    assert latest.number == 3
    assert str(broken) in caplog.text
    engine = service(tmp_path)
    latest.load(engine)
    for table in tables()[3:5]:
        engine.process(table)
    folder.save(engine, 5, {"taken": 5})
    assert folder.numbers() == [3, 5]  # the damaged one is of a history that was given up
    same(findings_after(engine, tables()[5:]), expected)


def test_a_damaged_one_is_not_kept_as_the_one_to_fall_back_to(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", sync=False)
    engine = service(tmp_path)
    for number in (3, 8):
        folder.save(engine, number, {})
    (folder.folder(8) / "state.bin").write_bytes(b"")
    latest = folder.latest()
    assert latest is not None
    assert latest.number == 3
    folder.save(engine, 9, {})
    assert folder.numbers() == [3, 9]
    (folder.folder(9) / "state.bin").write_bytes(b"")
    assert folder.latest() == latest
    folder.save(engine, 9, {})  # made anew, it is whole
    folder.save(engine, 10, {})
    assert folder.numbers() == [9, 10]


def test_none_whole_is_an_error(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", sync=False)
    engine = service(tmp_path)
    engine.process(tables()[0])
    folder.save(engine, 1, {})
    folder.save(engine, 2, {})
    for number in (1, 2):
        (folder.folder(number) / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        folder.latest()


def test_what_is_left_over_is_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", sync=False)
    engine = service(tmp_path)
    for table in tables()[:10]:
        engine.process(table)
    (folder.path / f".{7:020d}.partial").mkdir()
    (tmp_path / "log" / "000999-numbers.arrow").write_bytes(b"of a process that was stopped")
    (tmp_path / "log" / "notes.txt").write_text("somebody's")
    folder.save(engine, 8, {})
    folder.save(engine, 8, {"again": True})
    assert [p.name for p in folder.path.iterdir()] == [f"{8:020d}"]
    latest = folder.latest()
    assert latest is not None
    assert latest.values == {"again": True}
    assert "000999-numbers.arrow" not in chunk_files(tmp_path / "log")
    assert (tmp_path / "log" / "notes.txt").exists()
