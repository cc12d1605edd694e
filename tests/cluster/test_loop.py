"""The loop goes on where it can: a state that cannot be saved, a source that does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pyarrow as pa
import pytest

from trace_engine.cluster import loop as loops
from trace_engine.cluster.loop import Pace, ShardLoop
from trace_engine.cluster.shard import Closed, Shard
from trace_engine.engine import Engine
from trace_engine.events.encode import Encoded
from trace_engine.store.journal import ADVANCE, Record

SECONDS = 20.0


class Queue:
    """A source of orders to close days, which change nothing where there are no events."""

    def __init__(self, *, waits: bool = True) -> None:
        self.records: list[Record] = []
        self.waits = waits
        self.asked = 0
        self._more = threading.Condition()

    def put(self) -> int:
        with self._more:
            offset = len(self.records) + 1
            self.records.append(Record(offset, ADVANCE, 0, 0, None, b"1"))
            self._more.notify_all()
        return offset

    def read(self, after: int, most_bytes: int = 0) -> list[Record]:
        self.asked += 1
        return self.records[after:]

    def wait(self, after: int, timeout: float) -> bool:
        with self._more:
            if self.waits:
                self._more.wait_for(lambda: len(self.records) > after, timeout)
            return len(self.records) > after

    def taken(self, offset: int) -> None:
        pass


class Nobody:
    def accept(self, offset: int, closed: Closed | None, rejects: pa.Table) -> None:
        pass

    def took(self, offset: int, late: int) -> None:
        pass


def decode(_record: Record) -> Encoded:
    raise AssertionError("there are no events")


def loop_of(source: Queue, save: Callable[[int], None]) -> ShardLoop:
    shard = Shard(Engine(lateness_days=None, keep_hits=False, hits_at_once=0))
    return ShardLoop(source, shard, Nobody(), decode, save, pace=Pace(seconds=0.0))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_state_that_cannot_be_saved_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "SAVE_PAUSE", 0.02)
    room = threading.Event()
    saved: list[int] = []

    def save(offset: int) -> None:
        if not room.is_set():
            raise OSError(28, "No space left on device")
        saved.append(offset)

    source = Queue()
    loop = loop_of(source, save)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        source.put()
        until(lambda: loop.save_problem is not None)
        last = source.put()
        until(lambda: loop.taken_offset == last)  # records are taken all the same
        assert loop.save_problem == "the state cannot be saved: OSError"
        assert (saved, loop.saved_offset) == ([], 0)
        room.set()
        until(lambda: loop.saved_offset == last)
        until(lambda: loop.save_problem is None)
        assert saved == [last]
    finally:
        loop.stop()
        source.put()
        thread.join(SECONDS)


def test_a_source_that_does_not_wait_is_not_asked_all_the_time() -> None:
    source = Queue(waits=False)
    loop = loop_of(source, lambda _: None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        assert loop.started.wait(SECONDS)
        asked = source.asked
        time.sleep(0.2)
        assert source.asked - asked <= 2
    finally:
        loop.stop()
        thread.join(SECONDS)
