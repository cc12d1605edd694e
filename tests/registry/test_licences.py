"""What the registry says of licences, shops and territories, as arrays."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from trace_engine.events.batch import Vocabulary
from trace_engine.registry import Registry, RegistryView
from trace_engine.registry.channels import (
    CITY,
    COUNTY,
    NOBODY,
    PROVINCE,
    UNREGISTERED,
    region_levels,
)
from trace_engine.registry.licences import (
    ALWAYS,
    CANCELLED,
    LICENCE_MALFORMED,
    LICENCE_SHARED,
    NEVER,
    SUSPENDED,
    USCC_MALFORMED,
)
from trace_engine.registry.types import LicenceEvent, licence_event

Row = dict[str, Any]


def table(rows: list[Row]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({n: pa.array([row.get(n) for row in rows], pa.string()) for n in names})


def view(vocabulary: Vocabulary | None = None, **tables: list[Row]) -> RegistryView:
    return Registry({n: table(rows) for n, rows in tables.items()}).view(vocabulary or Vocabulary())


def day(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


def closed(found: RegistryView, row: int) -> list[tuple[int, int, int]]:
    of = found.licences
    begin, end = of.closed_offsets[row], of.closed_offsets[row + 1]
    columns = (of.closed_from, of.closed_to, of.closed_why)
    return list(zip(*(c[begin:end].tolist() for c in columns), strict=True))


def events(*told: tuple[str, str]) -> list[Row]:
    return [{"enterprise_id": "E", "kind": kind, "date": date} for kind, date in told]


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        ({}, [], []),
        ({"status": "active"}, [], []),
        ({"status": "注销", "status_date": "2026-03-01"}, [],
         [("2026-03-01", None, CANCELLED)]),
        ({"status": "suspended"}, [], []),  # since when is not known
        ({"status": "active"}, [("suspension", "2026-01-05"), ("resumption", "2026-02-01")],
         [("2026-01-05", "2026-02-01", SUSPENDED)]),
        ({"status": "active"}, [("suspension", "2026-01-05")], []),  # reopened, nobody knows when
        ({}, [("suspension", "2026-01-05")], [("2026-01-05", None, SUSPENDED)]),
        ({"status": "cancelled", "status_date": "2026-03-01"}, [("停业", "2026-01-05")],
         [("2026-01-05", "2026-03-01", SUSPENDED), ("2026-03-01", None, CANCELLED)]),
        ({"status": "suspended", "status_date": "2026-01-05"}, [("suspension", "2026-01-05")],
         [("2026-01-05", None, SUSPENDED)]),
        ({"status": "active"}, [("resumption", "2026-02-01"), ("suspension", "2026-02-01")], []),
    ],
)  # fmt: skip
def test_when_an_enterprise_is_closed(
    status: Row, told: list[tuple[str, str]], expected: list[tuple[str, str | None, int]]
) -> None:
    tables = {"enterprises": [{"enterprise_id": "A"}, {"enterprise_id": "E", **status}]}
    if told:
        tables["licence_events"] = events(*told)
    found = view(None, **tables)
    assert closed(found, 1) == [
        (day(begin), day(end) if end else NEVER, why) for begin, end, why in expected
    ]
    assert closed(found, 0) == closed(found, -1) == []
    assert found.licences.undated_status.tolist() == [
        False,
        status == {"status": "suspended"},
        False,
    ]


def test_dates_of_a_licence() -> None:
    found = view(
        None,
        enterprises=[
            {"enterprise_id": "E", "licence_from": "2021-01-01", "licence_to": "2025-12-31"},
            {"enterprise_id": "F", "licence_to": "长期"},
        ],
        licence_events=[
            *events(
                ("issue", "2021-01-01"), ("renewal", "2025-12-01"), ("address_change", "2024-05-01"),
                ("变更法定代表人", "2024-05-01"), ("经营范围变更", "2024-07-01"), ("补发", "2024-08-01"),
            ),
            {"enterprise_id": "F", "kind": "renewal", "date": "2020-01-01"},
            {"enterprise_id": "F", "kind": "issue", "date": "2020-06-01"},
            {"enterprise_id": "nobody", "kind": "issue", "date": "2020-06-01"},
        ],
    ).licences  # fmt: skip
    assert found.valid_from.tolist() == [day("2021-01-01"), ALWAYS, ALWAYS]
    assert found.valid_to.tolist() == [day("2025-12-31"), NEVER, NEVER]
    assert found.renewed.tolist() == [day("2025-12-01"), NEVER, NEVER]
    # What was renewed before it was issued had been issued before.
    assert found.issued.tolist() == [day("2021-01-01"), ALWAYS, ALWAYS]
    assert found.scope_since.tolist() == [day("2024-07-01"), ALWAYS, ALWAYS]
    begin, end = found.change_offsets[:2]
    assert found.change_days[begin:end].tolist() == [day("2024-05-01"), day("2024-07-01")]


def test_scopes() -> None:
    found = view(
        None,
        enterprises=[
            {"enterprise_id": "A", "scope": "rx;otc_a", "type": "pharmacy", "uscc": "U1"},
            {"enterprise_id": "B", "scope": "中成药、生物制品", "type": "wholesaler", "uscc": "U1"},
            {"enterprise_id": "C", "scope": "rx;生物制品(限诊断试剂)", "type": "wholesaler"},
            {"enterprise_id": "D"},
        ],
    )
    of = found.licences
    assert of.scope_known.tolist() == [True, True, False, False, False]
    assert of.scope[0] == found.class_mask("rx", "otc_a")
    assert int(of.scope[1]) & int(found.class_mask("vaccine", "blood_product")) > 0
    assert of.sells_retail.tolist() == [True, True, False, False, False]


def test_numbers() -> None:
    good = "91110108551385082Q"
    rows = [
        ("A", "wholesaler", "甲乙丙丁医药", "京AA010000001", good, None),
        ("B", "pharmacy", "戊己庚辛药房", "京AA010000001", None, None),
        ("C", "pharmacy", "壬癸子丑药房", "京DA01000000", good[:-1] + "A", None),
        ("D", "public_hospital", "某医院", "PDY1", "1", None),
        ("E", "chain_hq", "寅卯辰巳总部", "京BA010000001", None, "G"),
        ("F", "chain_store", "另一名字门店", "京BA010000001", None, "G"),  # of one group
        ("G", "pharmacy", "午未申酉一店", "京DA010000009", None, None),
        ("H", "pharmacy", "午未申酉二店", "京DA010000009", None, None),  # named alike
    ]  # fmt: skip
    names = ("enterprise_id", "type", "name", "licence_no", "uscc", "group_id")
    of = view(None, enterprises=[dict(zip(names, row, strict=True)) for row in rows]).licences
    assert of.number_problem.tolist() == [
        LICENCE_SHARED, LICENCE_SHARED, LICENCE_MALFORMED | USCC_MALFORMED, 0, 0, 0, 0, 0, 0,
    ]  # fmt: skip


def test_kinds_of_licence_events() -> None:
    assert licence_event(" Warehouse_Change ") == LicenceEvent.CHANGED
    assert licence_event("变更注册地址") == LicenceEvent.CHANGED
    assert licence_event("scope_change") == LicenceEvent.SCOPE_CHANGED
    assert licence_event("annual report") == LicenceEvent.OTHER


def test_shops_follow_the_vocabulary() -> None:
    vocabulary = Vocabulary()
    found = view(
        vocabulary,
        enterprises=[{"enterprise_id": "P", "region": "370102"}, {"enterprise_id": "Q"}],
        shops=[
            {"shop_id": "2", "platform_id": "T", "enterprise_id": "Q", "reported_from": "2026-01-05"},
            {"shop_id": "1", "platform_id": "T", "enterprise_id": "P", "reported_to": "2026-02-01"},
            {"shop_id": "1", "platform_id": "V", "enterprise_id": "X", "reported_from": "2026-03-01"},
            {"shop_id": None, "platform_id": "W"},
        ],
    )  # fmt: skip
    shops = found.shops
    assert shops is not None
    assert len(shops.first) == 0
    vocabulary.shops.ids(["9", "1", "2"])
    vocabulary.platforms.ids(["V", "?"])
    found.refresh()
    assert (shops.after - shops.first).tolist() == [0, 2, 1]
    rows = slice(int(shops.first[1]), int(shops.after[1]))
    assert shops.holder[rows].tolist() == [0, UNREGISTERED]
    assert shops.reported_to[rows].tolist() == [day("2026-02-01"), NEVER]
    assert shops.reported_from[rows].tolist() == [ALWAYS, day("2026-03-01")]
    assert shops.platform_of.tolist()[1] == -1
    assert shops.platform[rows].tolist()[1] == shops.platform_of[0]
    assert len(shops.holder_platforms) == 2
    assert shops.provinces.nonzero()[0].tolist() == [37]


def test_territories_follow_the_vocabulary() -> None:
    vocabulary = Vocabulary()
    found = view(
        vocabulary,
        enterprises=[{"enterprise_id": "W"}],
        territories=[
            {"drug_id": "8000001", "region": "370000", "valid_to": "2026-01-01"},
            {"drug_id": "8000001", "region": "440100"},
            {"drug_id": "8000001", "enterprise_id": "W", "region": "440106"},
            {"drug_id": "6970593810109", "enterprise_id": "W"},
            {"drug_id": "8000001"},
            {"drug_id": "8000001", "region": "no region"},
        ],
    )
    territories = found.territories
    assert territories is not None
    vocabulary.drugs.ids(["8000002", "06970593810109", "8000001"])
    found.refresh()
    assert (territories.after - territories.first).tolist() == [0, 1, 3]
    only = int(territories.first[1])
    assert (territories.enterprise[only], territories.region[only]) == (0, -1)
    rows = slice(int(territories.first[2]), int(territories.after[2]))
    grain, keys = region_levels()
    regions = territories.region[rows]
    assert sorted(grain[regions].tolist()) == [PROVINCE, CITY, COUNTY]
    assert sorted(keys[PROVINCE - 1, regions].tolist()) == [37, 44, 44]
    assert len(set(keys[CITY - 1, regions].tolist())) == 2
    assert len(set(keys[COUNTY - 1, regions].tolist())) == 3
    assert set(territories.enterprise[rows].tolist()) == {NOBODY, 0}


def test_a_registry_without_the_tables_says_nothing() -> None:
    found = view(None)
    assert found.shops is None
    assert found.territories is None
    assert found.licences.valid_to.tolist() == [NEVER]
    assert closed(found, -1) == []
