"""Honest and benign lives keep every rule: checked over the written rows in plain Python."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.simulate.conftest import World, bracketed, drug_of
from trace_engine.simulate.cities import CITIES, distances

SALES = {"retail_sale", "dispensing", "vaccination"}
SHIPMENTS = {"sale_shipment", "direct_shipment"}
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def honest(world: World) -> dict[str, list[dict[str, Any]]]:
    """Rows of every code that no scheme and no mistake touched, twins apart."""
    twins = {c for b in world.benign for c in b["codes"]}
    return {
        code: rows
        for code, rows in world.by_code.items()
        if code not in world.touched and code not in twins
    }


def test_there_is_enough_to_look_at(world: World, honest: dict[str, list[dict[str, Any]]]) -> None:
    assert len(honest) > 0.6 * len(world.by_code)
    lengths = [len(rows) for rows in honest.values()]
    assert max(lengths) <= 10


def test_paths_are_short_slow_and_cross_one_border(
    world: World, honest: dict[str, list[dict[str, Any]]]
) -> None:
    for rows in honest.values():
        ships = [r for r in rows if r["event_type"] in SHIPMENTS]
        assert len(ships) <= 3
        if ships and world.enterprises[ships[-1]["to_id"]]["type"] == "public_hospital":
            assert len(ships) <= 2
        crossed = sum(world.province(r["from_id"]) != world.province(r["to_id"]) for r in ships)
        assert crossed <= 1
        if len(ships) == 3:
            for before, after in itertools.pairwise(ships):
                # Even if a date-only bill stood for any moment of its day.
                assert after["event_time"] - before["event_time"] > 3 * DAY
        owners = [r["to_id"] for r in ships]
        assert len(set(owners)) == len(owners)


def test_the_chain_of_hands_is_unbroken(honest: dict[str, list[dict[str, Any]]]) -> None:
    moves = SHIPMENTS | {"transfer_shipment"} | SALES
    for code, rows in honest.items():
        holder = None
        days: dict[str, set[dt.date]] = defaultdict(set)
        for row in rows:
            if row["event_type"] in moves:
                days[row["event_type"]].add(row["event_time"].date())
                if holder is not None:
                    assert row["from_id"] == holder, code
                holder = row["to_id"]
            elif row["event_type"] in ("purchase_receipt", "transfer_receipt"):
                holder = row["to_id"]
            if row["event_type"] in SALES:
                holder = "a person"


def test_sales_are_single_in_date_and_above_cost(
    honest: dict[str, list[dict[str, Any]]],
) -> None:
    priced = 0
    for rows in honest.values():
        sales = [r for r in rows if r["event_type"] in SALES]
        assert len(sales) <= 1
        paid = [
            r["unit_price"]
            for r in rows
            if r["event_type"] == "purchase_receipt" and r["unit_price"] is not None
        ]
        given = [r["unit_price"] for r in rows if r["event_type"] in SHIPMENTS and r["unit_price"]]
        if sales:
            assert str(sales[0]["event_time"].date()) <= sales[0]["expiry_date"] + "-31"
            if paid:
                priced += 1
                assert sales[0]["unit_price"] >= max(paid) - Decimal("0.01")
        assert given == sorted(given)
        for row in rows:
            assert row["production_date"] <= row["event_time"].date()
    assert priced > 1000


def test_nothing_travels_faster_than_a_lorry(
    world: World, honest: dict[str, list[dict[str, Any]]]
) -> None:
    place = {city.code: i for i, city in enumerate(CITIES)}
    km = distances()

    def where(row: dict[str, Any]) -> int | None:
        side = "to" if row["event_type"].endswith("receipt") else "from"
        stated = row[f"{side}_region"]
        if stated is None and row[f"{side}_id"] in world.enterprises:
            stated = world.enterprises[row[f"{side}_id"]]["region"]
        return place.get(stated)

    for rows in honest.values():
        for before, after in itertools.pairwise(rows):
            a, b = where(before), where(after)
            if a is None or b is None or km[a][b] < 100:
                continue
            longest = after["event_time"] - before["event_time"] + DAY  # for bills without a time
            assert km[a][b] / (longest / dt.timedelta(hours=1)) < 100


def test_quotas_and_the_online_ban_are_kept(
    world: World, honest: dict[str, list[dict[str, Any]]]
) -> None:
    bought: dict[str, int] = defaultdict(int)
    for rows in honest.values():
        for row in rows:
            if row["event_type"] not in SALES:
                continue
            code = row["code"]
            drug = world.drugs[drug_of(code)]
            if "ephedrine_compound" in drug["classes"]:
                assert row["buyer_id"] is not None
                bought[row["buyer_id"]] += row["quantity"]
            if row["shop_id"] is not None:
                assert not {"injection", "psychotropic_2", "ephedrine_compound"} & set(
                    drug["classes"].split(";")
                )
    assert bought
    assert max(bought.values()) <= 2


def test_bills_hold_many_packs_and_one_price(
    honest: dict[str, list[dict[str, Any]]],
) -> None:
    bills: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in (row for rows in honest.values() for row in rows):
        if row["event_type"] == "sale_shipment":
            bills[row["bill_code"]].append(row)
    sizes = sorted(len(rows) for rows in bills.values())
    assert sizes[len(sizes) // 2] >= 5
    assert sizes[-1] >= 40
    together, gaps, seconds = 0, 0, 0.0
    for rows in bills.values():
        assert (
            len({(r["from_id"], r["to_id"], r["unit_price"], r["invoice_no"]) for r in rows}) == 1
        )
        times = sorted(r["event_time"] for r in rows)
        assert times[-1] - times[0] < dt.timedelta(hours=1.5)
        if times[0].time() != dt.time(0) and len(rows) > 3:
            # Nobody scans faster than one pack a second, but whole cases are booked in at once.
            single = [r["event_time"] for r in rows if r["parent_code"] is None]
            assert len(single) <= 3 or max(Counter(single).values()) <= 2
            together += max(Counter(times).values()) >= 24
            if len(single) > 1:
                seconds += (max(single) - min(single)).total_seconds()
                gaps += len(single) - 1
    assert together > 3
    assert 3 < seconds / gaps < 8


def test_a_gs1_code_is_printed_in_two_ways(world: World) -> None:
    printed = pq.read_table(world.folder / "events", columns=["code"]).column("code").to_pylist()
    with_brackets = {c for c in printed if c.startswith("(01)")}
    without = {bracketed(c) for c in printed if not c.startswith("(01)")}
    assert len(with_brackets & without) > 50


def test_the_noise_is_there(world: World) -> None:
    rows = list(world.by_id.values())
    midnight = sum(r["event_time"].time() == dt.time(0) for r in rows)
    assert 0.05 < midnight / len(rows) < 0.4
    late = sum(r["record_time"] - r["event_time"] > DAY for r in rows)
    assert 0.05 < late / len(rows) < 0.25
    assert any(len(r["expiry_date"]) == 7 for r in rows)
    assert sum(r["actor_id"] != r["from_id"] for r in rows if r["event_type"] == "retail_sale") > 50
    first = {c: rows[0]["event_type"] for c, rows in world.by_code.items()}
    assert sum(t == "commissioning" for t in first.values()) < 0.9 * len(first)
    assert sum(t == "commissioning" for t in first.values()) > 0.4 * len(first)


def test_twins_look_like_what_they_are_twins_of(world: World) -> None:
    for twin in world.benign:
        rows = [r for c in twin["codes"] for r in world.by_code[c]]
        kinds = [r["event_type"] for r in rows]
        if twin["kind"] == "consumer_return_and_resale":
            assert kinds.count("consumer_return") == 1
            assert sum(k in SALES for k in kinds) == 2
        elif twin["kind"] == "supplier_return_and_resale":
            assert "return_shipment" in kinds
            assert "return_receipt" in kinds
        elif twin["kind"] == "split_sale":
            parts = [r for r in rows if r["split_sale"]]
            units = int(world.drugs[drug_of(rows[0]["code"])]["pack_spec"].split("/")[0][:-1])
            assert len(parts) >= 2
            assert sum(r["quantity"] for r in parts) <= units
        elif twin["kind"] == "registered_warehouse_dispatch":
            sale = world.by_id[twin["event_ids"][0]]
            seller = world.enterprises[sale["from_id"]]
            assert sale["from_region"] != seller["region"]
            assert sale["from_region"] in seller["warehouse_regions"].split(";")
        elif twin["kind"] == "group_transfer_across_provinces":
            row = world.by_id[twin["event_ids"][0]]
            giver, taker = world.enterprises[row["from_id"]], world.enterprises[row["to_id"]]
            assert giver["group_id"] == taker["group_id"] != ""
            assert giver["region"][:2] != taker["region"][:2]
        elif twin["kind"] == "voided_sale":
            void = next(r for r in rows if r["event_type"] == "void")
            assert void["voids_event_id"] == twin["event_ids"][0]
        elif twin["kind"] == "near_expiry_clearance":
            for row in (r for r in rows if r["event_type"] in SALES):
                expiry = dt.date.fromisoformat((row["expiry_date"] + "-28")[:10])
                assert row["event_time"].date() < expiry
                assert expiry - row["event_time"].date() < dt.timedelta(days=180)
        elif twin["kind"] == "one_date_for_all":
            times = {world.by_id[e]["event_time"] for e in twin["event_ids"]}
            assert len(times) == 1
            assert times.pop().time() == dt.time(0)


def test_a_case_is_scanned_whole(world: World, honest: dict[str, list[dict[str, Any]]]) -> None:
    cases: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in world.by_id.values():
        moved = row["event_type"] in SHIPMENTS | {"purchase_receipt"}
        if moved and row["parent_code"] is not None and row["code"] in honest:
            cases[row["parent_code"], row["bill_code"]].append(row)
    assert len(cases) > 10
    for (case, _), rows in cases.items():
        assert drug_of(case) == drug_of(rows[0]["code"])
        assert len({r["event_time"] for r in rows}) == 1
        assert len(rows) <= 24


def test_people_and_devices_are_those_of_honest_trade(
    world: World, honest: dict[str, list[dict[str, Any]]]
) -> None:
    enterprises: dict[str, set[str]] = defaultdict(set)  # by device: enterprise or its chain
    shops: dict[str, set[str]] = defaultdict(set)
    hours: dict[tuple[str, dt.date], list[dt.datetime]] = defaultdict(list)
    written: dict[tuple[str, dt.datetime], set[str]] = defaultdict(set)
    unfilled = Counter[str]()
    for rows in honest.values():
        for row in rows:
            actor = world.enterprises[row["actor_id"]]
            if row["device_id"]:
                enterprises[row["device_id"]].add(actor["group_id"] or row["actor_id"])
            if row["pharmacist_id"]:
                shops[row["pharmacist_id"]].add(row["from_id"])
                hours[row["pharmacist_id"], row["event_time"].date()].append(row["event_time"])
            if row["doctor_id"]:
                hour = row["event_time"].replace(minute=0, second=0)
                written[row["doctor_id"], hour].add(row["rx_no"])
            if row["event_type"] in SALES:
                prescribed = "rx" in world.drugs[drug_of(row["code"])]["classes"].split(";")
                assert (row["rx_no"] is not None) == prescribed
                assert row["rx_no"] is not None or row["pharmacist_id"] is None
                if row["shop_id"]:
                    for name in ("contact_id", "address_id", "buyer_device_id"):
                        unfilled[name] += row[name] is None
    # Proxies scan the goods of honest shops, too.
    assert sum(len(found) > 1 for found in enterprises.values()) < 0.02 * len(enterprises)
    assert max(len(found) for found in shops.values()) == 1
    assert len(shops) > 100
    for times in hours.values():
        assert max(times) - min(times) < dt.timedelta(hours=8)
        assert len(times) < 60
    assert max(len(rx) for rx in written.values()) < 10
    assert all(count > 0 for count in unfilled.values())


def test_a_prescription_serves_one_order(honest: dict[str, list[dict[str, Any]]]) -> None:
    sold: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for rows in honest.values():
        for row in rows:
            if row["rx_no"] is not None:
                sold[row["rx_no"]].add((row["from_id"], row["bill_code"], row["event_time"]))
    assert len(sold) > 1000
    assert all(len(found) == 1 for found in sold.values())


def test_bills_say_what_is_due_and_nearly_all_of_it_is_scanned(world: World) -> None:
    scanned: Counter[str] = Counter()
    due: dict[str, int] = {}
    for row in world.by_id.values():
        if row["receivable"] is not None:
            scanned[row["bill_code"]] += row["quantity"]
            due[row["bill_code"]] = row["receivable"]
    assert sum(scanned.values()) > 0.97 * sum(due.values())
    assert sum(scanned.values()) < sum(due.values())


def test_what_must_be_kept_cold_is(world: World, honest: dict[str, list[dict[str, Any]]]) -> None:
    measured = 0
    for rows in honest.values():
        for row in rows:
            if row["temperature"] is None:
                continue
            measured += 1
            assert 2 <= row["temperature"] <= 8
            assert "cold_chain" in world.drugs[drug_of(row["code"])]["classes"]
    assert measured > 100
