"""A log on disk answers as one in memory does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.reference.events import table_of
from tests.store.worlds import month, registry, tables
from trace_engine.core.eventlog import LOG_COLUMNS, LOG_OPTIONAL, EventLog
from trace_engine.engine import Engine
from trace_engine.events.batch import STRING_COLUMNS
from trace_engine.scoring import Follower
from trace_engine.store.chunkfile import layout_of, numbers_at, strings_at, write_ipc
from trace_engine.store.eventlog import FolderLog, taken
from trace_engine.store.maps import Maps, map_file


def fed(log: EventLog) -> Engine:
    engine: Engine = Follower(registry(), log=log)
    for table in tables():
        engine.process(table)
    engine.finish()
    return engine


@pytest.fixture(scope="module")
def memory() -> EventLog:
    return fed(EventLog()).log


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> FolderLog:
    log = FolderLog(tmp_path_factory.mktemp("log"))
    fed(log)
    return log


def assert_same(left: EventLog, right: EventLog, seqs: np.ndarray) -> None:
    names = [*LOG_COLUMNS, *LOG_OPTIONAL]
    ours, theirs = left.columns(names, seqs), right.columns(names, seqs)
    assert all((ours[name] == theirs[name]).all() for name in names)
    assert left.texts(STRING_COLUMNS, seqs) == right.texts(STRING_COLUMNS, seqs)


@pytest.mark.parametrize("count", [0, 1, 3, 16, 17, 70, 400])
def test_columns_and_texts(memory: EventLog, disk: FolderLog, count: int) -> None:
    assert len(memory) == len(disk) > 300
    assert len(disk.chunks) > 5
    seqs = np.random.default_rng(count).integers(0, len(memory), count)
    assert_same(memory, disk, seqs)


def test_more_than_is_read_through_open_maps(memory: EventLog, disk: FolderLog) -> None:
    seqs = np.random.default_rng(0).integers(0, len(memory), 60_000)
    opened = len(disk.maps)
    names = ["time", "code"]
    ours, theirs = memory.columns(names, seqs), disk.columns(names, seqs)
    assert all((ours[name] == theirs[name]).all() for name in names)
    assert len(disk.maps) <= max(opened, 2 * len(disk.chunks))


def test_paths_one_by_one_and_all_together(memory: EventLog, disk: FolderLog) -> None:
    seqs = np.arange(len(memory))
    offsets, numbers = memory.paths(seqs)
    assert np.diff(offsets).max() > 3
    for seq in seqs[::7].tolist():
        expected = numbers[offsets[seq] : offsets[seq + 1]]
        for log in (memory, disk):
            begin, found = log.paths(np.array([seq]))
            assert begin.tolist() == [0, len(expected)]
            assert found.tolist() == expected.tolist()
    longest = int(np.argmax(np.diff(offsets)))
    _, short = disk.paths(np.array([longest]), longest=2)
    assert short.tolist() == numbers[offsets[longest] : offsets[longest + 1]][-2:].tolist()


def test_reading_while_chunks_are_added(memory: EventLog, tmp_path: Path) -> None:
    log = FolderLog(tmp_path)
    wrong: list[Any] = []
    done = threading.Event()
    started = threading.Event()

    def read() -> None:
        rng = np.random.default_rng(threading.get_ident())
        while not done.is_set() or not wrong:
            length = len(log)
            if length:
                seqs = rng.integers(0, length, 5)
                if log.text("event_id", seqs) != memory.text("event_id", seqs):
                    wrong.append(seqs)
                started.set()
            if done.is_set():
                return

    log.maps.most = 3  # so that maps are closed while others read
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    fed(log)
    assert started.wait(10)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(log) == len(memory)


def test_few_maps_stay_open(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(6)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    maps = Maps(most=2, most_pages=1000)
    held = maps.get(paths[0], 1)
    for path in paths:
        assert maps.get(path, 1)[:1] == path.name.encode()
    assert len(maps) == 2
    assert held[:2] == b"00"  # who holds a map may read it after it was closed
    maps.get(paths[0], 2000)  # more than may be touched: all others are closed
    assert len(maps) == 1


def test_strings_in_several_parts_with_gaps(tmp_path: Path) -> None:
    words = [None if i % 7 == 3 else "" if i % 5 == 0 else f"第{i}号" for i in range(300)]
    column = pa.chunked_array([words[:100], words[100:101], [], words[101:]], pa.string())
    path = tmp_path / "t.arrow"
    write_ipc(path, pa.table({"w": column, "n": pa.array(np.arange(300, dtype=np.int16))[:300]}))
    with pytest.raises(ValueError, match="parts"):
        layout_of(path)
    write_ipc(path, pa.table({"w": column}))
    parts = layout_of(path)["w"]
    mapped = map_file(path, scattered=False)
    for rows in (np.array([299, 0, 100, 3]), np.random.default_rng(0).integers(0, 300, 200)):
        assert strings_at(mapped, parts, rows) == [words[row] for row in rows.tolist()]


def test_numbers_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    columns = {"a": np.arange(50, dtype=np.uint8), "b": np.arange(50, dtype=np.int64) * 3}
    write_ipc(path, pa.table({name: pa.array(column) for name, column in columns.items()}))
    layout, mapped = layout_of(path), map_file(path, scattered=True)
    for name, column in columns.items():
        assert (numbers_at(mapped, layout[name], 50) == column).all()


def test_rows_are_taken_chunk_by_chunk() -> None:
    columns = {
        name: pa.chunked_array(
            [[f"{name}{i}" for i in range(a, b)] for a, b in ((0, 5), (5, 6), (6, 40))]
        )
        for name in STRING_COLUMNS
    }
    table = pa.table(columns)
    rows = np.random.default_rng(2).integers(0, 40, 90)
    found = taken(table, rows)
    assert found.to_pydict() == {n: [f"{n}{row}" for row in rows.tolist()] for n in STRING_COLUMNS}
    assert taken(table, np.array([39])).num_rows == 1


def test_strings_of_other_rows_are_not_written(tmp_path: Path) -> None:
    """A day cut out of a large batch takes its own strings along, not those of all days."""
    engine = Follower(registry(), lateness_days=None, log=FolderLog(tmp_path))
    mixed = table_of(month())
    order = np.random.default_rng(0).permutation(mixed.num_rows)
    engine.process(mixed.take(pa.array(order)))
    for day in range(engine.buffer.first_day() or 0, (engine.buffer.last_day() or 0) + 2):
        engine.advance(day)
    chunks = engine.log.chunks
    assert len(chunks) > 12
    small = [c for c in chunks if len(c) * 3 < mixed.num_rows]
    for chunk in small:
        rows = sum(part[0] for part in chunk.layout["strings"]["event_id"])  # type: ignore[attr-defined]
        assert rows <= 2 * len(chunk)
