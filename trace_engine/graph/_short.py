"""Temporal cycles of at most five edges, by meeting in the middle (see ``cycles``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, inlined

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_TABLE = 1 << 16  # ways of two edges kept at a time; more are taken in turns


@inlined
def in_proportion(path: Int32, length: int, amounts: npt.NDArray[np.float64], ratio: float) -> bool:
    """Return whether the least amount of the edges is ``ratio`` of the largest at least."""
    if len(amounts) == 0:
        return True
    least = largest = amounts[path[0]]
    for i in range(1, length):
        least = min(least, amounts[path[i]])
        largest = max(largest, amounts[path[i]])
    return bool(least >= ratio * largest)


@inlined
def write_down(path: Int32, length: int, found: int, edges: Int64, offsets: Int64) -> None:
    """Write cycle number ``found``, if they are to be listed."""
    if len(offsets) > 0:
        begin = offsets[found]
        for i in range(length):
            edges[begin + i] = path[i]
        offsets[found + 1] = begin + length


@kernel
def short_cycles(
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
    window_begin = out_start[:-1].copy()  # first outgoing row of each vertex inside the window
    stamp, head = np.zeros(n, np.int64), np.empty(n, np.int32)
    # A way v -> a -> b: the next one to b, a, rank at b, and the two rows.
    table = np.empty((_TABLE, 5), np.int32)
    path = np.empty(5, np.int32)
    turn, found = 0, 0
    for i in closing:
        u, v, last = source[i], target[i], rank[i]
        low = earliest[last]
        first, out_end = window_begin[v], out_start[v + 1]
        while first < out_end and outgoing[first, 1] < low:
            first += 1
        window_begin[v] = first
        if first == out_end or outgoing[first, 1] >= last:
            continue
        in_last = earlier[i] - 1
        if in_last < in_start[u] or incoming[in_last, 1] <= outgoing[first, 1]:
            # The one edge that both leaves v first and enters u last is the way of a pair.
            if in_last < in_start[u] or incoming[in_last, 1] < outgoing[first, 1]:
                continue
        path_before = found
        row, second = first, np.int32(-1)
        more = True
        while more:
            turn += 1
            kept = 0
            more = False
            while row < out_end and outgoing[row, 1] < last:
                a = outgoing[row, 0]
                if second < 0:
                    if a == u:
                        path[0], path[1] = outgoing[row, 3], i
                        if in_proportion(path, 2, amounts, ratio):
                            if found == limit:
                                return found, False
                            write_down(path, 2, found, edges, offsets)
                            counts[2] += 1
                            found += 1
                    if a == u or longest == 2:
                        row += 1
                        continue
                    second = outgoing[row, 2]
                end = out_start[a + 1]
                while second < end and outgoing[second, 1] < last:
                    b = outgoing[second, 0]
                    if b == u:
                        path[0], path[1], path[2] = outgoing[row, 3], outgoing[second, 3], i
                        if in_proportion(path, 3, amounts, ratio):
                            if found == limit:
                                return found, False
                            write_down(path, 3, found, edges, offsets)
                            counts[3] += 1
                            found += 1
                    elif b != v and longest > 3:
                        if kept == _TABLE:
                            more = True
                            break
                        table[kept, 0] = head[b] if stamp[b] == turn else -1
                        table[kept, 1] = a
                        table[kept, 2] = outgoing[second, 1]
                        table[kept, 3] = row
                        table[kept, 4] = second
                        stamp[b] = turn
                        head[b] = kept
                        kept += 1
                    second += 1
                if more:
                    break
                second = np.int32(-1)
                row += 1
            if kept == 0:
                continue
            third = in_last
            while third >= in_start[u] and incoming[third, 1] > low:
                c = incoming[third, 0]
                if c != v:
                    if stamp[c] == turn:
                        way = head[c]
                        while way >= 0:
                            if table[way, 2] < incoming[third, 1]:
                                path[0] = outgoing[table[way, 3], 3]
                                path[1] = outgoing[table[way, 4], 3]
                                path[2] = incoming[third, 3]
                                path[3] = i
                                if in_proportion(path, 4, amounts, ratio):
                                    if found == limit:
                                        return found, False
                                    write_down(path, 4, found, edges, offsets)
                                    counts[4] += 1
                                    found += 1
                            way = table[way, 0]
                    if longest > 4:
                        fourth = incoming[third, 2] - 1
                        begin = in_start[c]
                        while fourth >= begin and incoming[fourth, 1] > low:
                            b = incoming[fourth, 0]
                            if stamp[b] == turn:
                                way = head[b]
                                while way >= 0:
                                    if (
                                        table[way, 2] < incoming[fourth, 1]
                                        and table[way, 1] != c
                                    ):
                                        path[0] = outgoing[table[way, 3], 3]
                                        path[1] = outgoing[table[way, 4], 3]
                                        path[2] = incoming[fourth, 3]
                                        path[3] = incoming[third, 3]
                                        path[4] = i
                                        if in_proportion(path, 5, amounts, ratio):
                                            if found == limit:
                                                return found, False
                                            write_down(path, 5, found, edges, offsets)
                                            counts[5] += 1
                                            found += 1
                                    way = table[way, 0]
                            fourth -= 1
                third -= 1
        if found > path_before:
            seeds[i] = True
    return found, True
