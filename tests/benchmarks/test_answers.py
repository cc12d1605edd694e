"""The benchmark's market and its six questions: answers by hand, by walking rows, equal ours."""

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import trace_engine

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
EVENTS, SEED = 400_000, 3
COLUMNS = (
    "event_id",
    "event_time",
    "event_type",
    "code",
    "actor_id",
    "from_id",
    "to_id",
    "from_region",
    "to_region",
    "drug_id",
    "unit_price",
    "quantity",
    "buyer_id",
)


@pytest.fixture(scope="module")
def modules() -> tuple[Any, Any]:
    """Import the benchmark's modules, which are scripts beside each other."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import make_events
        import peers
    finally:
        sys.path.remove(str(BENCHMARKS))
    return make_events, peers


@pytest.fixture(scope="module")
def data(modules: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    modules[0].make_events(EVENTS, SEED, folder)
    return folder


@pytest.fixture(scope="module")
def rows(data: Path) -> list[dict[str, Any]]:
    return pq.read_table(data / "events.parquet", columns=list(COLUMNS)).to_pylist()


def walked(rows: list[dict[str, Any]], restricted: set[str], peers: Any) -> dict[str, set[Any]]:
    """Answer the questions in plain Python, one row after the other."""
    owner: dict[str, str] = {}
    paid: dict[tuple[str, str], float] = {}
    hops, crossings, sales = Counter[str](), Counter[str](), Counter[str]()
    inversions, over = set(), set()
    bought = defaultdict(list)
    totals = Counter[str]()
    for event in rows:
        code, kind = event["code"], event["event_type"]
        if kind == "commissioning":
            owner[code] = event["actor_id"]
        elif kind == "retail_sale":
            seller, price = event["from_id"], event["unit_price"]
            sales[code] += 1
            totals[seller] += event["quantity"]
            cost = paid.get((seller, code))
            if cost is not None and price < cost * peers.TOLERANCE:
                inversions.add((code,))
            if event["drug_id"] in restricted:
                day = event["event_time"]
                recent = bought[event["buyer_id"]]
                recent.append(day)
                if (
                    sum((day - other).total_seconds() <= 7 * 86_400 for other in recent)
                    > peers.QUOTA
                ):
                    over.add((event["buyer_id"],))
        else:
            if owner[code] != event["to_id"]:
                hops[code] += 1
                crossings[code] += event["from_region"][:2] != event["to_region"][:2]
                owner[code] = event["to_id"]
            paid[(event["to_id"], code)] = event["unit_price"]
    return {
        "hops": {(c, n) for c, n in hops.items() if n >= peers.HOPS},
        "crossings": {(c, n) for c, n in crossings.items() if n >= peers.CROSSINGS},
        "inversions": inversions,
        "duplicates": {(c, n) for c, n in sales.items() if n >= 2},
        "quotas": over,
        "sellers": set(totals.items()),
    }


def test_our_answers_are_those_of_walking_the_rows(
    modules: tuple[Any, Any], data: Path, rows: list[dict[str, Any]]
) -> None:
    peers = modules[1]
    drugs = pq.read_table(data / "registry" / "drugs.parquet").to_pylist()
    restricted = {d["drug_id"] for d in drugs if d["classes"] == "ephedrine_compound"}
    expected = walked(rows, restricted, peers)
    assert all(expected.values()), "each question has something to find"
    result = trace_engine.score([data / "events.parquet"], registry=data / "registry")
    ours = peers.engine_answers(result)
    for question, answer in expected.items():
        found = {tuple(row.values()) for row in ours[question].to_pylist()}
        assert found == answer, question


def test_the_same_arguments_give_the_same_bytes(
    modules: tuple[Any, Any], data: Path, tmp_path: Path
) -> None:
    modules[0].make_events(EVENTS, SEED, tmp_path)
    for name in ("events.parquet", "registry/drugs.parquet", "registry/enterprises.parquet"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()
    modules[0].make_events(EVENTS, SEED + 1, tmp_path)
    assert (tmp_path / "events.parquet").read_bytes() != (data / "events.parquet").read_bytes()


def test_the_market_is_what_it_says(rows: list[dict[str, Any]]) -> None:
    times = [event["event_time"] for event in rows]
    assert times == sorted(times)
    assert len({event["event_id"] for event in rows}) == len(rows)
    codes = {event["code"] for event in rows}
    assert 4.5 < len(rows) / len(codes) < 5.5
    assert all(len(code) == 20 and code[0] == "8" for code in codes)
