"""What random histories hardly reach: closings after weeks of trade, and what could not be judged."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.conformance import defaults
from tests.conformance.machine import comparable, hits_of_engine, registry_of, run_engine
from tests.conformance.places import point
from tests.reference.channels import DETECTORS as CHANNELS
from tests.reference.events import events_of
from tests.reference.history import history_of
from tests.reference.licences import DETECTORS as LICENCES
from tests.reference.world import World
from trace_engine.coverage import Coverage
from trace_engine.engine import Engine

Row = dict[str, Any]

DETECTORS = {**LICENCES, **CHANNELS}
BEGIN = 20148  # 2025-03-01


def day_text(day: int) -> str:
    import datetime as dt

    return str(dt.date(1970, 1, 1) + dt.timedelta(days=day))


def weeks_of_trade(r: random.Random) -> tuple[dict[str, list[Row]], list[Row]]:
    """Return a registry of traders that close, and weeks of their sales, some of them large."""
    closing = BEGIN + r.randrange(60, 110)
    status = r.choice(("suspended", "cancelled", "revoked"))
    enterprises: list[Row] = [
        {"enterprise_id": "A", "type": "wholesaler", "group_id": "G", "licence_no": "京AA0100001",
         "status": status, "status_date": day_text(closing)},
        {"enterprise_id": "B", "type": "wholesaler", "group_id": "G", "licence_no": "京AA0100002",
         "status": "active"},
        {"enterprise_id": "C", "type": "pharmacy", "licence_no": "京DA0100003"},
    ]  # fmt: skip
    events = [
        {"enterprise_id": "B", "kind": "suspension", "date": day_text(closing - 10)},
        {"enterprise_id": "B", "kind": "resumption", "date": day_text(closing - 5)},
    ]
    rows: list[Row] = []
    for number in range(r.randrange(40, 160)):
        seller = r.choice("AAABC")
        day = BEGIN + r.randrange(130)
        # Small sales at any time, large ones by preference near the end.
        large = r.random() < (0.3 if closing - 15 < day < closing else 0.02)
        row: Row = {
            "event_id": f"E{number}",
            "event_time": f"{day_text(day)} {r.choice(('00:00', '09:30', '23:55'))}",
            "event_type": r.choice(("sale_shipment", "sale_shipment", "retail_sale")),
            "code": f"8100001{number:013d}",
            "actor_id": seller,
            "quantity": r.randrange(40, 90) if large else r.randrange(1, 4),
        }
        if row["event_type"] == "sale_shipment":
            row["to_id"] = r.choice("ABC")
        rows.append(row)
    return {"enterprises": enterprises, "licence_events": events}, rows


def both(tables: dict[str, list[Row]], rows: list[Row]) -> tuple[list[Any], list[Any]]:
    engine = run_engine(rows, registry_of(tables))
    history = history_of(
        events_of(rows),
        World.of(coordinates=point, **tables),
        defaults.settings(),
        defaults.parameters(),
        defaults.lists(),
    )
    mine = [h for h in hits_of_engine(engine) if h.detector in DETECTORS]
    plain = [h for function in DETECTORS.values() for h in function(history)]
    # Of events at one time, each implementation has its own key to choose by.
    at = {row["event_id"]: row["event_time"] for row in rows}
    for hits in (mine, plain):
        hits[:] = [h.__class__(**{**vars(h), "event_id": at[h.event_id]}) for h in hits]
    return comparable(mine), comparable(plain)


def test_closings_after_weeks_of_trade() -> None:
    dumps = 0
    for seed in range(25):
        engine, plain = both(*weeks_of_trade(random.Random(seed)))
        assert engine == plain, seed
        dumps += sum(hit[0] == "pre_closure_dump" for hit in engine)
    assert dumps >= 5  # the histories do reach it


def sent_out_by_others(r: random.Random) -> tuple[dict[str, list[Row]], list[Row]]:
    """Return a registry of ten firms in two cities, and sales that one uploads for others."""
    firms = [f"F{i}" for i in range(10)]
    enterprises: list[Row] = [
        {
            "enterprise_id": firm,
            "type": r.choice(("wholesaler", "wholesaler", "pharmacy", "logistics")),
            "licence_no": f"京{'DA' if r.random() < 0.5 else 'AA'}010000{number}",
            "region": r.choice(("110101", "310101", "440103", None)),
            "group_id": r.choice((None, None, None, None, "G")),
            "warehouse_regions": r.choice((None, None, None, "110101", "310101")),
        }
        for number, firm in enumerate(firms)
    ]
    rows: list[Row] = [
        {
            "event_id": f"E{number}",
            "event_time": f"{day_text(BEGIN + r.randrange(60))} {r.choice(('00:00', '09:30'))}",
            "event_type": "retail_sale",
            "code": f"8100001{number:013d}",
            "actor_id": r.choice(firms[:3]),
            "from_id": r.choice((*firms, "F99")),
        }
        for number in range(60)
    ]
    return {"enterprises": enterprises}, rows


def test_goods_of_many_sent_out_by_one() -> None:
    fired = 0
    for seed in range(25):
        engine, plain = both(*sent_out_by_others(random.Random(seed)))
        assert engine == plain, seed
        fired += sum(hit[0] == "shared_warehouse" for hit in engine)
    assert fired >= 5


def sold_through_platforms(r: random.Random) -> tuple[dict[str, list[Row]], list[Row]]:
    """Return a registry with one platform of two, and months of sales through both."""
    shops = ["P1", "P2", "P3", "P4"]
    enterprises: list[Row] = [
        {"enterprise_id": shop, "type": "pharmacy", "licence_no": f"京DA010000{number}"}
        for number, shop in enumerate(shops)
    ]
    drugs: list[Row] = [
        {"drug_id": "8100001", "generic_name": "板蓝根颗粒", "classes": "otc_b"},
        {"drug_id": "8100003", "generic_name": "注射用头孢曲松钠", "classes": "rx;injection"},
        {"drug_id": "8100009"},
    ]
    rows: list[Row] = [
        {
            "event_id": f"E{number}",
            "event_time": f"{day_text(BEGIN + r.randrange(75))} {r.choice(('00:00', '09:30'))}",
            "event_type": "retail_sale",
            "code": f"{r.choice(('8100001', '8100003', '8100009'))}{number:013d}",
            "actor_id": r.choice(shops),
            "platform_id": r.choice(("T", "T", "T", "unregistered", None)),
        }
        for number in range(r.randrange(60, 200))
    ]
    enterprises.append({"enterprise_id": "T", "type": "platform"})
    return {"enterprises": enterprises, "drugs": drugs}, rows


def test_banned_sales_by_platform_and_month() -> None:
    fired = 0
    for seed in range(25):
        engine, plain = both(*sold_through_platforms(random.Random(seed)))
        # Who leads is one of the sellers of the moment, by a key of each implementation's own.
        blind = [[(h[0], *h[1:3], "", *h[4:]) for h in hits] for hits in (engine, plain)]
        assert blind[0] == blind[1], seed
        fired += sum(hit[0] == "platform_interception" for hit in engine)
    assert fired >= 5


def skipped(engine: Engine, detector: str) -> dict[str, int]:
    coverage: Coverage = engine.coverage
    return dict(coverage.skipped[detector])


SALE: Row = {
    "event_id": "E",
    "event_time": "2025-03-05 10:00",
    "event_type": "retail_sale",
    "code": "81000010000000000001",
    "actor_id": "P",
    "shop_id": "S",
}
PHARMACY: Row = {"enterprise_id": "P", "type": "pharmacy", "region": "370102"}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {},
            {
                "licence_invalid": {"no_registry": 1},
                "licence_churn": {"no_licence_events": 1},
                "scope_breach": {"no_registry": 1},
                "unreported_channel": {"no_shop_register": 1},
                "territory_breach": {"no_territories": 1},
                "pre_closure_dump": {"no_registry": 1},
                "shared_warehouse": {"no_registry": 1},
            },
        ),
        (
            {
                "enterprises": [{**PHARMACY, "enterprise_id": "Q"}],
                "shops": [{"shop_id": "S", "enterprise_id": "Q"}],
                "licence_events": [{"enterprise_id": "Q", "kind": "renewal", "date": "2025-01-01"}],
            },
            {
                "licence_invalid": {"not_registered": 1},
                "licence_churn": {"not_registered": 1},
                "unreported_channel": {"unknown_seller": 1},
            },
        ),
        (
            {
                "enterprises": [{**PHARMACY, "licence_from": "2025-04-01"}],
                "drugs": [{"drug_id": "8100001", "generic_name": "布洛芬片", "classes": "otc_b"}],
                "shops": [{"shop_id": "T", "enterprise_id": "another"}],
                "territories": [{"drug_id": "8100001", "region": "110000"}],
            },
            {
                "licence_invalid": {"earlier_licence_unknown": 1},
                "scope_breach": {"scope_unknown": 1},
                "unreported_channel": {"register_does_not_cover": 1},
                "territory_breach": {"online_sale": 1},
            },
        ),
    ],
)
def test_what_could_not_be_judged_is_said(
    tables: dict[str, list[Row]], expected: dict[str, dict[str, int]]
) -> None:
    engine = run_engine([SALE], registry_of(tables))
    assert not DETECTORS.keys() & set(engine.hits["detector"].to_pylist())
    for detector, reasons in expected.items():
        assert skipped(engine, detector) == reasons
