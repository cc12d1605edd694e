from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.store.conftest import Clock
from tests.store.test_findings import finding, table
from tests.store.test_records import note, rejects
from tests.store.test_webhooks import subscription
from trace_engine.store.audit import AuditFilters, AuditLog
from trace_engine.store.database import Database
from trace_engine.store.findings_table import FindingFilters, FindingStore
from trace_engine.store.moments import to_micros
from trace_engine.store.outcomes import OutcomeStore
from trace_engine.store.plans import PlanStore
from trace_engine.store.rejects import RejectStore
from trace_engine.store.retention import apply_retention, years_before
from trace_engine.store.webhooks import WAITING, WebhookStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD = NOW.replace(year=2021) - timedelta(days=1)
YOUNG = NOW.replace(year=2021) + timedelta(days=1)


def test_only_what_is_old_enough_goes(database: Database, clock: Clock) -> None:
    findings, outcomes, plans = FindingStore(database), OutcomeStore(database), PlanStore(database)
    log, rejected = AuditLog(database), RejectStore(database)
    for k, at in enumerate((OLD, YOUNG), 1):
        clock.micros = to_micros(at)
        rows = [finding(f"{k}-{n}") for n in range(30)]
        findings.add(table(*rows), k, [False] * 30)
        outcomes.add([{"outcome_id": f"o{k}"}])
        plans.add(f"p{k}", {})
        rejected.add(rejects("bad_time"), k)
        log.add([note(0, at=at, subject=f"s{k}")])
    # One of the old ones grew when it was no longer old.
    findings.add(table(finding("1-7", codes=["more"])), 3, [True])
    # What the events say of themselves does not count: it was stored lately.
    findings.add(table(finding("old", event_time=datetime(2001, 1, 1, tzinfo=UTC))), 4, [True])

    with pytest.raises(ValueError, match="at least 5 years, not 4"):
        database.apply_retention(4, NOW)
    assert database.apply_retention(6, NOW) == dict.fromkeys(
        ("finding", "reject", "outcome", "plan", "audit", "delivery"), 0
    )
    deleted = apply_retention(database, 5, NOW, step_rows=7)
    assert deleted == {
        "finding": 29, "reject": 1, "outcome": 1, "plan": 1, "audit": 1, "delivery": 0,
    }  # fmt: skip
    assert findings.count() == 32
    assert findings.get("F1-0") is None
    assert findings.page(FindingFilters(code="c-1-0"), None, 9) == ([], None)
    grown = findings.get("F1-7")
    assert grown is not None
    assert grown["revision"] == 1
    assert [row["outcome_id"] for row in outcomes.all()] == ["o2"]
    assert [row["plan_id"] for row in plans.page(None, 9)[0]] == ["p2"]
    assert [row["subject"] for row in log.page(AuditFilters(), None, 9)[0]] == ["s2"]
    assert [row["offset"] for row in rejected.page(None, 9)[0]] == [2]
    assert set(apply_retention(database, 5, NOW).values()) == {0}


def test_deliveries_that_are_done_go_sooner(database: Database, clock: Clock) -> None:
    clock.micros = to_micros(NOW - timedelta(days=200))
    store = WebhookStore(database)
    store.add(subscription("w"))
    store.enqueue("w", [("a", ""), ("b", ""), ("c", "")], 1)
    store.delivered(1, NOW - timedelta(days=91))
    store.give_up(2, "refused", NOW - timedelta(days=89))
    assert database.apply_retention(5, NOW)["delivery"] == 1
    assert [(d.number, d.state) for d in store.deliveries("w", None, 9)[0]] == [
        (3, WAITING), (2, "given_up"),
    ]  # fmt: skip


def test_years_before_a_leap_day() -> None:
    leap = datetime(2028, 2, 29, 5, tzinfo=UTC)
    assert years_before(leap, 5) == datetime(2023, 2, 28, 5, tzinfo=UTC)
    assert years_before(leap, 8) == datetime(2020, 2, 29, 5, tzinfo=UTC)
