"""Scatter and gather: one source gives to several, and they give to one sink, within a window.

Definition
----------
Taken at an edge (with all edges from ``window`` before it up to it, both ends included; of equal
times those given earlier are before), a *pattern* is a source a and a sink c != a with at least
``least`` intermediates: vertices b with an edge a -> b and an edge b -> c. The edge must itself be
one of those edges: b -> c of one intermediate, or a -> b. The *size* is the number of different
intermediates. A pattern shows again at each further edge of it.

``in_order`` asks besides that each intermediate gives after it was given to: some edge a -> b is
strictly earlier than some edge b -> c. Then it is always an edge b -> c that completes a pattern.
Without it the definition is that of graph feature preprocessors for money flows, streamed edge by
edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph.adjacency import Int32, Int64, temporal_graph


@dataclass(frozen=True, slots=True)
class Patterns:
    """Scatter-gather patterns at the edges that complete or enlarge them.

    ``last`` (the edge), ``source``, ``sink``, ``size``: shape ``(p,)``, in order of time. The
    edges of pattern i, two for each intermediate (to it, then from it; of parallel ones the latest
    that fit), are ``edges[offsets[i]:offsets[i + 1]]``; empty where they were not asked for.
    ``truncated``: there are more.
    """

    last: Int64
    source: Int32
    sink: Int32
    size: Int32
    edges: Int64
    offsets: Int64
    truncated: bool

    def __len__(self) -> int:
        return len(self.last)


# Columns of the rows of each vertex that lie in the window: outgoing from, to; incoming from, to.
_OUT, _IN = 0, 2


@kernel
def _around(
    hub: int,
    mediator: int,
    last: int,
    in_order: bool,
    rows: Int32,
    side: int,
    inside: Int32,
    stamp: Int64,
    wanted: Int64,
    counted: Int64,
    size: Int32,
    found: Int32,
    turn: int,
) -> tuple[int, int]:
    """Count, by far end, the intermediates between it and ``hub``; return the next turn and how many.

    ``rows``: incoming rows where ``hub`` is the sink, outgoing where it is the source. Only far
    ends of ``mediator`` count; they are written to ``found`` and their numbers of intermediates to
    ``size``. ``in_order``: the far edge must be strictly earlier than the near one, and that of
    ``mediator`` earlier than rank ``last``.
    """
    turn += 1
    mark = turn
    n = 0
    for k in range(inside[mediator, side], inside[mediator, side + 1]):
        far = rows[k, 0]
        if far != hub and wanted[far] != mark and (not in_order or rows[k, 1] < last):
            wanted[far] = mark
            size[far] = 0
            found[n] = far
            n += 1
    if n == 0:
        return turn, 0
    # From the latest: of parallel edges it allows the most before it.
    for k in range(inside[hub, side + 1] - 1, inside[hub, side] - 1, -1):
        between = rows[k, 0]
        if stamp[between] == mark:
            continue
        stamp[between] = mark
        turn += 1
        for j in range(inside[between, side], inside[between, side + 1]):
            if in_order and rows[j, 1] >= rows[k, 1]:
                break
            far = rows[j, 0]
            if wanted[far] == mark and counted[far] != turn:
                counted[far] = turn
                size[far] += 1
    return turn, n


@kernel
def _list_edges(
    hub: int,
    far: int,
    in_order: bool,
    rows: Int32,
    side: int,
    inside: Int32,
    stamp: Int64,
    turn: int,
    edges: Int64,
    at: int,
) -> None:
    """Write the two edges of each intermediate between ``far`` and ``hub`` from place ``at`` on."""
    near = 1 if side == _IN else 0
    for k in range(inside[hub, side + 1] - 1, inside[hub, side] - 1, -1):
        between = rows[k, 0]
        if stamp[between] == turn:
            continue
        for j in range(inside[between, side + 1] - 1, inside[between, side] - 1, -1):
            if rows[j, 0] == far and (not in_order or rows[j, 1] < rows[k, 1]):
                edges[at + near] = rows[k, 3]
                edges[at + 1 - near] = rows[j, 3]
                at += 2
                break
        stamp[between] = turn


@kernel
def _patterns(
    source: Int32,
    target: Int32,
    rank: Int32,
    earliest: Int32,
    outgoing: Int32,
    out_start: Int32,
    incoming: Int32,
    in_start: Int32,
    least: int,
    in_order: bool,
    limit: int,
    seeds: npt.NDArray[np.bool_],
    last: Int64,
    sources: Int32,
    sinks: Int32,
    sizes: Int32,
    edges: Int64,
    offsets: Int64,
) -> tuple[int, int]:
    """Count patterns and their edges, up to ``limit`` patterns; write those there is room for.

    Without room for any, the edges that have some are marked in ``seeds``; with it only these are
    looked at.
    """
    n = len(out_start) - 1
    inside = np.empty((n, 4), np.int32)
    for v in range(n):
        inside[v, 0] = inside[v, 1] = out_start[v]
        inside[v, 2] = inside[v, 3] = in_start[v]
    stamp, wanted, counted = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    size, found = np.empty(n, np.int32), np.empty(n, np.int32)
    turn, patterns, members, oldest = 0, 0, 0, 0
    writing = len(last) > 0
    for i in range(len(source)):
        u, v = source[i], target[i]
        while rank[oldest] < earliest[rank[i]]:
            inside[source[oldest], 0] += 1
            inside[target[oldest], 2] += 1
            oldest += 1
        inside[u, 1] += 1
        inside[v, 3] += 1
        if writing and not seeds[i]:
            continue
        for role in range(1 if in_order else 2):
            # As an edge into the sink, then as one out of the source.
            if role == 0:
                hub, mediator, rows, side = v, u, incoming, _IN
            else:
                hub, mediator, rows, side = u, v, outgoing, _OUT
            if (
                inside[hub, side + 1] - inside[hub, side] < least
                or inside[mediator, side + 1] == inside[mediator, side]
            ):
                continue
            turn, some = _around(
                hub, mediator, rank[i], in_order, rows, side, inside, stamp, wanted, counted, size,
                found, turn,
            )  # fmt: skip
            for k in range(some):
                far = found[k]
                if size[far] < least:
                    continue
                if patterns == limit:
                    return patterns + 1, members
                seeds[i] = True
                if writing:
                    last[patterns], sizes[patterns] = i, size[far]
                    sources[patterns] = far if role == 0 else hub
                    sinks[patterns] = hub if role == 0 else far
                    if len(edges) > 0:
                        turn += 1
                        _list_edges(
                            hub, far, in_order, rows, side, inside, stamp, turn, edges, members
                        )
                    offsets[patterns + 1] = members + 2 * size[far]
                patterns += 1
                members += 2 * size[far]
    return patterns, members


def scatter_gather(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    time: npt.ArrayLike,
    window: int,
    *,
    least: int = 2,
    in_order: bool = True,
    most: int | None = None,
    listed: bool = True,
) -> Patterns:
    """Return the scatter-gather patterns of a temporal multigraph (see the module).

    ``source``, ``target``, ``time``: shape ``(m,)``; vertices are small numbers from 0 on, times
    and ``window`` integers of any one unit. ``most``: no more patterns than this. ``listed``: with
    the edges of each.
    """
    if window < 0 or least < 1:
        raise ValueError("a window is not negative, and a pattern has an intermediate")
    graph = temporal_graph(source, target, time)
    limit = np.iinfo(np.int64).max if most is None else int(most)
    nothing = np.empty(0, np.int64)
    nobody = np.empty(0, np.int32)
    seeds = np.zeros(len(graph), np.bool_)

    def run(last: Int64, ends: list[Int32], edges: Int64, offsets: Int64) -> tuple[int, int]:
        return _patterns(
            graph.source, graph.target, graph.rank, graph.earliest_rank(int(window)),
            graph.outgoing, graph.out_start, graph.incoming, graph.in_start, int(least),
            bool(in_order), limit, seeds, last, ends[0], ends[1], ends[2], edges, offsets,
        )  # fmt: skip

    count, members = run(nothing, [nobody] * 3, nothing, nothing)
    truncated, count = count > limit, min(count, limit)
    last, offsets = np.empty(count, np.int64), np.zeros(count + 1, np.int64)
    ends = [np.empty(count, np.int32) for _ in range(3)]
    edges = np.empty(members if listed else 0, np.int64)
    if count:
        run(last, ends, edges, offsets)
    if not listed:
        offsets[:] = 0
    return Patterns(
        graph.number[last], ends[0], ends[1], ends[2], graph.number[edges], offsets, truncated
    )
