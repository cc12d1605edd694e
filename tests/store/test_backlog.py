from __future__ import annotations

import pytest

from trace_engine.store.backlog import LONGEST_RETRY, SHORTEST_RETRY, Backlog, JournalFull


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def filled(clock: Clock, *, records: int = 10, size: int = 100, rows: int = 10) -> Backlog:
    backlog = Backlog(records * size, 10_000, clock)
    for offset in range(1, records + 1):
        backlog.admit(size, rows)
        backlog.stored(offset, size, rows)
    return backlog


def test_refuses_by_bytes_and_by_rows() -> None:
    backlog = Backlog(100, 10, Clock())
    backlog.admit(60, 1)
    with pytest.raises(JournalFull, match=r"1 rows \(60 bytes\) wait"):
        backlog.admit(41, 1)
    with pytest.raises(JournalFull):
        backlog.admit(1, 10)
    backlog.admit(40, 9)
    assert (backlog.waiting_bytes, backlog.waiting_rows) == (100, 10)


def test_a_record_beyond_the_limit_enters_alone() -> None:
    backlog = Backlog(100, 10, Clock())
    backlog.admit(500, 1)
    with pytest.raises(JournalFull):
        backlog.admit(1, 1)


def test_what_was_taken_makes_room() -> None:
    backlog = filled(Clock())
    with pytest.raises(JournalFull):
        backlog.admit(1, 1)
    backlog.taken(3)
    assert (backlog.waiting_bytes, backlog.waiting_rows) == (700, 70)
    backlog.admit(300, 1)


def test_retry_after_follows_the_rate_of_taking() -> None:
    clock = Clock()
    backlog = filled(clock)
    clock.seconds += 10
    backlog.taken(5)  # 50 bytes/s
    backlog.admit(500, 1)
    with pytest.raises(JournalFull) as refused:
        backlog.admit(200, 1)
    assert refused.value.retry_after == pytest.approx(4.0)
    with pytest.raises(JournalFull) as refused:
        backlog.admit(1, 1)
    assert refused.value.retry_after == SHORTEST_RETRY


def test_retry_after_is_long_when_nothing_is_taken() -> None:
    clock = Clock()
    backlog = filled(clock)
    with pytest.raises(JournalFull) as refused:
        backlog.admit(1, 1)
    assert refused.value.retry_after == LONGEST_RETRY
    backlog.taken(1)
    backlog.admit(100, 0)
    clock.seconds += 10_000  # what was taken long ago says nothing of now
    backlog.taken(1)
    with pytest.raises(JournalFull) as refused:
        backlog.admit(1, 1)
    assert refused.value.retry_after == LONGEST_RETRY
