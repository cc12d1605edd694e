"""The supply graph adds up whatever the order, keeps detail as long as promised, and is saved."""

from __future__ import annotations

import datetime as dt
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.machine import registry_of
from tests.conformance.strategies import case_of
from tests.reference.events import table_of
from trace_engine.engine import Engine
from trace_engine.graph.multigraph import EDGE, EdgeType, Multigraph, hop_sums
from trace_engine.graph.selection import without_echo
from trace_engine.scoring import Follower


def some_edges(seed: int, count: int = 60) -> Any:
    r = np.random.default_rng(seed)
    edges = np.zeros(count, EDGE)
    for name, high in (("source", 3), ("target", 3), ("drug", 2), ("batch", 2), ("type", 10)):
        edges[name] = r.integers(0, high, count)
    edges["bill"] = r.integers(0, 3, count)
    edges["day"] = r.integers(20_000, 20_120, count)
    for name in ("codes", "packs", "value"):
        edges[name] = r.integers(1, 9, count)
    edges["first"] = edges["day"] * np.int64(86_400_000_000)
    edges["last"] = edges["first"] + 5
    return edges


def graph_of(*parts: Any) -> Multigraph:
    graph = Multigraph()
    for part in parts:
        graph.add_edges(part)
    return graph


def merged(*parts: Any) -> Multigraph:
    """Return graphs of parts merged one into the other; numbers mean the same in all."""
    graph, same = Multigraph(), np.array([0, 1, 2, -1], np.int32)
    for part in parts:
        graph.merge(graph_of(part).records(), same, same, same)
    return graph


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("before", [0, 20_060, 30_000])
def test_neither_order_nor_merging_nor_the_time_of_folding_shows(
    order: tuple[int, ...], before: int
) -> None:
    parts = [some_edges(seed) for seed in range(3)]
    whole = graph_of(*parts)
    whole.settle(before)
    other = merged(*(parts[i] for i in order))
    other.settle(before - 30)
    other.settle(before)
    assert other.sorted().tobytes() == whole.sorted().tobytes()
    for name in ("codes", "packs", "value"):
        assert whole.records()[name].sum() == sum(int(p[name].sum()) for p in parts)


def test_old_edges_keep_their_month_and_nothing_finer() -> None:
    graph = graph_of(some_edges(1))
    graph.settle(20_060)
    edges = graph.records()
    old = edges["folded"] == 1
    assert (edges["day"][~old] >= 20_060).all()
    assert ((edges["batch"][old] == -1) & (edges["bill"][old] == 0)).all()
    days = edges["day"][old].astype("datetime64[D]")
    assert (days == days.astype("datetime64[M]").astype("datetime64[D]")).all()


def test_many_edges_fit() -> None:
    edges = some_edges(2, 5000)
    edges["bill"] = np.arange(5000)
    assert len(graph_of(edges)) == 5000


def plain_sums(engine: Engine) -> dict[tuple[int, int, int], list[int]]:
    found: dict[tuple[int, int, int], list[int]] = {}
    for e in engine.supply_edges():
        if e["type"] < EdgeType.INTERNAL:
            sums = found.setdefault((e["source"], e["target"], e["drug"]), [0, 0])
            sums[0] += int(e["codes"])
            sums[1] += int(e["value"])
    return found


@pytest.mark.parametrize("seed", range(6))
def test_hops_are_the_edges_of_the_contract_and_a_state_keeps_them(
    seed: int, tmp_path: Path
) -> None:
    case = case_of(seed, 4, 12)
    engine = Follower(registry_of(case.registry), lateness_days=None)
    engine.process(table_of(case.rows))
    engine.finish()
    keys, sums = hop_sums(engine.supply_edges())
    assert {tuple(k): [int(s[0]), int(s[2])] for k, s in zip(keys, sums, strict=True)} == {
        tuple(np.int32(x) for x in key): value for key, value in plain_sums(engine).items()
    }
    engine.save(tmp_path / "state")
    again = Engine.load(tmp_path / "state", registry_of(case.registry))
    assert again.multigraph.sorted().tobytes() == engine.multigraph.sorted().tobytes()
    assert again.edges_table().equals(engine.edges_table())


def test_transfers_told_by_both_sides_count_once() -> None:
    edges = np.zeros(3, EDGE)
    edges["type"] = [EdgeType.INTERNAL, EdgeType.INTERNAL_RECEIPT, EdgeType.SALE]
    edges["target"], edges["codes"] = 1, [3, 4, 7]
    assert sorted(without_echo(edges)[["type", "codes"]].tolist()) == [
        (EdgeType.SALE, 7),
        (EdgeType.INTERNAL, 4),
    ]


def test_parts_of_the_graph() -> None:
    def sale(day: int, giver: str, receiver: str, drug: str, kind: str = "201") -> dict[str, Any]:
        return {
            "event_time": f"2025-03-{day:02d} 10:00:00",
            "event_type": kind,
            "code": f"{drug}{day:013d}",
            "actor_id": giver,
            "to_id": receiver,
            "unit_price": 2.5,
        }

    rows = [
        sale(1, "A", "B", "8123456"),
        sale(2, "B", "C", "8123456"),
        sale(3, "C", "D", "8654321"),
        sale(4, "D", "C", "8654321", "202"),
    ]
    engine = Follower(lateness_days=None)
    engine.process(table_of(rows))
    engine.finish()

    def ends(**filters: Any) -> list[str]:
        return sorted(a + b for a, b in engine.graph(**filters).edges())

    assert ends() == ["AB", "BC", "CD"]
    assert ends(drug="8654321") == ["CD"]
    assert ends(drug="none") == []
    assert ends(enterprise="A") == ["AB"]
    assert ends(enterprise="A", depth=2) == ["AB", "BC"]
    assert ends(since=dt.date(2025, 3, 2), until=dt.date(2025, 3, 2)) == ["BC"]
    assert ends(types=["return"]) == ["DC"]
    assert ends(detail=True) == ["AB", "BC", "CD", "DC"]
    data = engine.graph(drug="8123456")["A"]["B"]["8123456"]
    assert (data["codes"], data["packs"], data["value"]) == (1, 1, 2.5)
    with pytest.raises(ValueError, match="no type 'theft'"):
        engine.graph(types=["theft"])
