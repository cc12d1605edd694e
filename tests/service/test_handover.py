"""Decoded records reach the loop, and the loop waits for none that is not to come."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from trace_engine.events.batch import EventBatch
from trace_engine.events.encode import Encoded
from trace_engine.events.findings import REJECTS
from trace_engine.service import handover
from trace_engine.service.handover import HandedOver, Handover
from trace_engine.store.journal import EVENTS, Journal


def encoded(rows: int) -> Encoded:
    return Encoded(EventBatch.empty(), pa.Table.from_pylist([], schema=REJECTS), rows, 0)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough that a wait which should not be shows."""
    monkeypatch.setattr(handover, "PATIENCE", 3600.0)


def test_a_record_about_to_come_is_waited_for() -> None:
    passed = Handover(0)
    record = encoded(3)
    passed.begin()
    found: list[Encoded | None] = []
    loop = threading.Thread(target=lambda: found.append(passed.take(1)))
    loop.start()
    passed.end(1, record)
    loop.join(20)
    assert found == [record]


def test_replayed_records_are_not_waited_for_while_others_come() -> None:
    passed = Handover(4, stored=9)
    passed.begin()
    assert passed.take(5) is None
    assert passed.take(9) is None


def test_records_that_did_not_fit_are_not_waited_for() -> None:
    passed = Handover(0, most_rows=5)
    first, second = encoded(5), encoded(1)
    for offset, record in enumerate((first, second), 1):
        passed.begin()
        passed.end(offset, record)
    passed.begin()
    assert passed.take(1) is first
    assert passed.take(2) is None


def test_what_comes_too_late_is_not_kept() -> None:
    passed = Handover(0)
    passed.begin()
    passed.begin()
    passed.end(2, encoded(1))
    assert passed.take(1) is None
    passed.end(1, encoded(1))
    assert passed.take(2) is not None
    assert passed._kept == {}
    assert passed._rows == 0


def test_records_that_are_here_are_told_up_to_the_first_hole() -> None:
    passed = Handover(0)
    for offset in (1, 2, 4):
        passed.begin()
        passed.end(offset, encoded(offset), 10 * offset)
    found = passed.ready(0)
    assert [(r.offset, r.kind, r.rows, r.received_at) for r in found] == [
        (1, EVENTS, 1, 10),
        (2, EVENTS, 2, 20),
    ]
    assert passed.ready(0) == found  # until they are taken
    assert passed.ready(2) == []
    assert passed.take(1) is not None
    assert [record.offset for record in passed.ready(1)] == [2]


def test_the_journal_is_read_where_nothing_was_handed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    passed = Handover(0)
    source = HandedOver(journal, passed)
    try:
        for text in (b"one", b"two", b"three"):
            journal.append(text, rows=1, received_at=7).result(20)
        passed.begin()
        passed.end(2, encoded(1), 7)
        assert [record.payload for record in source.read(0)] == [b"one", b"two", b"three"]
        (second,) = source.read(1)
        assert (second.offset, second.payload, second.received_at) == (2, b"", 7)
        assert [record.payload for record in source.read(2)] == [b"three"]
        assert source.read(3) == []
    finally:
        journal.close()
