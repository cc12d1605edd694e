"""Communities of a weighted graph, by the method of Louvain, made deterministic.

Vertices are visited by their numbers and move to the neighbouring community of the largest gain in
modularity (equal gains: the one with the smallest number; no gain: they stay). When none moves,
communities become the vertices of a smaller graph, and so on. Weights are whole numbers, so sums
are exact and the order of the edges does not matter; number vertices by name, and the order of
their arrival does not either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph.components import by_smallest_member

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_MOST_ROUNDS = 100  # gains only ever grow modularity, but rounding must not make it go on


@kernel
def _move(
    start: Int64, other: Int32, weight: Int64, degree: Int64, resolution: float, community: Int32
) -> bool:
    """Move vertices until none gains; return whether any moved. ``community`` is changed."""
    n = len(start) - 1
    total = degree.copy()  # by community
    twice = 0.0
    for v in range(n):
        twice += degree[v]
    shared, touched = np.zeros(n, np.int64), np.empty(n, np.int32)
    moved_ever = False
    for _ in range(_MOST_ROUNDS):
        moved = False
        for v in range(n):
            own = community[v]
            count = 0
            for k in range(start[v], start[v + 1]):
                if other[k] != v:
                    c = community[other[k]]
                    if shared[c] == 0:
                        touched[count] = c
                        count += 1
                    shared[c] += weight[k]
            total[own] -= degree[v]
            best = own
            best_gain = shared[own] - resolution * degree[v] * total[own] / twice
            for i in range(count):
                c = touched[i]
                gain = shared[c] - resolution * degree[v] * total[c] / twice
                if gain > best_gain + 1e-9 or (
                    gain > best_gain - 1e-9 and best != own and c < best
                ):
                    best, best_gain = c, gain
            for i in range(count):
                shared[touched[i]] = 0
            total[best] += degree[v]
            if best != own:
                community[v] = best
                moved = moved_ever = True
        if not moved:
            break
    return moved_ever


def communities(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike,
    vertices: int,
    *,
    resolution: float = 1.0,
) -> Int32:
    """Return the community of each vertex, shape ``(vertices,)``.

    Edges ``source - target`` (each ``(m,)``, direction does not count) have whole ``weight`` of at
    least 1; parallel edges add up. ``resolution`` above 1 gives smaller communities. They are
    numbered by their smallest members, from 0 on; a vertex without edges is alone.
    """
    a, b = np.asarray(source, np.int64), np.asarray(target, np.int64)
    weights = np.asarray(weight, np.int64)
    if len(weights) and int(weights.min()) < 1:
        raise ValueError("weights are whole numbers of at least 1")
    found = np.arange(vertices, dtype=np.int32)
    n = vertices
    while len(a):
        # Each edge from both its ends; a loop counts for both ends of its vertex.
        key, inverse = np.unique(np.concatenate([a * n + b, b * n + a]), return_inverse=True)
        joined = np.zeros(len(key), np.int64)
        np.add.at(joined, inverse, np.concatenate([weights, weights]))
        ends, other = key // n, (key % n).astype(np.int32)
        start = np.searchsorted(ends, np.arange(n + 1))
        degree = np.zeros(n, np.int64)
        np.add.at(degree, ends, joined)
        community = np.arange(n, dtype=np.int32)
        if not _move(start, other, joined, degree, float(resolution), community):
            break
        smaller = by_smallest_member(community)
        found = smaller[found]
        a, b = smaller[a].astype(np.int64), smaller[b].astype(np.int64)
        n = int(smaller.max()) + 1
    return by_smallest_member(found)
