"""How many give to one, and to how many one gives, within a moving window.

The *fan-in* of an edge u -> v is the number of different vertices with an edge to v from ``window``
before it up to it, both ends included, its own source among them; the *fan-out* the number of
different vertices that u has an edge to. Of edges with equal times those given earlier are before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph.adjacency import Int32, Int64, TemporalGraph


@dataclass(frozen=True, slots=True)
class Fans:
    """Fan-in of each edge's target and fan-out of its source, each ``(m,)`` as the edges came."""

    fan_in: Int32
    fan_out: Int32


@kernel
def _slide(
    source: Int32,
    target: Int32,
    time: Int64,
    pair: Int32,
    window: int,
    alive: Int32,
    inward: Int32,
    outward: Int32,
    fan_in: Int32,
    fan_out: Int32,
) -> None:
    """Count pairs with an edge in the window by target and by source, edge by edge."""
    begin = 0
    for i in range(len(source)):
        while time[begin] < time[i] - window:
            alive[pair[begin]] -= 1
            if alive[pair[begin]] == 0:
                inward[target[begin]] -= 1
                outward[source[begin]] -= 1
            begin += 1
        if alive[pair[i]] == 0:
            inward[target[i]] += 1
            outward[source[i]] += 1
        alive[pair[i]] += 1
        fan_in[i], fan_out[i] = inward[target[i]], outward[source[i]]


@kernel
def _number_pairs(
    source: Int32, target: Int32, start: Int32, first: Int32, last: Int32, pair: Int32
) -> int:
    """Give equal pairs equal numbers: the sources of each target in turn, by a stamp per source."""
    place = start[:-1].copy()
    for i in range(len(target)):
        first[place[target[i]]] = i
        place[target[i]] += 1
    count = np.int32(0)
    for v in range(len(start) - 1):
        base = count
        for k in range(start[v], start[v + 1]):
            u = source[first[k]]
            # Numbers of this target's pairs begin at ``base``: an older one is another target's.
            if last[u] < base:
                last[u] = count
                count += 1
            pair[first[k]] = last[u]
    return int(count)


def fans(source: npt.ArrayLike, target: npt.ArrayLike, time: npt.ArrayLike, window: int) -> Fans:
    """Return the fans of the edges ``source -> target`` at ``time``, each of shape ``(m,)``.

    Vertices are small numbers from 0 on, times and ``window`` integers of one unit.
    """
    sources, targets = np.asarray(source, np.int32), np.asarray(target, np.int32)
    times = np.asarray(time, np.int64)
    m = len(times)
    order = None
    if np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        sources, targets, times = sources[order], targets[order], times[order]
    vertices = 1 + int(max(sources.max(initial=-1), targets.max(initial=-1)))
    start = np.zeros(vertices + 1, np.int32)
    np.cumsum(np.bincount(targets, minlength=vertices), out=start[1:])
    pair, alone = np.empty(m, np.int32), np.empty(m, np.int32)
    pairs = _number_pairs(sources, targets, start, alone, np.full(vertices, -1, np.int32), pair)
    fan_in, fan_out = np.empty(m, np.int32), np.empty(m, np.int32)
    _slide(
        sources, targets, times, pair, int(window), np.zeros(pairs, np.int32),
        np.zeros(vertices, np.int32), np.zeros(vertices, np.int32), fan_in, fan_out,
    )  # fmt: skip
    if order is None:
        return Fans(fan_in, fan_out)
    back = np.empty((2, m), np.int32)
    back[0, order], back[1, order] = fan_in, fan_out
    return Fans(back[0], back[1])


def gathered(graph: TemporalGraph, edges: Int64, window: int) -> tuple[Int64, Int64]:
    """Return the edges that a fan-in counts: ``(numbers, offsets)``.

    ``edges``: places in the graph's order of time, shape ``(k,)``. The numbers (the caller's) of
    those into the target of ``edges[i]`` are ``numbers[offsets[i]:offsets[i + 1]]``, by time.
    """
    low = graph.earliest_rank(window)[graph.rank[edges]]
    target = graph.target[edges]
    pieces = []
    for place, lowest, v in zip(edges.tolist(), low.tolist(), target.tolist(), strict=True):
        rows = graph.incoming[graph.in_start[v] : graph.in_start[v + 1]]
        counted = rows[(rows[:, 1] >= lowest) & (rows[:, 3] <= place), 3]
        pieces.append(graph.number[counted])
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64), offsets
