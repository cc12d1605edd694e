from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from sqlalchemy import func, select

from tests.store.conftest import NOW, Clock
from trace_engine.events.findings import FINDINGS
from trace_engine.store import finding_query
from trace_engine.store.database import Database
from trace_engine.store.finding_rows import merge
from trace_engine.store.findings_table import FindingFilters, FindingStore, delete_findings
from trace_engine.store.moments import from_micros
from trace_engine.store.tables import FINDING_CODE

SHANGHAI = timezone(timedelta(hours=8))
TIME = datetime(2026, 3, 2, 10, 2, 33, 5, tzinfo=SHANGHAI)


def finding(name: str, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "finding_id": f"F{name}", "detector": "duplicate_sale", "family": "suspected_violation",
        "severity": 0.7, "event_time": TIME, "subject_id": "E1", "subject_type": "pharmacy",
        "counterparty_id": None, "drug_id": "8123456", "batch_no": "B1", "code": f"c-{name}",
        "code_count": 1, "codes": [f"c-{name}"], "bill_code": None, "order_code": None,
        "buyer_id": None, "region": "370102", "observed": 2.0, "threshold": 1.0, "unit": "sales",
        "amount": 10.5, "event_ids": [f"e-{name}"], "title_zh": "重复销售", "title_en": "Sold twice",
        "explanation_zh": "同一追溯码", "explanation_en": "one code", "evidence": '{"path":[1]}',
        "basis": "GB", "jurisdiction": "370100", "policy_version": "p1",
    }  # fmt: skip
    return row | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=FINDINGS)


@pytest.fixture
def store(database: Database) -> FindingStore:
    return FindingStore(database)


def test_a_finding_comes_back_as_it_went_in(store: FindingStore, clock: Clock) -> None:
    row = finding("a")
    assert store.last_number() == 0
    assert store.add(table(row), 5, [True]) == [1]
    found = store.get("Fa")
    assert found == row | {
        "number": 1, "late": True, "revision": 0, "offset": 5, "stored_at": from_micros(NOW),
    }  # fmt: skip
    assert found["event_time"].utcoffset() == timedelta(hours=8)
    assert store.get("Fb") is None
    assert (store.last_number(), store.count()) == (1, 1)


def test_what_is_missing_stays_missing(store: FindingStore) -> None:
    row = dict.fromkeys(FINDINGS.names)
    row |= {"finding_id": "F1", "detector": "d", "family": "data_quality", "codes": []}
    row |= {"event_ids": [], "observed": float("nan"), "severity": None}
    store.add(table(row), 1, [False])
    found = store.get("F1")
    assert found is not None
    assert found["event_time"] is None
    assert {name: found[name] for name in FINDINGS.names} == row | {"observed": None}


def test_text_that_databases_choke_on(store: FindingStore) -> None:
    row = finding("a", code="x\0y", codes=["x\0y", "z"], subject_id="'; DROP TABLE\\ \t\n\u2028🙂")
    store.add(table(row), 1, [False])
    found = store.get("Fa")
    assert found is not None
    assert found["codes"] == ["x\N{REPLACEMENT CHARACTER}y", "z"]
    assert found["subject_id"] == row["subject_id"]
    filters = FindingFilters(subject_id=row["subject_id"], code="z")
    assert [f["finding_id"] for f in store.page(filters, None, 9)[0]] == ["Fa"]


def test_a_replay_is_ignored(store: FindingStore) -> None:
    rows = table(finding("a"), finding("b"))
    assert store.add(rows, 7, [False, False]) == [1, 2]
    assert store.add(rows, 7, [False, False]) == []
    assert store.add(rows, 3, [True, True]) == []
    assert store.add(rows.slice(0, 0), 9, []) == []
    # A crash between two records: the first comes again, the second is new.
    more = table(finding("b"), finding("c"))
    assert store.add(table(finding("c")), 7, [False]) == [3]
    assert store.add(more, 7, [False, False]) == []
    found = store.get("Fb")
    assert found is not None
    assert found["revision"] == 0


