"""A temporal multigraph as arrays in which a walk forwards or backwards in time is a run of rows.

Edges are sorted by time; equal times share a *rank*, so that "strictly later" is one comparison of
32-bit numbers. For each vertex its outgoing and its incoming edges lie together, by rank. A row
says where the walk goes on, so no search is needed: of an edge ``u -> v`` the first outgoing edge
of ``v`` that is strictly later, or the incoming edges of ``u`` that are strictly earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph.components import strong_components

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Columns of ``outgoing`` and ``incoming``.
OTHER = 0  # the vertex at the other end
RANK = 1
# Outgoing: first row of the other end's outgoing edges with a higher rank. Incoming: one past the
# last row of the other end's incoming edges with a lower rank.
GO_ON = 2
EDGE = 3  # place of the edge in order of time


@dataclass(frozen=True, slots=True)
class TemporalGraph:
    """Edges by time and the two directions of walking over them.

    ``number``, ``source``, ``target``, ``rank``, ``earlier``: shape ``(m,)``, in order of time;
    ``number`` is the caller's number of the edge, ``earlier`` as ``GO_ON`` of an incoming row.
    ``moments``: the distinct times by rank. ``outgoing``, ``incoming``: shape ``(m, 4)``, columns
    above; those of vertex v are rows ``start[v]`` to ``start[v + 1]``.
    """

    vertices: int
    number: Int64
    source: Int32
    target: Int32
    rank: Int32
    earlier: Int32
    moments: Int64
    outgoing: Int32
    out_start: Int32
    incoming: Int32
    in_start: Int32

    def __len__(self) -> int:
        return len(self.number)

    def earliest_rank(self, window: int) -> Int32:
        """Return for each rank the lowest rank at most ``window`` before it, shape ``(ranks,)``."""
        first = np.searchsorted(self.moments, self.moments - window, side="left")
        return first.astype(np.int32)


@kernel
def _sweep(
    source: Int32,
    target: Int32,
    rank: Int32,
    out_start: Int32,
    in_start: Int32,
    outgoing: Int32,
    incoming: Int32,
    earlier: Int32,
) -> None:
    """Fill the rows in one pass over the edges by time, equal times together."""
    out_next, in_next = out_start[:-1].copy(), in_start[:-1].copy()
    m = len(source)
    begin = 0
    while begin < m:
        end = begin
        while end < m and rank[end] == rank[begin]:
            earlier[end] = in_next[source[end]]
            end += 1
        for i in range(begin, end):
            place = out_next[source[i]]
            out_next[source[i]] = place + 1
            outgoing[place, 0] = target[i]
            outgoing[place, 1] = rank[i]
            outgoing[place, 3] = i
            place = in_next[target[i]]
            in_next[target[i]] = place + 1
            incoming[place, 0] = source[i]
            incoming[place, 1] = rank[i]
            incoming[place, 2] = earlier[i]
            incoming[place, 3] = i
        begin = end
    out_next[:] = out_start[:-1]
    # Second sweep forwards: after a group has been counted, the pointer of a vertex is the place
    # of its first strictly later edge.
    done = out_start[:-1].copy()
    begin = 0
    while begin < m:
        end = begin
        while end < m and rank[end] == rank[begin]:
            out_next[source[end]] += 1
            end += 1
        for i in range(begin, end):
            place = done[source[i]]
            done[source[i]] = place + 1
            outgoing[place, 2] = out_next[target[i]]
        begin = end


def _starts(vertex: Int32, vertices: int) -> Int32:
    """Return where the edges of each vertex begin, shape ``(vertices + 1,)``."""
    starts = np.zeros(vertices + 1, np.int32)
    np.cumsum(np.bincount(vertex, minlength=vertices), out=starts[1:])
    return starts


def temporal_graph(
    source: npt.ArrayLike, target: npt.ArrayLike, time: npt.ArrayLike, *, trim: bool = False
) -> TemporalGraph:
    """Return the graph of edges ``source -> target`` at ``time``, each of shape ``(m,)``.

    Vertices are small numbers from 0 on (memory grows with the largest), times any integers.
    ``trim`` leaves out edges that can lie on no cycle: loops, and those between two strongly
    connected components. Raises ``ValueError`` for lengths that differ or a negative vertex.
    """
    sources, targets = np.asarray(source, np.int32), np.asarray(target, np.int32)
    times = np.asarray(time, np.int64)
    if not len(sources) == len(targets) == len(times):
        raise ValueError("source, target and time differ in length")
    vertices = 1 + int(max(sources.max(initial=-1), targets.max(initial=-1)))
    if min(sources.min(initial=0), targets.min(initial=0)) < 0:
        raise ValueError("vertices are numbers from 0 on")
    number = np.arange(len(sources), dtype=np.int64)
    if trim:
        component = strong_components(sources, targets, vertices)
        number = np.flatnonzero((component[sources] == component[targets]) & (sources != targets))
        times = times[number]
    if np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        number, times = number[order], times[order]
    sources, targets = sources[number], targets[number]
    new = np.diff(times, prepend=times[:1] - 1) != 0
    rank = np.cumsum(new, dtype=np.int32) - np.int32(1)
    m = len(number)
    outgoing, incoming = np.empty((m, 4), np.int32), np.empty((m, 4), np.int32)
    earlier = np.empty(m, np.int32)
    out_start, in_start = _starts(sources, vertices), _starts(targets, vertices)
    _sweep(sources, targets, rank, out_start, in_start, outgoing, incoming, earlier)
    return TemporalGraph(
        vertices, number, sources, targets, rank, earlier, times[new], outgoing, out_start,
        incoming, in_start,
    )  # fmt: skip
