from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.store.conftest import Clock
from tests.store.test_findings import finding, table
from trace_engine.store.database import Database
from trace_engine.store.finding_tally import FindingTally
from trace_engine.store.findings_table import FindingStore
from trace_engine.store.moments import to_micros


def test_it_equals_the_count_whatever_was_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FindingStore(database)
    tally = FindingTally(store)
    assert tally.count == 0
    with monkeypatch.context() as patched:
        patched.setattr(FindingStore, "count", None)  # it does without
        seen = []
        for offset, names in enumerate(("abc", "d", "a", "ae", "", "bcd", "f"), 1):
            rows = [finding(name, codes=[f"{name}{offset}"]) for name in names]
            store.add(table(*rows), offset, [False] * len(rows))
            tally.update()
            seen.append(tally.count)
            store.add(table(*rows), offset, [False] * len(rows))  # a replay
            tally.update()
            assert tally.count == seen[-1]
    assert seen == [3, 4, 4, 5, 5, 5, 6]
    assert seen[-1] == store.count()
    assert FindingTally(store).count == store.count()  # after a restart


def test_what_was_missed_is_made_up_for(database: Database) -> None:
    store = FindingStore(database)
    tally = FindingTally(store)
    store.add(table(finding("a"), finding("b")), 1, [False, False])
    store.add(table(finding("a", codes=["x"]), finding("c")), 2, [False, False])
    tally.update()
    assert tally.count == store.count() == 3


def test_who_deletes_has_it_recount(database: Database, clock: Clock) -> None:
    store = FindingStore(database)
    clock.micros = to_micros(datetime(2019, 1, 1, tzinfo=UTC))
    store.add(table(finding("a"), finding("b")), 1, [False, False])
    clock.micros = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
    store.add(table(finding("c")), 2, [False])
    tally = FindingTally(store)
    assert database.apply_retention(5, datetime(2026, 2, 1, tzinfo=UTC))["finding"] == 2
    tally.recount()
    assert tally.count == store.count() == 1
    store.add(table(finding("d"), finding("c", codes=["x"])), 3, [False, False])
    tally.update()
    assert tally.count == store.count() == 2
