"""Keys, notes of audit, rejects, outcomes and plans."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy.exc import IntegrityError

from tests.store.conftest import NOW
from trace_engine.events.findings import REJECTS
from trace_engine.store.audit import AuditFilters, AuditLog
from trace_engine.store.database import Database
from trace_engine.store.keys import KeyRecord, KeyStore
from trace_engine.store.moments import from_micros, to_micros
from trace_engine.store.outcomes import OutcomeConflict, OutcomeStore
from trace_engine.store.plans import PlanStore
from trace_engine.store.rejects import RejectStore

TIME = datetime(2026, 3, 2, 1, 2, 3, 456_789, tzinfo=UTC)


def test_times_are_kept_to_the_microsecond() -> None:
    far = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    for moment in (TIME, far, datetime(1901, 1, 1, 0, 0, 0, 1, tzinfo=UTC)):
        assert from_micros(to_micros(moment)) == moment
    assert from_micros(to_micros(None)) is None
    with pytest.raises(ValueError, match="without a zone"):
        to_micros(TIME.replace(tzinfo=None))


def test_keys(database: Database) -> None:
    keys = KeyStore(database)
    assert not keys.any()
    record = KeyRecord("k1", "审计 desk", ("read", "officer"), b"\0salt", b"\xff" * 32, TIME)
    keys.add(record)
    other = KeyRecord(
        "k2", "other", ("ingest",), b"", b"", TIME + timedelta(1), expires_at=TIME + timedelta(9)
    )
    keys.add(other)
    assert keys.any()
    assert keys.get("k1") == record
    assert keys.get("k3") is None
    assert "xff" not in repr(record)
    with pytest.raises(IntegrityError):
        keys.add(record)
    keys.used("k1", TIME + timedelta(2))
    assert keys.revoke("k2", TIME + timedelta(3))
    assert not keys.revoke("k2", TIME + timedelta(4))
    assert not keys.revoke("k3", TIME)
    first, second = keys.all()
    assert (first.last_used_at, first.revoked_at) == (TIME + timedelta(2), None)
    assert (second.revoked_at, second.expires_at) == (TIME + timedelta(3), other.expires_at)


def note(k: int, **changes: object) -> dict[str, object]:
    return {
        "at": TIME + timedelta(hours=k), "key_id": f"k{k % 2}", "name": "名", "address": "::1",
        "request_id": f"r{k}", "action": "finding.read", "subject": f"F{k}", "details": {"n": k},
    } | changes  # fmt: skip


def test_audit(database: Database) -> None:
    log = AuditLog(database)
    assert log.add([]) == []
    assert log.add([note(k) for k in range(5)]) == [1, 2, 3, 4, 5]
    odd = note(5, action="plan.make", subject="a\0b", details={"day": date(2026, 1, 1)}, name=None)
    assert log.add([odd]) == [6]
    rows, after = log.page(AuditFilters(), None, 4)
    assert [row["number"] for row in rows] == [6, 5, 4, 3]
    assert rows[0]["subject"] == "a\N{REPLACEMENT CHARACTER}b"
    assert rows[0]["details"] == {"day": "2026-01-01"}
    assert rows[1] == note(4) | {"number": 5}
    rest, end = log.page(AuditFilters(), after, 4)
    assert ([row["number"] for row in rest], end) == ([2, 1], None)
    for filters, numbers in (
        (AuditFilters(key_id="k1"), [6, 4, 2]),
        (AuditFilters(action="plan.make"), [6]),
        (AuditFilters(subject="F2"), [3]),
        (AuditFilters(since=TIME + timedelta(hours=2), until=TIME + timedelta(hours=4)), [4, 3]),
    ):
        assert [row["number"] for row in log.page(filters, None, 9)[0]] == numbers


def rejects(*reasons: str) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "file": "body",
                "row": k,
                "column": None,
                "reason": reason,
                "detail": "x\0",
                "raw": "{}",
            }
            for k, reason in enumerate(reasons, 1)
        ],
        schema=REJECTS,
    )


def test_rejects(database: Database) -> None:
    store = RejectStore(database)
    assert store.add(rejects(), 1) == []
    of_one = rejects("missing_code", "bad_time", "event_id_conflict")
    assert store.add(of_one, 1) == [1, 2, 3]
    assert store.add(of_one, 1) == []
    assert store.add(rejects("bad_time"), 2) == [4]
    assert [row["source"] for row in store.page(None, 9, offset=1)[0]] == ["engine", "door", "door"]
    assert [row["number"] for row in store.page(None, 9, offset=1)[0]] == [3, 2, 1]
    assert [row["number"] for row in store.page(None, 9, reason="bad_time")[0]] == [4, 2]
    rows, after = store.page(None, 3)
    assert rows[0] == {
        "number": 4, "offset": 2, "source": "door", "file": "body", "row": 1, "column": None,
        "reason": "bad_time", "detail": "x\N{REPLACEMENT CHARACTER}", "raw": "{}",
        "stored_at": from_micros(NOW),
    }  # fmt: skip
    assert [row["number"] for row in store.page(after, 3)[0]] == [1]


def test_outcomes(database: Database) -> None:
    store = OutcomeStore(database)
    first = {"outcome_id": "o1", "enterprise_id": "E1", "date": date(2026, 1, 5), "n": 0.5}
    second = {"outcome_id": "o2", "enterprise_id": None, "outcome": "clean"}
    assert store.add([first, second, dict(reversed(first.items()))]) == ["o1", "o2"]
    assert store.add([second, first]) == []
    third = {"outcome_id": "o3", "enterprise_id": "E1"}
    with pytest.raises(OutcomeConflict, match="o2") as conflict:
        store.add([third, second | {"outcome": "violation"}])
    assert conflict.value.outcome_ids == ["o2"]
    with pytest.raises(OutcomeConflict, match="o3"):
        store.add([third, third | {"enterprise_id": "E2"}])
    assert store.add([third]) == ["o3"]
    assert [row["outcome_id"] for row in store.all()] == ["o1", "o2", "o3"]
    assert store.all()[0] == first | {
        "date": "2026-01-05", "number": 1, "stored_at": from_micros(NOW),
    }  # fmt: skip
    rows, after = store.page(None, 2)
    assert [row["outcome_id"] for row in rows] == ["o3", "o2"]
    assert [row["outcome_id"] for row in store.page(after, 2)[0]] == ["o1"]
    assert len(store.page(None, 9, enterprise_id="E1")[0]) == 2
    with pytest.raises(TypeError, match="cannot hold a object"):
        store.add([{"outcome_id": "o4", "odd": object()}])


def test_outcomes_sent_twice_at_once_are_stored_once(database: Database) -> None:
    store = OutcomeStore(database)
    outcomes = [{"outcome_id": f"o{k}"} for k in range(30)]
    added: list[str] = []
    threads = [threading.Thread(target=lambda: added.extend(store.add(outcomes))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == sorted(row["outcome_id"] for row in outcomes)
    assert len(store.all()) == 30


def test_plans(database: Database) -> None:
    store = PlanStore(database)
    assert store.add("p1", {"budget": 5, "rows": [{"药品": 1}]}, "desk") == 1
    assert store.add("p2", {}) == 2
    with pytest.raises(IntegrityError):
        store.add("p1", {})
    assert store.get("p1") == {
        "number": 1, "plan_id": "p1", "made_at": from_micros(NOW), "made_by": "desk",
        "document": {"budget": 5, "rows": [{"药品": 1}]},
    }  # fmt: skip
    assert store.get("p3") is None
    rows, after = store.page(None, 1)
    assert ([row["plan_id"] for row in rows], after) == (["p2"], 2)
    assert "document" not in rows[0]
    assert store.page(after, 1)[0][0]["plan_id"] == "p1"
    assert store.page(None, 2)[1] is None
