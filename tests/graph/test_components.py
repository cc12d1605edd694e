"""What belongs together, against networkx; communities; distances of distributions."""

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_engine.graph import (
    communities,
    connected,
    connected_by_keys,
    jensen_shannon,
    strong_components,
)

COUNT = 12
PAIRS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=25)


def sides(pairs: list[tuple[int, int]]) -> Any:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def numbered(parts: Any) -> list[int]:
    """Return the part of each thing, parts numbered by their smallest members."""
    of = {x: min(part) for part in parts for x in part}
    smallest = sorted(set(of.values()))
    return [smallest.index(of[x]) for x in range(COUNT)]


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_strong_components(pairs: list[tuple[int, int]]) -> None:
    graph = nx.DiGraph(pairs)
    graph.add_nodes_from(range(COUNT))
    found = strong_components(*sides(pairs), COUNT)
    assert found.tolist() == numbered(nx.strongly_connected_components(graph))


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_connected(pairs: list[tuple[int, int]]) -> None:
    graph = nx.Graph(pairs)
    graph.add_nodes_from(range(COUNT))
    found = connected(*sides(pairs), COUNT)
    assert found.tolist() == numbered(nx.connected_components(graph))


def test_a_long_way_needs_no_recursion() -> None:
    n = 200_000
    ring = np.arange(n)
    assert strong_components(ring, np.roll(ring, -1), n).max() == 0
    assert strong_components(ring[:-1], ring[1:], n).tolist() == ring.tolist()
    assert connected(ring[:-1][::-1], ring[1:][::-1], n).max() == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "张三", "李四", "王五"]), st.integers(-1, 5)),
        min_size=1,
        max_size=10,
    )
)
def test_connected_by_shared_values(rows: list[tuple[str, int]]) -> None:
    names, phones = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    graph = nx.Graph()
    graph.add_nodes_from(range(len(rows)))
    for i, (name, phone) in enumerate(rows):
        for k, (other, number) in enumerate(rows):
            if (name and name == other) or (phone >= 0 and phone == number):
                graph.add_edge(i, k)
    found = connected_by_keys([names, phones], ["", -1])
    assert len(set(found.tolist())) == nx.number_connected_components(graph)
    for part in nx.connected_components(graph):
        assert len({int(found[x]) for x in part}) == 1
    assert connected_by_keys([]).tolist() == []


def test_communities_of_cliques_and_a_club() -> None:
    """Cliques joined by single edges come apart; a club of 34 splits about as well as is known."""
    edges = [(8 * c + i, 8 * c + k) for c in range(5) for i in range(8) for k in range(i)] + [
        (8 * c, (8 * c + 9) % 40) for c in range(5)
    ]
    found = communities(*sides(edges), np.ones(len(edges)), 41)
    assert found.tolist() == [c for c in range(5) for _ in range(8)] + [5]
    club = nx.karate_club_graph()
    ends = list(club.edges())
    weights = [int(club.edges[e]["weight"]) for e in ends]
    found = communities(*sides(ends), weights, 34)
    parts = [set(np.flatnonzero(found == c).tolist()) for c in range(found.max() + 1)]
    assert nx.community.modularity(club, parts, weight="weight") > 0.41


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_communities_do_not_depend_on_the_order_of_edges(
    pairs: list[tuple[int, int]], random: Any
) -> None:
    weights = [random.randint(1, 5) for _ in pairs]
    mixed = list(zip(pairs, weights, strict=True))
    random.shuffle(mixed)
    turned = [((b, a) if random.random() < 0.5 else (a, b), w) for (a, b), w in mixed]
    found = communities(*sides(pairs), weights, COUNT)
    again = communities(*sides([p for p, _ in turned]), [w for _, w in turned], COUNT)
    assert found.tolist() == again.tolist()
    # A community never reaches over two components.
    together = connected(*sides(pairs), COUNT)
    assert all(len(set(together[found == c].tolist())) == 1 for c in set(found.tolist()))


def test_communities_want_whole_weights() -> None:
    with pytest.raises(ValueError, match="whole"):
        communities([0], [1], [0], 2)


def test_jensen_shannon() -> None:
    assert jensen_shannon([1, 0], [0, 5]) == 1.0
    assert jensen_shannon([2, 2, 4], [1, 1, 2]) == 0.0
    # By hand: halves against quarters.
    p, q = (0.5, 0.5), (0.75, 0.25)
    by_hand = sum(
        x * math.log2(x / ((a + b) / 2)) / 2 for a, b in zip(p, q, strict=True) for x in (a, b)
    )
    assert jensen_shannon(p, q) == pytest.approx(by_hand)
    both = jensen_shannon([[1, 0], [1, 1]], [[0, 1], [1, 1]])
    assert both.tolist() == [1.0, 0.0]
    assert math.isnan(jensen_shannon([0, 0], [1, 1]))
