"""What is written: determinism, conservation, formats, identifiers."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tests.simulate.conftest import World, drug_of, read_csv
from trace_engine.events.kinds import NAMES
from trace_engine.events.schema import COLUMNS
from trace_engine.registry.identifiers import (
    check_approval,
    check_gtin,
    check_licence,
    check_national_code,
    check_uscc,
)
from trace_engine.registry.prepare import pack_capacity
from trace_engine.registry.regions import load_regions
from trace_engine.registry.types import CLASS_NAMES, ENTERPRISE_TYPE_NAMES
from trace_engine.simulate import simulate, write
from trace_engine.simulate.cities import CITIES


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(20_000, seed, tmp_path / name)
    first, second, other = (fingerprints(tmp_path / n) for n in "abc")
    assert first == second
    assert len(first) == 12
    assert all(first[name] != other[name] for name in first if "territories" not in name)


def test_spooling_to_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trace_engine.simulate.run.BUCKET_EVENTS", 3_000)
    monkeypatch.setattr("trace_engine.simulate.run.BLOCK_CODES", 1_000)
    simulate(20_000, 5, tmp_path / "memory")
    monkeypatch.setattr(write, "MEMORY_ROWS", 2_000)
    simulate(20_000, 5, tmp_path / "disk")
    assert fingerprints(tmp_path / "memory") == fingerprints(tmp_path / "disk")


@pytest.mark.parametrize("events", [5_000, 20_000, 137_000])
def test_the_number_of_rows_is_within_one_percent(tmp_path: Path, events: int) -> None:
    summary = simulate(events, 3, tmp_path)
    rows = pq.read_table(tmp_path / "events", columns=["event_id"]).num_rows
    assert rows == summary.events
    if events >= 20_000:  # below, what must be planted is most of the market
        assert abs(rows - events) <= events * 0.01


def test_rows_are_in_order_of_time_inside_the_window(world: World) -> None:
    times = [row["event_time"] for row in world.events]
    assert times == sorted(times)
    assert times[0].date() >= dt.date(2026, 1, 1)
    assert times[-1].date() < dt.date(2026, 1, 1) + dt.timedelta(days=180)


def test_only_retried_rows_repeat_an_event_id(world: World) -> None:
    repeated = 0
    for row in world.events:
        first = world.by_id[row["event_id"]]
        if row is not first:
            repeated += 1
            a, b = dict(row), dict(first)
            assert a.pop("record_time") != b.pop("record_time")
            assert a == b
    assert len(world.events) * 0.002 < repeated < len(world.events) * 0.02


def test_columns_are_those_of_the_contract(world: World) -> None:
    assert set(world.events[0]) <= {column.name for column in COLUMNS}
    assert {row["event_type"] for row in world.events} <= set(NAMES)


def test_identifiers_are_well_formed(world: World) -> None:
    regions = load_regions()
    twins = {c for b in world.benign for c in b["codes"]}
    honest = {
        row["actor_id"]
        for code, rows in world.by_code.items()
        if code not in world.touched and code not in twins
        for row in rows
    } - {s["seller_id"] for s in world.sellers if s["guilty"] == "true"}
    people: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    for row in world.enterprises.values():
        assert check_uscc(row["uscc"]), row["uscc"]
        kind = ENTERPRISE_TYPE_NAMES[row["type"]]
        if row["type"] != "platform":
            assert check_licence(row["licence_no"], kind), row["licence_no"]
        if row["enterprise_id"] in honest:  # schemes and twins of papers have their own
            assert row["licence_from"] < "2026-01-01" < "2026-07-01" < row["licence_to"]
            assert row["status"] == "active"
            people[row["legal_person"]].add(row["group_id"] or row["enterprise_id"])
            places[row["phone"]].add(row["enterprise_id"])
            places[row["address"]].add(row["enterprise_id"])
        for region in [row["region"], *row["warehouse_regions"].split(";")]:
            assert regions.known(region), region
    assert max(len(parties) for parties in people.values()) == 1
    assert max(len(parties) for parties in places.values()) == 1
    for row in world.drugs.values():
        assert check_approval(row["approval_no"]), row["approval_no"]
        assert set(row["classes"].split(";")) <= set(CLASS_NAMES)
        units = int("".join(c for c in row["pack_spec"].split("/")[0] if c.isdigit()))
        assert pack_capacity(row["pack_spec"]) == (units if units <= 250 else -1)
        if len(row["drug_id"]) == 14:
            assert check_gtin(row["drug_id"]), row["drug_id"]
    assert len({r["uscc"] for r in world.enterprises.values()}) == len(world.enterprises)
    wrong = {c for c in world.by_code if c not in world.touched and not _sound(c)}
    assert not wrong


def _sound(code: str) -> bool:
    if code.startswith("(01)"):
        return len(code) == 34 and bool(check_gtin(drug_of(code))) and code[18:22] == "(21)"
    return bool(check_national_code(code))


def test_references_point_at_the_registry(world: World) -> None:
    strangers = {
        row[c]
        for row in world.events
        for c in ("actor_id", "from_id", "to_id")
        if row[c] is not None and row[c] not in world.enterprises
    }
    bought_from = {
        s["seller_id"]
        for s in world.schemes
        if s["detector"] == "unlicensed_party" and s["role"] == "participant"
    }
    assert strangers == bought_from
    twins = {c for b in world.benign for c in b["codes"]}
    shops = {r["shop_id"]: r for r in read_csv(world.folder / "registry/shops.csv")}
    for row in world.events:
        if row["shop_id"] is not None and row["shop_id"] not in shops:
            assert row["code"] in world.touched | twins  # of a shop that nobody has reported yet
        elif row["shop_id"] is not None:
            assert shops[row["shop_id"]]["enterprise_id"] == row["from_id"]
            assert shops[row["shop_id"]]["platform_id"] == row["platform_id"]


def test_cities_lie_where_the_region_table_puts_them() -> None:
    regions = load_regions()
    index = np.array([regions.index(city.code) for city in CITIES])
    assert (index >= 0).all()
    assert not regions.is_province[index].any()
    north = np.abs(regions.latitude[index] - [c.latitude for c in CITIES])
    east = np.abs(regions.longitude[index] - [c.longitude for c in CITIES])
    assert float(north.max()) < 0.6
    assert float(east.max()) < 0.6


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_text_formats_hold_the_same_rows(tmp_path: Path, form: str) -> None:
    simulate(5_000, 2, tmp_path / "parquet")
    simulate(5_000, 2, tmp_path / form, format=form)
    rows = pq.read_table(tmp_path / "parquet/events").to_pylist()
    files = sorted((tmp_path / form / "events").iterdir())
    assert {f.suffix for f in files} == {f".{form}"}
    if form == "csv":
        table = pa_csv.read_csv(
            files[0], convert_options=pa_csv.ConvertOptions(strings_can_be_null=True)
        )
        assert table.num_rows == len(rows)
        assert [str(i) for i in table.column("event_id").to_pylist()] == [
            r["event_id"] for r in rows
        ]
    else:
        read = [json.loads(line) for line in files[0].read_text("utf-8").splitlines()]
        assert len(read) == len(rows)
        for got, wanted in zip(read, rows, strict=True):
            assert got["event_time"] == str(wanted["event_time"])
            assert got["code"] == wanted["code"]
            assert got.get("unit_price") == (
                None if wanted["unit_price"] is None else str(wanted["unit_price"])
            )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"events": 100}, "events"),
        ({"days": 30}, "days"),
        ({"format": "xlsx"}, "format"),
        ({"start": "January"}, "January"),
    ],
)
def test_unusable_arguments_are_refused(
    tmp_path: Path, arguments: dict[str, object], expected: str
) -> None:
    given: dict[str, object] = {"events": 20_000, "seed": 1, "out": tmp_path} | arguments
    with pytest.raises(ValueError, match=expected):
        simulate(**given)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_a_folder_with_events_is_not_written_over(tmp_path: Path) -> None:
    simulate(5_000, 1, tmp_path)
    before = fingerprints(tmp_path)
    with pytest.raises(ValueError, match="already holds files"):
        simulate(5_000, 2, tmp_path)
    assert fingerprints(tmp_path) == before


def test_progress_counts_every_row(tmp_path: Path) -> None:
    seen: list[int] = []
    summary = simulate(5_000, 1, tmp_path, progress=seen.append)
    assert sum(seen) == summary.events


def test_what_too_small_a_market_cannot_judge_is_left_out_and_counted(tmp_path: Path) -> None:
    summary = simulate(5_000, 12, tmp_path)
    left_out = summary.cases_left_out["abnormal_low_price"]
    assert left_out > 0
    assert "abnormal_low_price" not in summary.scheme_cases
