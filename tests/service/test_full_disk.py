"""A disk that is full in the middle of a day: the engine waits for room and loses nothing."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.service.fakes import FakeKeys, client
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
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.raw import RawBatch
from trace_engine.scoring import Result
from trace_engine.service.app import create_app
from trace_engine.store import archive, eventlog
from trace_engine.store.eventlog import FolderLog

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
    seller = events["from_id"].drop_null()[0].as_py()
    app = create_app(
        host, host.settings, keys=FakeKeys(), audit=lambda _: None,
        routes=("sellers", "graph"),
    )  # fmt: skip
    with client(app) as asking, ThreadPoolExecutor(60) as callers:
        # More than there are threads to answer with: none of them may be kept.
        asked = ["/v1/sellers", f"/v1/graph?enterprise={seller}"] * 30
        answers = [call.result(20) for call in [callers.submit(asking.get, to) for to in asked]]
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert asking.get("/readyz").status_code == 200
        assert asking.get("/v1/status").json()["state"] == "stalled"
    host.close(timeout=0.5)
    disk.full = False
    host = open_host(tmp_path, market)
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    host.close()


def test_half_a_chunk_takes_no_room(tmp_path: Path, events: pa.Table, disk: Disk) -> None:
    disk.full = True
    encoded = Encoder(Vocabulary()).encode(
        RawBatch(events.combine_chunks().to_batches()[0], "events", 1)
    )
    log = FolderLog(tmp_path / "log", lasting=True)
    with pytest.raises(OSError, match="No space left"):
        log.append(encoded.batch, np.full(len(encoded.batch), -1))
    assert disk.refused["chunk"] == 1
    assert list((tmp_path / "log").iterdir()) == []
