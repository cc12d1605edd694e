"""The graph questions answered by trying everything, for small graphs.

Edges are triples (source, target, time); an answer names edges by their places in the list.
"""

from __future__ import annotations

from collections.abc import Sequence

Edge = tuple[int, int, int]


def temporal_cycles(
    edges: Sequence[Edge], window: int, longest: int | None = None
) -> set[tuple[int, ...]]:
    """Return every cycle as its edges by time: extend each way by each edge that goes on from it."""
    found: set[tuple[int, ...]] = set()

    def extend(way: tuple[int, ...], visited: tuple[int, ...]) -> None:
        start, moment = edges[way[0]], edges[way[-1]][2]
        for i, (source, target, time) in enumerate(edges):
            if source != edges[way[-1]][1] or time <= moment or time - start[2] > window:
                continue
            if longest is not None and len(way) + 1 > longest:
                continue
            if target == start[0]:
                found.add((*way, i))
            elif target not in visited:
                extend((*way, i), (*visited, target))

    for i, (source, target, _) in enumerate(edges):
        if source != target:
            extend((i,), (source, target))
    return found


def in_window(edges: Sequence[Edge], last: int, window: int) -> list[int]:
    """Return the edges from a window before edge ``last`` up to it (equal times: as given)."""
    moment = edges[last][2]
    return [
        i
        for i, (_, _, time) in enumerate(edges)
        if moment - window <= time and (time, i) <= (moment, last)
    ]


def fans(edges: Sequence[Edge], window: int) -> list[tuple[int, int]]:
    """Return fan-in of the target and fan-out of the source at each edge."""
    answer = []
    for i, (u, v, _) in enumerate(edges):
        seen = [edges[k] for k in in_window(edges, i, window)]
        answer.append(
            (len({e[0] for e in seen if e[1] == v}), len({e[1] for e in seen if e[0] == u}))
        )
    return answer


def scatter_gather(
    edges: Sequence[Edge], window: int, least: int, in_order: bool
) -> set[tuple[int, int, int, int]]:
    """Return (last edge, source, sink, size) of every pattern at every edge that is in it."""
    vertices = {v for e in edges for v in e[:2]}
    found = set()
    for i, (u, v, _) in enumerate(edges):
        seen = [edges[k] for k in in_window(edges, i, window)]

        def between(a: int, c: int, seen: list[Edge] = seen) -> set[int]:
            return {
                first[1]
                for first in [e for e in seen if e[0] == a]
                for second in [e for e in seen if e[1] == c]
                if first[1] == second[0] and (not in_order or first[2] < second[2])
            }

        for other in vertices:
            into_sink = between(other, v)
            if other != v and len(into_sink) >= least:
                gives = any(
                    e[:2] == (other, u) and (not in_order or e[2] < edges[i][2]) for e in seen
                )
                if gives:
                    found.add((i, other, v, len(into_sink)))
            out_of_source = between(u, other)
            if not in_order and other != u and v in out_of_source and len(out_of_source) >= least:
                found.add((i, u, other, len(out_of_source)))
    return found
