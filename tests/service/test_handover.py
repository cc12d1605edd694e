"""Decoded records reach the loop, and the loop waits for none that is not to come."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from trace_engine.events.batch import EventBatch
from trace_engine.events.encode import Encoded
from trace_engine.events.findings import REJECTS
from trace_engine.service import handover
from trace_engine.service.handover import Handover


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
