"""Temporal cycles of at most five edges, by meeting in the middle (see ``cycles``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import inlined, kernel

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_TABLE = 1 << 16  # ways of two edges kept at a time; more are taken in turns


@inlined
def take(
    path: Int32,
    length: int,
    amounts: npt.NDArray[np.float64],
    ratio: float,
    limit: int,
    found: int,
    counts: Int64,
    seeds: npt.NDArray[np.bool_],
    edges: Int64,
    offsets: Int64,
) -> int:
    """Take the cycle of the edges ``path[:length]`` if it keeps the ratio; return how many are.

    That over ``limit`` is counted in what is returned and nowhere else.
    """
    if len(amounts) > 0:
        least = largest = amounts[path[0]]
        for k in range(1, length):
            least = min(least, amounts[path[k]])
            largest = max(largest, amounts[path[k]])
        if not least >= ratio * largest:
            return found
    if found < limit:
        seeds[path[length - 1]] = True
        counts[length] += 1
        if len(offsets) > 0:
            begin = offsets[found]
            for k in range(length):
                edges[begin + k] = path[k]
            offsets[found + 1] = begin + length
    return found + 1


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
    stop: int,
    counts: Int64,
    seeds: npt.NDArray[np.bool_],
    edges: Int64,
    offsets: Int64,
) -> tuple[int, bool]:
    """Find the cycles that the edges ``closing`` close; see ``cycles._search``."""
    n = len(out_start) - 1
    window_begin = out_start[:-1].copy()  # first outgoing row of each vertex inside the window
    stamp, head = np.zeros(n, np.int64), np.empty(n, np.int32)
    # A way v -> a -> b: the next one to b, a, rank of its second edge, and its two rows.
    table = np.empty((_TABLE, 5), np.int32)
    path = np.empty(5, np.int32)
    turn, found = 0, 0
    for i in closing:
        u, v, last = source[i], target[i], rank[i]
        low = earliest[last]
        row, out_end = window_begin[v], out_start[v + 1]
        while row < out_end and outgoing[row, 1] < low:
            row += 1
        window_begin[v] = row
        if row == out_end or outgoing[row, 1] >= last:
            continue
        low = outgoing[row, 1]  # no way from v begins before
        in_begin, in_last = in_start[u], earlier[i] - 1
        if in_last < in_begin or incoming[in_last, 1] < low:
            continue
        second = np.int32(-1)
        more = True
        while more:
            # Forwards: ways of one or two edges that end at u, the others are kept.
            more = False
            turn += 1
            kept = 0
            while row < out_end and outgoing[row, 1] < last:
                a = outgoing[row, 0]
                if second < 0:
                    if a == u:
                        path[0], path[1] = outgoing[row, 3], i
                        found = take(
                            path, 2, amounts, ratio, limit, found, counts, seeds, edges, offsets
                        )
                        if found == stop:
                            return min(found, limit), found <= limit
                    if a == u or longest == 2:
                        row += 1
                        continue
                    second = outgoing[row, 2]
                end = out_start[a + 1]
                while second < end and outgoing[second, 1] < last:
                    b = outgoing[second, 0]
                    if b == u:
                        path[0], path[1], path[2] = outgoing[row, 3], outgoing[second, 3], i
                        found = take(
                            path, 3, amounts, ratio, limit, found, counts, seeds, edges, offsets
                        )
                        if found == stop:
                            return min(found, limit), found <= limit
                    elif b != v and longest > 3:
                        if kept == _TABLE:
                            more = True
                            break
                        way = table[kept]
                        way[0] = head[b] if stamp[b] == turn else -1
                        way[1] = a
                        way[2] = outgoing[second, 1]
                        way[3] = row
                        way[4] = second
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
            # Backwards: ways of one or two edges into u that begin where a kept one ends.
            into = in_last
            while into >= in_begin and incoming[into, 1] > low:
                c = incoming[into, 0]
                if c == v:
                    into -= 1
                    continue
                if stamp[c] == turn:
                    place = head[c]
                    while place >= 0:
                        way = table[place]
                        place = way[0]
                        if way[2] < incoming[into, 1]:
                            path[0], path[1] = outgoing[way[3], 3], outgoing[way[4], 3]
                            path[2], path[3] = incoming[into, 3], i
                            found = take(
                                path, 4, amounts, ratio, limit, found, counts, seeds, edges, offsets
                            )
                            if found == stop:
                                return min(found, limit), found <= limit
                before, begin = incoming[into, 2] - 1, in_start[c]
                if longest == 4:
                    before = begin - 1
                while before >= begin and incoming[before, 1] > low:
                    b = incoming[before, 0]
                    if stamp[b] == turn:
                        place = head[b]
                        while place >= 0:
                            way = table[place]
                            place = way[0]
                            if way[2] < incoming[before, 1] and way[1] != c:
                                path[0], path[1] = outgoing[way[3], 3], outgoing[way[4], 3]
                                path[2], path[3] = incoming[before, 3], incoming[into, 3]
                                path[4] = i
                                found = take(
                                    path, 5, amounts, ratio, limit, found, counts, seeds, edges,
                                    offsets,
                                )  # fmt: skip
                                if found == stop:
                                    return min(found, limit), found <= limit
                    before -= 1
                into -= 1
    return found, True
