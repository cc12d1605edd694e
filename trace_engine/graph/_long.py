"""Temporal cycles of any length, by two searches that meet in time (see ``cycles``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.graph._short import in_proportion, write_down

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


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
    steps: int,
    counts: Int64,
    seeds: npt.NDArray[np.bool_],
    edges: Int64,
    offsets: Int64,
) -> tuple[int, bool]:
    """Find the cycles that the edges ``closing`` close; see ``cycles._search``."""
    n = len(out_start) - 1
    window_begin = out_start[:-1].copy()
    # Reached from v in the first half: first outgoing row not yet followed, and to follow.
    reached = np.zeros(n, np.int64)  # the closing edge + 1
    followed, to_follow = np.empty(n, np.int32), np.empty(n, np.int32)
    # Leads to u: rank of the latest departure, and one past the last incoming row followed.
    leads, departure = np.zeros(n, np.int64), np.empty(n, np.int32)
    traced, to_trace = np.empty(n, np.int32), np.empty(n, np.int32)
    waiting = np.zeros(n, np.bool_)
    # A vertex waits at most once, so a ring of n + 1 places never overflows.
    queue = np.empty(n + 1, np.int32)
    held = np.empty(n + 1, np.int32)  # vertices whose tracing reached the middle of the window
    visited = np.zeros(n, np.bool_)
    path, rows = np.empty(longest + 1, np.int32), np.empty(longest + 1, np.int32)
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
        low = max(low, outgoing[first, 1])
        in_last = earlier[i] - 1
        if in_last < in_start[u] or incoming[in_last, 1] < low:
            continue
        high = incoming[in_last, 1]  # no edge of the way is later
        middle = low + (high - low) // 2
        mark = np.int64(i + 1)

        # Forwards from v over edges of ranks up to the middle.
        reached[v], followed[v], to_follow[v] = mark, out_end, first
        queue[0] = v
        head, tail = 0, 1
        waiting[v] = True
        while head != tail:
            x = queue[head]
            head = head + 1 if head < n else 0
            waiting[x] = False
            row, stop = to_follow[x], followed[x]
            followed[x] = row
            while row < stop and outgoing[row, 1] <= middle:
                y, go_on = outgoing[row, 0], outgoing[row, 2]
                walked += 1
                if reached[y] != mark:
                    reached[y], followed[y], to_follow[y] = mark, out_start[y + 1], go_on
                elif go_on < to_follow[y]:
                    to_follow[y] = go_on
                else:
                    row += 1
                    continue
                if y != u and not waiting[y]:
                    waiting[y] = True
                    queue[tail] = y
                    tail = tail + 1 if tail < n else 0
                row += 1

        # Backwards from u over edges later than the middle, as far as the middle.
        met = reached[u] == mark
        leads[u], departure[u], traced[u] = mark, last, in_start[u]
        to_trace[u] = in_last + 1
        queue[0] = u
        head, tail, kept = 0, 1, 0
        waiting[u] = True
        while head != tail:
            x = queue[head]
            head = head + 1 if head < n else 0
            waiting[x] = False
            row, stop = to_trace[x] - 1, traced[x]
            traced[x] = to_trace[x]
            while row >= stop and incoming[row, 1] > middle:
                y, go_on = incoming[row, 0], incoming[row, 2]
                walked += 1
                if leads[y] != mark:
                    leads[y], departure[y], traced[y] = mark, incoming[row, 1], in_start[y]
                    to_trace[y] = go_on
                    met |= reached[y] == mark
                elif incoming[row, 1] > departure[y]:
                    departure[y] = incoming[row, 1]
                    to_trace[y] = go_on
                else:
                    row -= 1
                    continue
                if y != v and not waiting[y]:
                    waiting[y] = True
                    queue[tail] = y
                    tail = tail + 1 if tail < n else 0
                row -= 1
        if not met:
            continue
    return found, True
