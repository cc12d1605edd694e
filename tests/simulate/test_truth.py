"""The planted truth: complete, and true of the rows as written (told again in plain Python)."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

import trace_engine.simulate.twins as planted_twins
from tests.simulate.conftest import World, drug_of, read_csv
from trace_engine.detectors.registry import detector_classes
from trace_engine.simulate import simulate
from trace_engine.simulate.planting import scheme_kinds, twin_kinds
from trace_engine.simulate.plugins import gather
from trace_engine.simulate.schemes.cast import By, SchemeKind

VIOLATIONS = {
    "repeated_transfer", "cross_region_resale", "rapid_turnover", "ownership_cycle",
    "reverse_flow", "sold_code_moves", "duplicate_sale", "impossible_travel",
    "unrecorded_source", "dead_code_use", "remote_dispatch", "price_inversion",
    "abnormal_low_price", "quota_per_sale", "quota_rolling", "online_banned_sale",
    "recalled_sale", "unlicensed_party",
}  # fmt: skip
QUALITY = {
    "unmatched_shipment", "unmatched_receipt", "malformed_code", "unknown_product",
    "time_disorder",
}  # fmt: skip
SALES = {"retail_sale", "dispensing", "vaccination"}
SHIPMENTS = {"sale_shipment", "direct_shipment"}
Case = dict[str, Any]


def cases(world: World, detector: str) -> list[Case]:
    """Return one row a case (of its first party)."""
    found: dict[str, Case] = {}
    for scheme in world.schemes:
        if scheme["detector"] == detector:
            found.setdefault(scheme["scheme_id"], scheme)
    return list(found.values())


def planted(world: World, case: Case) -> list[dict[str, Any]]:
    return [world.by_id[e] for e in case["event_ids"]]


def test_every_scheme_and_every_twin_occurs(world: World) -> None:
    assert {s["detector"] for s in world.schemes} >= VIOLATIONS | QUALITY
    every = {detector for kind in scheme_kinds() for detector in kind.detectors}
    planted = {s["detector"] for s in world.schemes}
    assert every <= planted | set(world.summary.cases_left_out)
    variants = {s["variant"] for s in world.schemes}
    assert {
        "same_seller", "other_seller_late", "other_seller_soon", "destroyed", "expired",
        "before_production", "paper_journey", "two_places", "hospital", "four_owners",
    } <= variants  # fmt: skip
    assert len({b["kind"] for b in world.benign}) >= 17


def test_a_market_of_some_size_leaves_nothing_out(tmp_path: Path) -> None:
    summary = simulate(100_000, 17, tmp_path)
    assert summary.cases_left_out == {}
    assert set(summary.scheme_cases) == set(detector_classes())


def test_small_markets_take_turns_by_seed(tmp_path: Path) -> None:
    summaries = [simulate(5_000, seed, tmp_path / str(seed)) for seed in (1, 2, 3)]
    left_out = [set(s.cases_left_out) for s in summaries]
    assert all(left_out)
    assert left_out[0] != left_out[1]
    for summary in summaries:
        planted = set(summary.scheme_cases)
        every = {d for kind in scheme_kinds() for d in kind.detectors}
        assert planted | set(summary.cases_left_out) == every
        assert sum(summary.scheme_cases.values()) < 0.05 * summary.events


def test_a_plug_in_says_what_it_brings() -> None:
    kinds, twins = scheme_kinds(), twin_kinds()
    assert len({k.name for k in kinds}) == len(kinds) >= 28
    assert len({t.name for t in twins}) == len(twins) >= 17
    assert all(k.detectors and k.rows > 0 and k.types for k in kinds)

    with pytest.raises(TypeError, match="expected SchemeKind"):
        gather(planted_twins, "TWINS", SchemeKind)


def test_truth_refers_to_rows_that_exist(world: World) -> None:
    for entry in [*world.schemes, *world.benign]:
        assert entry["event_ids"]
        for event_id in entry["event_ids"]:
            assert world.by_id[event_id]["code"] in entry["codes"], entry
    for scheme in world.schemes:
        times = [world.by_id[e]["event_time"] for e in scheme["event_ids"]]
        assert (min(times), max(times)) == (scheme["first_time"], scheme["last_time"])
        assert world.touched.issuperset(scheme["codes"])
    assert not world.touched & {c for b in world.benign for c in b["codes"]}


def test_guilt_is_that_of_subjects_of_violations(world: World) -> None:
    kinds = scheme_kinds()
    blamed = {d for k in kinds if k.by is not By.NOBODY for d in k.detectors}
    nobodys = {d for k in kinds if k.by is By.NOBODY for d in k.detectors}
    assert nobodys >= QUALITY
    subjects: dict[str, set[str]] = defaultdict(set)
    listed = {s["seller_id"] for s in world.sellers}  # no makers, no platforms
    for s in world.schemes:
        if s["role"] == "subject" and s["seller_id"] in listed:
            subjects[s["seller_id"]].add(s["detector"])
    guilty = {s["seller_id"] for s in world.sellers if s["guilty"] == "true"}
    assert guilty >= {seller for seller, found in subjects.items() if found - nobodys}
    assert guilty <= {seller for seller, found in subjects.items() if found & blamed}
    assert len(guilty) == world.summary.guilty_sellers
    assert 0.01 <= len(guilty) / len(world.sellers) <= 0.15  # nearer to 0.02 in big ones
    honest = {r["from_id"] for r in world.events if r["code"] not in world.touched}
    assert len(guilty & honest) >= 0.4 * len(guilty)  # many trade honestly, too


def test_duplicate_sales_are_sold_twice(world: World) -> None:
    for case in cases(world, "duplicate_sale"):
        for code in case["codes"]:
            sales = [r for r in world.by_code[code] if r["event_type"] in SALES]
            gap = sales[1]["event_time"] - sales[0]["event_time"]
            same = sales[0]["from_id"] == sales[1]["from_id"]
            if case["variant"] == "same_seller":
                assert same
            elif case["variant"] == "other_seller_late":
                assert not same
                assert gap > dt.timedelta(days=15)
            else:
                assert not same
                assert gap < dt.timedelta(days=2)
            assert sales[0]["event_id"] not in case["event_ids"]


def test_hand_overs_are_as_many_and_as_fast_as_said(world: World) -> None:
    for detector in ("repeated_transfer", "cross_region_resale", "rapid_turnover"):
        for case in cases(world, detector):
            rows = world.by_code[case["codes"][0]]
            ships = [r for r in rows if r["event_type"] in SHIPMENTS]
            crossed = sum(world.province(r["from_id"]) != world.province(r["to_id"]) for r in ships)
            hospital = world.enterprises[ships[-1]["to_id"]]["type"] == "public_hospital"
            if detector == "repeated_transfer":
                assert len(ships) >= (3 if hospital else 4)
            elif detector == "cross_region_resale":
                assert crossed >= 2
                assert len(ships) < 4
            else:
                gaps = [b["event_time"] - a["event_time"] for a, b in itertools.pairwise(ships)]
                assert len(gaps) == 2
                assert max(gaps) < dt.timedelta(hours=72)
    for case in cases(world, "ownership_cycle"):
        rows = world.by_code[case["codes"][0]]
        owners = [r["to_id"] for r in rows if r["event_type"] in SHIPMENTS]
        assert max(Counter(owners).values()) == 2
        assert not any("return" in r["event_type"] for r in rows)


def test_goods_go_backwards_and_out_of_the_till(world: World) -> None:
    for case in cases(world, "reverse_flow"):
        for row in planted(world, case):
            assert world.enterprises[row["from_id"]]["type"] in ("pharmacy", "medical")
            assert world.enterprises[row["to_id"]]["type"] == "wholesaler"
    for case in cases(world, "sold_code_moves"):
        for row in planted(world, case):
            sold = [r for r in world.by_code[row["code"]] if r["event_type"] in SALES]
            assert sold[0]["event_time"] + dt.timedelta(days=1) < row["event_time"]


def test_the_seller_never_had_the_pack(world: World) -> None:
    for case in cases(world, "unrecorded_source"):
        for row in planted(world, case):
            received = {r["to_id"] for r in world.by_code[row["code"]]}
            assert row["from_id"] not in received


def test_the_dead_the_expired_and_the_unborn(world: World) -> None:
    kinds = {"destruction", "scrap", "sampling"}
    for case in cases(world, "dead_code_use"):
        for row in planted(world, case):
            day = row["event_time"].date()
            if case["variant"] == "destroyed":
                deaths = [r for r in world.by_code[row["code"]] if r["event_type"] in kinds]
                assert deaths[0]["event_time"].date() < day
            elif case["variant"] == "expired":
                assert row["expiry_date"] < str(day)
                assert row["expiry_date"][:7] < str(day)[:7]
            else:
                assert row["production_date"] > day


def test_prices_are_below_cost_or_far_below_the_market(world: World) -> None:
    for case in cases(world, "price_inversion"):
        for row in planted(world, case):
            paid = [
                r["unit_price"]
                for r in world.by_code[row["code"]]
                if r["event_type"] == "purchase_receipt" and r["to_id"] == row["from_id"]
            ]
            assert float(row["unit_price"]) < float(paid[-1]) * 0.95
            assert row["expiry_date"] > str(row["event_time"] + dt.timedelta(days=181))
    prices: dict[str, list[float]] = defaultdict(list)
    for code, rows in world.by_code.items():
        for row in rows:
            if row["event_type"] == "retail_sale" and code not in world.touched:
                prices[drug_of(row["code"])].append(float(row["unit_price"]))
    for case in cases(world, "abnormal_low_price"):
        for row in planted(world, case):
            market = sorted(prices[drug_of(row["code"])])
            assert len(market) >= 60
            assert float(row["unit_price"]) < 0.7 * market[len(market) // 2]


def test_quotas_are_broken_by_one_person(world: World) -> None:
    for detector, limit in (("quota_per_sale", 2), ("quota_rolling", 4)):
        for case in cases(world, detector):
            rows = [r for c in case["codes"] for r in world.by_code[c] if r["event_type"] in SALES]
            assert len({r["buyer_id"] for r in rows}) == 1
            assert sum(r["quantity"] for r in rows) > limit
            assert all(
                "ephedrine_compound" in world.drugs[drug_of(r["code"])]["classes"] for r in rows
            )
            last = max(r["event_time"] for r in rows)
            assert last - min(r["event_time"] for r in rows) < dt.timedelta(days=7)
            assert world.by_id[case["event_ids"][-1]]["from_id"] == case["seller_id"]


def test_rules_on_place_category_recall_and_licence(world: World) -> None:
    for case in cases(world, "remote_dispatch"):
        for row in planted(world, case):
            seller = world.enterprises[row["from_id"]]
            assert row["from_region"] not in seller["warehouse_regions"].split(";")
            assert row["from_region"] != seller["region"]
    for case in cases(world, "online_banned_sale"):
        assert all(r["shop_id"] for r in planted(world, case))
    recalls = {
        (r["drug_id"], r["batch_no"]): r["effective"]
        for r in read_csv(world.folder / "registry/recalls.csv")
    }
    for case in cases(world, "recalled_sale"):
        for row in planted(world, case):
            drug = drug_of(row["code"])
            effective = dt.date.fromisoformat(recalls[drug, row["batch_no"]])
            assert row["event_time"].date() >= effective + dt.timedelta(days=4)
    for case in cases(world, "unlicensed_party"):
        assert all(r["from_id"] not in world.enterprises for r in planted(world, case))


def test_quality_cases_are_what_they_say(world: World) -> None:
    for case in cases(world, "unmatched_shipment"):
        for code in case["codes"]:
            assert world.by_code[code][-1]["event_id"] in case["event_ids"]
    for case in cases(world, "unmatched_receipt"):
        for row in planted(world, case):
            ships = [r for r in world.by_code[row["code"]] if r["event_type"] in SHIPMENTS]
            assert row["to_id"] not in {r["to_id"] for r in ships}
    for case in cases(world, "time_disorder"):
        for row in planted(world, case):
            lag = row["record_time"] - row["event_time"]
            assert lag > dt.timedelta(days=7) or lag < dt.timedelta(0)
    for case in cases(world, "unknown_product"):
        for row in planted(world, case):
            identifier = drug_of(row["code"])
            assert identifier not in world.drugs or row["drug_id"] != identifier
