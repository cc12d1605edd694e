"""Cycles, fans and scatter-gather patterns against trying everything, and against networkx."""

from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import graph as slow
from trace_engine.graph import fans, scatter_gather, temporal_cycles
from trace_engine.graph.adjacency import temporal_graph
from trace_engine.graph.fans import gathered

Edges = list[tuple[int, int, int]]
WINDOWS = st.sampled_from([0, 1, 3, 7, 12, 100])


def graphs(vertices: int = 6, edges: int = 16) -> st.SearchStrategy[Edges]:
    """Return a strategy of small multigraphs with loops, parallel edges and equal times."""
    vertex = st.integers(0, vertices - 1)
    return st.lists(st.tuples(vertex, vertex, st.integers(0, 12)), max_size=edges)


def columns(edges: Edges) -> Any:
    table = np.array(edges, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def listed(cycles: Any) -> list[tuple[int, ...]]:
    cuts = np.split(cycles.edges, cycles.offsets[1:-1]) if len(cycles) else []
    return [tuple(int(e) for e in cycle) for cycle in cuts]


@settings(max_examples=300, deadline=None)
@given(graphs(), WINDOWS, st.sampled_from([2, 3, 4, 5, 6, None]))
def test_cycles_are_those_found_by_trying_everything(
    edges: Edges, window: int, longest: int | None
) -> None:
    cycles = temporal_cycles(*columns(edges), window, longest=longest)
    found = listed(cycles)
    due = slow.temporal_cycles(edges, window, longest)
    assert len(found) == len(set(found))
    assert set(found) == due
    assert not cycles.truncated
    by_length = Counter(len(cycle) for cycle in due)
    assert {k: n for k, n in enumerate(cycles.counts.tolist()) if n} == by_length
    counted = temporal_cycles(*columns(edges), window, longest=longest, listed=False)
    assert counted.counts.tolist() == cycles.counts.tolist()
    assert len(counted) == 0


@settings(max_examples=100, deadline=None)
@given(graphs(), WINDOWS, st.sampled_from([5, None]), st.integers(0, 6))
def test_a_limit_keeps_some_and_says_so(
    edges: Edges, window: int, longest: int | None, most: int
) -> None:
    every = set(listed(temporal_cycles(*columns(edges), window, longest=longest)))
    some = temporal_cycles(*columns(edges), window, longest=longest, most=most)
    assert set(listed(some)) <= every
    assert len(some) == min(most, len(every))
    assert some.truncated == (len(every) > most)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data(), st.sampled_from([5, None]))
def test_only_cycles_in_proportion_are_kept(
    edges: Edges, data: st.DataObject, longest: int | None
) -> None:
    amount = data.draw(st.lists(st.integers(1, 9), min_size=len(edges), max_size=len(edges)))
    cycles = temporal_cycles(*columns(edges), 12, longest=longest, amount=amount, least_ratio=0.5)
    due = {
        cycle
        for cycle in slow.temporal_cycles(edges, 12, longest)
        if min(amount[e] for e in cycle) >= 0.5 * max(amount[e] for e in cycle)
    }
    assert set(listed(cycles)) == due
    least, largest = cycles.range_of(amount)
    assert np.all(least >= 0.5 * largest)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(0, 13))
def test_cycles_closed_from_a_time_on(edges: Edges, since: int) -> None:
    for longest in (5, None):
        found = listed(temporal_cycles(*columns(edges), 7, longest=longest, closed_from=since))
        due = slow.temporal_cycles(edges, 7, longest)
        assert set(found) == {cycle for cycle in due if edges[cycle[-1]][2] >= since}


@settings(max_examples=100, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_the_edges_does_not_matter(edges: Edges, random: Any) -> None:
    order = list(range(len(edges)))
    random.shuffle(order)
    shuffled = [edges[i] for i in order]
    found = {tuple(order[e] for e in c) for c in listed(temporal_cycles(*columns(shuffled), 7))}
    assert found == set(listed(temporal_cycles(*columns(edges), 7)))


def test_many_ways_through_one_hub_are_taken_in_turns() -> None:
    """More ways of two edges than are kept at a time: 300 times 300, then on to the start."""
    first = [(0, 1, k) for k in range(300)]
    second = [(1, 2, 300 + k) for k in range(300)]
    edges = [*first, *second, (2, 3, 700), (3, 0, 800)]
    cycles = temporal_cycles(*columns(edges), 1000)
    assert cycles.counts.tolist() == [0, 0, 0, 0, 90_000]
    assert len(np.unique(cycles.edges.reshape(-1, 4), axis=0)) == 90_000


def test_a_limit_of_steps_ends_an_endless_search() -> None:
    """A dense graph holds more ways than can be walked; what was found is told to be a part."""
    vertices = range(12)
    edges = [(a, b, 13 * t + b) for t in range(12) for a in vertices for b in vertices if a != b]
    cycles = temporal_cycles(*columns(edges), 10_000, longest=None, most_steps=100_000)
    assert cycles.truncated
    assert len(cycles) == cycles.counts.sum() > 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14, unique=True))