def test_more_of_the_same_cause_lets_a_finding_grow(store: FindingStore, clock: Clock) -> None:
    store.add(table(finding("a"), finding("b")), 1, [False, False])
    clock.micros += 1_000_000
    later = finding(
        "a", codes=["c-a", "c2"], code_count=2, event_ids=["e-a", "e2"], amount=None, severity=0.9,
        observed=1.0, explanation_en="two codes", event_time=TIME + timedelta(days=1),
    )  # fmt: skip
    assert store.add(table(later), 4, [True]) == [3]
    found = store.get("Fa")
    assert found is not None
    evidence = msgspec.json.decode(found.pop("evidence"))
    expected = finding(
        "a", codes=["c-a", "c2"], code_count=3, event_ids=["e-a", "e2"], severity=0.9,
        number=3, late=True, revision=1, offset=4, stored_at=from_micros(NOW + 1_000_000),
    )  # fmt: skip
    del expected["evidence"]
    assert found == expected
    assert evidence["path"] == [1]
    assert [entry["offset"] for entry in evidence["later"]] == [4]
    assert evidence["later"][0]["explanation_en"] == "two codes"
    assert evidence["later"][0]["event_ids"] == ["e-a", "e2"]
    assert [f["number"] for f in store.after(0, 9)] == [2, 3]
    assert [f["number"] for f in store.page(FindingFilters(code="c2"), None, 9)[0]] == [3]
    # The same again is a replay, now also for the earlier record.
    assert store.add(table(later), 4, [True]) == store.add(table(finding("a")), 1, [False]) == []
    assert store.add(table(finding("a", codes=["c3"])), 6, [False]) == [4]
    grown = store.get("Fa")
    assert grown is not None
    assert (grown["revision"], grown["codes"], grown["late"]) == (2, ["c-a", "c2", "c3"], True)
    assert len(msgspec.json.decode(grown["evidence"])["later"]) == 2


def test_the_same_finding_twice_in_one_record_is_one(store: FindingStore) -> None:
    rows = table(finding("a"), finding("b"), finding("a", codes=["c2"], event_ids=["e2"]))
    assert store.add(rows, 1, [False, False, True]) == [1, 2]
    found = store.get("Fa")
    assert found is not None
    assert (found["codes"], found["event_ids"], found["code_count"]) == (
        ["c-a", "c2"], ["e-a", "e2"], 2,
    )  # fmt: skip
    assert (found["revision"], found["late"]) == (0, True)


def test_merging_evidence_that_is_no_object() -> None:
    first = finding("a", evidence="[1]", event_time="t")
    merged = merge(first, finding("a", evidence=None, event_time="t"), 3)
    evidence = msgspec.json.decode(merged["evidence"])
    assert evidence["first"] == [1]
    assert evidence["later"][0]["offset"] == 3


DETECTORS = ("d1", "d2", "d3")
REGIONS = ("370102", "370203", "330106", "110101", None)


def world(count: int) -> list[dict[str, Any]]:
    draw = random.Random(7)
    rows = []
    for k in range(count):
        codes = [f"code{draw.randrange(60)}" for _ in range(draw.randrange(1, 4))]
        rows.append(
            finding(
                f"{k:05d}",
                detector=draw.choice(DETECTORS),
                family=draw.choice(("suspected_violation", "data_quality")),
                severity=draw.choice((0.1, 0.7, 0.8, 1.0)),
                subject_id=f"E{draw.randrange(12)}",
                drug_id=f"D{draw.randrange(5)}",
                batch_no=f"B{draw.randrange(9)}",
                region=draw.choice(REGIONS),
                jurisdiction=draw.choice(("370100", "330100", None)),
                event_time=TIME + timedelta(hours=k + draw.randrange(40)),
                code=codes[0],
                codes=list(dict.fromkeys(codes)),
            )
        )
    return rows


FILTERS: dict[str, Any] = {
    "detector": [("d1",), ("d1", "d3")],
    "family": ["data_quality"],
    "severity_min": [0.7, 0.8, 1.0],
    "subject_id": ["E3"],
    "drug_id": ["D2"],
    "batch_no": ["B4"],
    "code": ["code7"],
    "region": ["37", "3702", "330106", "1", "37020"],
    "since": [TIME + timedelta(hours=30), (TIME + timedelta(hours=100)).astimezone(UTC)],
    "until": [TIME + timedelta(hours=60), TIME + timedelta(hours=110)],
    "late": [True, False],
    "jurisdiction": ["330100"],
}


def fits(row: dict[str, Any], late: bool, filters: FindingFilters) -> bool:
    """Say again, plainly, what the filters mean."""
    if filters.detector and row["detector"] not in filters.detector:
        return False
    for name in ("family", "subject_id", "drug_id", "batch_no", "jurisdiction"):
        if getattr(filters, name) is not None and row[name] != getattr(filters, name):
            return False
    return (
        (filters.severity_min is None or row["severity"] >= filters.severity_min)
        and (filters.code is None or filters.code in row["codes"])
        and (filters.region is None or (row["region"] or "").startswith(filters.region))
        and (filters.since is None or row["event_time"] >= filters.since)
        and (filters.until is None or row["event_time"] < filters.until)
        and (filters.late is None or late == filters.late)
    )


