"""The graph benchmark: its graph holds what three enumerators found, and ours finds just that."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference import graph as slow
from trace_engine.graph import temporal_cycles

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """Import the benchmark, which is a script."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import graph_cycles
    finally:
        sys.path.remove(str(BENCHMARKS))
    return graph_cycles


@pytest.mark.parametrize("longest", [5, None])
def test_the_counts_of_the_oracle(benchmark: Any, longest: int | None) -> None:
    graph = benchmark.make_graph()
    assert len(graph) == 1_000_000
    cycles = temporal_cycles(*graph, benchmark.DAY, longest=longest)
    due = {k: n for k, n in benchmark.ORACLE.items() if longest is None or k <= longest}
    assert benchmark.counts_by_length(cycles.counts) == due
    first, last = cycles.edges[cycles.offsets[:-1]], cycles.edges[cycles.offsets[1:] - 1]
    assert np.array_equal(graph.source[first], graph.target[last])
    assert int((graph.time[last] - graph.time[first]).max()) <= benchmark.DAY


def test_a_small_graph_by_trying_everything(benchmark: Any) -> None:
    graph = benchmark.make_graph(500, 60, 10)
    edges = list(zip(*(column.tolist() for column in graph), strict=True))
    due = Counter(map(len, slow.temporal_cycles(edges, benchmark.DAY)))
    found = temporal_cycles(*graph, benchmark.DAY, longest=None)
    assert due
    assert benchmark.counts_by_length(found.counts) == due


def test_answers_in_the_form_of_the_peer(benchmark: Any) -> None:
    """Edge by edge as the peer tells them, here worked out by trying everything."""
    graph = benchmark.make_graph(150, 30, 2)
    edges = list(zip(*(column.tolist() for column in graph), strict=True))
    question = benchmark.PeerQuestion("scatter-gather", benchmark.DAY, (2, 3, 4))
    due = np.zeros((len(edges), 3), np.int64)
    for last, _, _, size in slow.scatter_gather(edges, benchmark.DAY, 2, in_order=False):
        due[last, min(size, 4) - 2] += 1
    assert due.sum() > 0
    assert np.array_equal(benchmark.our_answers(graph, question), due)
    question = benchmark.PeerQuestion("fan", benchmark.DAY, (2, 3))
    fans = slow.fans(edges, benchmark.DAY - 1)
    table = benchmark.our_answers(graph, question)
    for row, (inward, outward) in zip(table.tolist(), fans, strict=True):
        assert row == [inward == 2, inward > 2, outward == 2, outward > 2]