def test_simple_cycles_of_networkx_stated_once_for_each_round(pairs: list[tuple[int, int]]) -> None:
    """The same edges offered again and again, later and later, allow each cycle in any rotation."""
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    rounds = 6
    edges = [(a, b, t) for t in range(rounds) for a, b in pairs]
    cycles = temporal_cycles(*columns(edges), rounds, longest=None)
    found = set()
    for cycle in listed(cycles):
        ring = [edges[e][0] for e in cycle]
        turn = ring.index(min(ring))
        found.add(tuple(ring[turn:] + ring[:turn]))
    due = set()
    for ring in nx.simple_cycles(nx.DiGraph(pairs)):
        turn = ring.index(min(ring))
        due.add(tuple(ring[turn:] + ring[:turn]))
    assert found == due


@settings(max_examples=200, deadline=None)
@given(graphs(), WINDOWS)
def test_fans(edges: Edges, window: int) -> None:
    found = fans(*columns(edges), window)
    both = list(zip(found.fan_in.tolist(), found.fan_out.tolist(), strict=True))
    assert both == slow.fans(edges, window)


@settings(max_examples=100, deadline=None)
@given(graphs(), WINDOWS)
def test_the_edges_of_a_fan_in(edges: Edges, window: int) -> None:
    graph = temporal_graph(*columns(edges))
    numbers, offsets = gathered(graph, np.arange(len(graph)), window)
    for place, number in enumerate(graph.number.tolist()):
        counted = set(numbers[offsets[place] : offsets[place + 1]].tolist())
        seen = slow.in_window(edges, number, window)
        assert counted == {k for k in seen if edges[k][1] == edges[number][1]}


@settings(max_examples=200, deadline=None)
@given(graphs(), WINDOWS, st.booleans(), st.sampled_from([1, 2, 3]))
def test_scatter_gather(edges: Edges, window: int, in_order: bool, least: int) -> None:
    found = scatter_gather(*columns(edges), window, least=least, in_order=in_order)
    patterns = list(
        zip(*(c.tolist() for c in (found.last, found.source, found.sink, found.size)), strict=True)
    )
    assert set(patterns) == slow.scatter_gather(edges, window, least, in_order)
    for i, (last, source, sink, size) in enumerate(patterns):
        members = found.edges[found.offsets[i] : found.offsets[i + 1]].reshape(-1, 2).tolist()
        assert len(members) == size
        seen = slow.in_window(edges, last, window)
        mediators = set()
        for to, onward in members:
            assert {to, onward} <= set(seen)
            assert (edges[to][0], edges[onward][1]) == (source, sink)
            assert edges[to][1] == edges[onward][0]
            assert not in_order or edges[to][2] < edges[onward][2]
            mediators.add(edges[to][1])
        assert len(mediators) == size


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(0, 5))
def test_a_limit_of_patterns(edges: Edges, most: int) -> None:
    every = scatter_gather(*columns(edges), 12)
    some = scatter_gather(*columns(edges), 12, most=most)
    assert len(some) == min(most, len(every))
    assert some.truncated == (len(every) > most)
    assert some.last.tolist() == every.last.tolist()[: len(some)]


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match="length"):
        temporal_cycles([0], [1, 0], [1, 2], 5)
    with pytest.raises(ValueError, match="numbers from 0"):
        temporal_cycles([0, -1], [-1, 0], [1, 2], 5)
    with pytest.raises(ValueError, match="window"):
        temporal_cycles([0], [1], [1], -1)
    with pytest.raises(ValueError, match="two edges"):
        temporal_cycles([0], [1], [1], 5, longest=1)
