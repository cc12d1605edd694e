"""A disk that is full in the middle of a day: the engine waits for room and loses nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
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
from trace_engine.cluster import loop as loops
from trace_engine.scoring import Result
from trace_engine.store import archive, eventlog

__all__ = ["events", "expected", "market"]  # fixtures


class Disk:
    """Fails writes of chunks and of archived codes, after half of each.

    ``full``: all of them. Otherwise two of five, as where room comes and goes: the first
    file of two, then the second.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.refused = dict.fromkeys(("chunk", "archive"), 0)
        self._tried = dict(self.refused)
        write_ipc, write = eventlog.write_ipc, archive._write

        def half_a_chunk(path: Path, table: pa.Table, **options: Any) -> None:
            write_ipc(path, table, **options)
            if self._is_full("chunk"):
                os.truncate(path, path.stat().st_size // 2)
                raise OSError(28, "No space left on device")

        def half_an_archive(file: int, data: memoryview, place: int) -> None:
            if self._is_full("archive"):
                write(file, data[: len(data) // 2], place)
                raise OSError(28, "No space left on device")
            write(file, data, place)

        monkeypatch.setattr(eventlog, "write_ipc", half_a_chunk)
        monkeypatch.setattr(archive, "_write", half_an_archive)

    def _is_full(self, what: str) -> bool:
        self._tried[what] += 1
        full = self.full or self._tried[what] % 5 in (1, 3)
        self.refused[what] += full
        return full


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(loops, "ROOM_PAUSE", 0.01)
    return Disk(monkeypatch)


def test_it_goes_on_by_itself_when_there_is_room(
    tmp_path: Path, market: Path, events: pa.Table, expected: Result, disk: Disk
) -> None:
    host = open_host(tmp_path, market, close_after_days=1)
    last = [send(host, piece) for piece in pieces(events, 500)][-1]
    finished(host, last)
    assert (host.status().problem, host.status().error) == (None, None)
    assert min(disk.refused.values()) > 1
    assert stored(host).equals(by_id(expected.findings))
    host.close()


def test_stopped_while_it_waits_it_begins_where_it_was(
    tmp_path: Path, market: Path, events: pa.Table, expected: Result, disk: Disk
) -> None:
    host = open_host(tmp_path, market)
    half = events.num_rows // 2
    assert host.wait_taken(send(host, events.slice(0, half)), 60) is not None
    disk.full = True
    last = send(host, events.slice(half))
    end = time.monotonic() + 60
    while host.status().problem is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert (host.status().problem, host.status().error) == ("the disk is full", None)
    host.close(timeout=0.5)
    disk.full = False
    host = open_host(tmp_path, market)
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    host.close()
