"""Temporal cycles of any length, by two searches that meet in time (see ``cycles``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph._short import take

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@kernel
def _forwards(
    v: int,
    u: int,
    first: int,
    middle: int,
    mark: int,
    outgoing: Int32,
    out_start: Int32,
    reached: Int64,
    arrival: Int32,
    follow: Int32,
    followed: Int32,
    queue: Int32,
    waiting: npt.NDArray[np.bool_],
) -> int:
    """Follow v over edges of ranks up to ``middle``; return how many were walked.

    A vertex reached has ``reached == mark``, its ``arrival`` (rank of the edge) is the earliest. A
    vertex reached again, earlier, is followed only over the rows not followed yet, so each edge is
    walked at most once.
    """
    walked = 0
    reached[v], arrival[v], follow[v], followed[v] = mark, -1, first, out_start[v + 1]
    queue[0] = v
    head, tail = 0, 1
    while head != tail:
        x = queue[head]
        head = head + 1 if head + 1 < len(queue) else 0
        waiting[x] = False
        row, stop = follow[x], followed[x]
        followed[x] = row
        while row < stop and outgoing[row, 1] <= middle:
            y = outgoing[row, 0]
            walked += 1
            if reached[y] != mark:
                reached[y], followed[y] = mark, out_start[y + 1]
            elif outgoing[row, 1] >= arrival[y]:
                row += 1
                continue
            arrival[y], follow[y] = outgoing[row, 1], outgoing[row, 2]
            if y != u and not waiting[y] and follow[y] < followed[y]:
                waiting[y] = True
                queue[tail] = y
                tail = tail + 1 if tail + 1 < len(queue) else 0
            row += 1
    return walked


@kernel
def _backwards(
    u: int,
    v: int,
    last: int,
    in_end: int,
    floor: int,
    middle: int,
    forward_mark: int,
    mark: int,
    incoming: Int32,
    in_start: Int32,
    reached: Int64,
    arrival: Int32,
    leads: Int64,
    departure: Int32,
    trace: Int32,
    traced: Int32,
    queue: Int32,
    waiting: npt.NDArray[np.bool_],
) -> tuple[int, bool]:
    """Trace u backwards over edges later than ``floor``; return how many, and whether v's side met.

    A vertex that leads to u has ``leads == mark``, its ``departure`` (rank of the edge) is the
    latest. Up to ``middle`` only edges are walked whose source was reached before.
    """
    walked = 0
    met = reached[u] == forward_mark
    leads[u], departure[u], trace[u], traced[u] = mark, last, in_end, in_start[u]
    queue[0] = u
    head, tail = 0, 1
    while head != tail:
        x = queue[head]
        head = head + 1 if head + 1 < len(queue) else 0
        waiting[x] = False
        row, stop = trace[x] - 1, traced[x]
        traced[x] = trace[x]
        while row >= stop and incoming[row, 1] > floor:
            y, leaving = incoming[row, 0], incoming[row, 1]
            walked += 1
            row -= 1
            if leaving <= middle and (reached[y] != forward_mark or arrival[y] >= leaving):
                continue
            if leads[y] != mark:
                leads[y], traced[y] = mark, in_start[y]
                met |= reached[y] == forward_mark
            elif leaving <= departure[y]:
                continue
            departure[y], trace[y] = leaving, incoming[row + 1, 2]
            if y != v and not waiting[y] and trace[y] > traced[y]:
                waiting[y] = True
                queue[tail] = y
                tail = tail + 1 if tail + 1 < len(queue) else 0
    return walked, met


@kernel
def long_cycles(
    source: Int32,
    target: Int32,
    rank: Int32,
    earlier: Int32,
    outgoing: Int32,
    out_start: Int32,
    incoming: Int32,
    in_start: Int32,
    earliest: Int32,
    closing: Int64,
    longest: int,
    amounts: npt.NDArray[np.float64],
    ratio: float,
    limit: int,
    stop: int,
    steps: int,
    counts: Int64,
    seeds: npt.NDArray[np.bool_],
    edges: Int64,
    offsets: Int64,
) -> tuple[int, bool]:
    """Find the cycles that the edges ``closing`` close; see ``cycles._search``."""
    n = len(out_start) - 1
    window_begin = out_start[:-1].copy()  # first outgoing row of each vertex inside the window
    reached, arrival = np.zeros(n, np.int64), np.empty(n, np.int32)
    follow, followed = np.empty(n, np.int32), np.empty(n, np.int32)
    leads, departure = np.zeros(n, np.int64), np.empty(n, np.int32)
    trace, traced = np.empty(n, np.int32), np.empty(n, np.int32)
    # A vertex waits at most once, so a ring of n + 1 places never overflows.
    queue, waiting = np.empty(n + 1, np.int32), np.zeros(n, np.bool_)
    visited = np.zeros(n, np.bool_)
    path = np.empty(longest + 1, np.int32)
    vertex, rows = np.empty(longest + 1, np.int32), np.empty(longest + 1, np.int32)
    found, walked = 0, 0
    for i in closing:
        u, v, last = source[i], target[i], rank[i]
        low = earliest[last]
        first, out_end = window_begin[v], out_start[v + 1]
        while first < out_end and outgoing[first, 1] < low:
            first += 1
        window_begin[v] = first
        if first == out_end or outgoing[first, 1] >= last:
            continue
        low = outgoing[first, 1]  # no way from v begins before
        in_end = earlier[i]
        if in_end == in_start[u] or incoming[in_end - 1, 1] < low:
            continue
        middle = low + (incoming[in_end - 1, 1] - low) // 2
        mark = 2 * i + 1
        walked += _forwards(
            v, u, first, middle, mark, outgoing, out_start, reached, arrival, follow, followed,
            queue, waiting,
        )  # fmt: skip
        more, met = _backwards(
            u, v, last, in_end, middle, middle, mark, mark, incoming, in_start, reached, arrival,
            leads, departure, trace, traced, queue, waiting,
        )  # fmt: skip
        walked += more
        if walked > steps:
            return found, False
        if not met:
            continue
        mark += 1
        more, _ = _backwards(
            u, v, last, in_end, low - 1, middle, mark - 1, mark, incoming, in_start, reached,
            arrival, leads, departure, trace, traced, queue, waiting,
        )  # fmt: skip
        walked += more
        # Every step leads to u in time, were it not for vertices already on the way.
        depth = 0
        vertex[0], rows[0] = v, first
        visited[v] = True
        while depth >= 0:
            x, row = vertex[depth], rows[depth]
            if row == out_start[x + 1] or outgoing[row, 1] > departure[x]:
                visited[x] = False
                depth -= 1
                continue
            rows[depth] = row + 1
            walked += 1
            if walked > steps:
                return found, False
            y = outgoing[row, 0]
            if y == u:
                path[depth], path[depth + 1] = outgoing[row, 3], i
                found = take(
                    path, depth + 2, amounts, ratio, limit, found, counts, seeds, edges, offsets
                )
                if found == stop:
                    return min(found, limit), found <= limit
            elif (
                depth + 3 <= longest
                and leads[y] == mark
                and departure[y] > outgoing[row, 1]
                and not visited[y]
            ):
                path[depth] = outgoing[row, 3]
                depth += 1
                vertex[depth], rows[depth] = y, outgoing[row, 2]
                visited[y] = True
    return found, True