def combinations() -> Iterator[FindingFilters]:
    yield FindingFilters()
    for name, values in FILTERS.items():
        for value in values:
            yield FindingFilters(**{name: value})
    draw = random.Random(11)
    for _ in range(25):
        names = draw.sample(sorted(FILTERS), draw.randrange(2, 5))
        yield FindingFilters(**{name: draw.choice(FILTERS[name]) for name in names})


@pytest.mark.parametrize("few, many", [(20_000, 100_000), (0, 40)])
def test_filters_mean_what_they_say(
    store: FindingStore, monkeypatch: pytest.MonkeyPatch, few: int, many: int
) -> None:
    """Whatever way is taken to find them, pages hold what the filters say, in order, once."""
    monkeypatch.setattr(finding_query, "FEW", few)
    monkeypatch.setattr(finding_query, "MANY", many)
    rows = world(120)
    late = [k % 7 == 0 for k in range(len(rows))]
    store.add(table(*rows[:80]), 1, late[:80])
    store.add(table(*rows[80:]), 2, late[80:])
    for filters in combinations():
        expected = [
            row["finding_id"]
            for row, is_late in zip(rows, late, strict=True)
            if fits(row, is_late, filters)
        ]
        for order, wanted in (("oldest", expected), ("newest", expected[::-1])):
            found: list[str] = []
            after = None
            while True:
                page, after = store.page(filters, after, 40, order)
                found += [row["finding_id"] for row in page]
                if after is None:
                    break
                assert len(page) == 40
            assert found == wanted, (filters, order)
        whole = store.table(filters)
        assert whole.schema == FINDINGS
        assert whole.column("finding_id").to_pylist() == expected, filters
    assert len(expected) < 120


def test_whole_findings_of_some_subjects(store: FindingStore) -> None:
    rows = world(100)
    store.add(table(*rows), 1, [False] * 100)
    found = store.table(FindingFilters(), subjects=["E1", "E2", "nobody"])
    expected = table(*[row for row in rows if row["subject_id"] in ("E1", "E2")])
    assert found.drop("severity").equals(expected.drop("severity"))
    assert found.column("severity").to_pylist() == expected.column("severity").to_pylist()
    assert store.table(FindingFilters(), subjects=[]).num_rows == 0


def test_the_ranking_sees_every_change(store: FindingStore, database: Database) -> None:
    assert store.for_ranking().num_rows == 0
    rows = [finding("a", severity=0.3), finding("b", subject_id=None, amount=None)]
    store.add(table(*rows), 1, [False, False])
    first = store.for_ranking()
    for name in first.column_names:
        assert first.schema.field(name) == FINDINGS.field(name)
        assert first.column(name).to_pylist() == table(*rows).column(name).to_pylist()
    store.add(table(finding("a", severity=0.5), finding("c")), 2, [True, False])
    assert store.for_ranking().column("severity").to_pylist() == pytest.approx([0.7, 0.5, 0.7])
    assert store.for_ranking().column("code_count").to_pylist() == [1, 2, 1]
    # Somebody else deletes: what is remembered does not stay.
    with database.write() as connection:
        delete_findings(connection, [2])
    assert store.for_ranking().num_rows == 2
    assert store.for_ranking().equals(FindingStore(database).for_ranking())


def test_deleting_leaves_nothing_behind(store: FindingStore, database: Database) -> None:
    store.add(table(*world(20)), 1, [False] * 20)
    with database.write() as connection:
        delete_findings(connection, list(range(1, 21)))
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(FINDING_CODE)).scalar_one() == 0
    assert (store.count(), store.last_number()) == (0, 20)


def test_a_sender_with_long_names_stops_nothing(store: FindingStore) -> None:
    """An index of PostgreSQL takes 2704 bytes a value: what is longer is cut there, and only there."""
    chance = random.Random(3)
    names = ("subject_id", "drug_id", "batch_no", "jurisdiction", "region", "code")
    long = {name: "".join(chance.choices("药店连锁有限公司甲乙丙丁", k=9000)) for name in names}
    row = finding("long", codes=[long["code"], "c"], **long)
    assert store.add(table(row), 5, [False]) == [1]
    found = store.get("Flong")
    assert found is not None
    assert {name: found[name] for name in names} == long
    for name in ("subject_id", "drug_id", "batch_no", "jurisdiction", "code"):
        asked: dict[str, Any] = {name: long[name]}
        one = FindingFilters(**asked)
        assert [row["finding_id"] for row in store.page(one, None, 5)[0]] == ["Flong"], name
        assert store.table(one).num_rows == 1
        asked = {name: "x" + long[name]}
        other = FindingFilters(**asked)
        assert store.page(other, None, 5)[0] == []
    assert store.table(FindingFilters(), [long["subject_id"]]).num_rows == 1
    more = finding("long", event_ids=["later"], codes=[long["code"], "d"], **long)
    assert store.add(table(more), 6, [True]) == [2]
