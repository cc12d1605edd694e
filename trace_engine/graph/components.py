"""Which things belong together: connected by pairs or shared values, or strongly connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel

Int32 = npt.NDArray[np.int32]


@kernel
def _tarjan(start: Int32, target: Int32, component: Int32) -> int:
    """Number the strongly connected components, by Tarjan's method without recursion."""
    n = len(start) - 1
    index, low = np.full(n, -1, np.int32), np.empty(n, np.int32)
    waiting, path = np.empty(n, np.int32), np.empty(n, np.int32)
    place = start[:-1].copy()
    waiting_count, count, found = 0, 0, 0
    for root in range(n):
        if index[root] >= 0:
            continue
        depth = 0
        path[0] = root
        index[root] = low[root] = count
        count += 1
        waiting[waiting_count] = root
        waiting_count += 1
        while depth >= 0:
            v = path[depth]
            if place[v] < start[v + 1]:
                w = target[place[v]]
                place[v] += 1
                if index[w] < 0:
                    index[w] = low[w] = count
                    count += 1
                    waiting[waiting_count] = w
                    waiting_count += 1
                    depth += 1
                    path[depth] = w
                elif component[w] < 0:
                    low[v] = min(low[v], index[w])
                continue
            if low[v] == index[v]:
                while True:
                    waiting_count -= 1
                    w = waiting[waiting_count]
                    component[w] = found
                    if w == v:
                        break
                found += 1
            depth -= 1
            if depth >= 0:
                low[path[depth]] = min(low[path[depth]], low[v])
    return found


@kernel
def _by_source(source: Int32, target: Int32, start: Int32, sorted_target: Int32) -> None:
    """Put the targets of each source together."""
    place = start[:-1].copy()
    for i in range(len(source)):
        sorted_target[place[source[i]]] = target[i]
        place[source[i]] += 1


def strong_components(source: npt.ArrayLike, target: npt.ArrayLike, vertices: int) -> Int32:
    """Return the strongly connected component of each vertex, shape ``(vertices,)``.

    Two vertices are in one component if each can be reached from the other along ``source ->
    target`` (each ``(m,)``). Components are numbered by their smallest vertex, from 0 on, so the
    answer does not depend on the order of the edges.
    """
    sources, targets = np.asarray(source, np.int32), np.asarray(target, np.int32)
    start = np.zeros(vertices + 1, np.int32)
    np.cumsum(np.bincount(sources, minlength=vertices), out=start[1:])
    sorted_target = np.empty(len(sources), np.int32)
    _by_source(sources, targets, start, sorted_target)
    component = np.full(vertices, -1, np.int32)
    _tarjan(start, sorted_target, component)
    return by_smallest_member(component)


def by_smallest_member(component: npt.NDArray[np.integer]) -> Int32:
    """Return the same parts, numbered in the order of their smallest members, shape ``(n,)``."""
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return number[inverse]


@kernel
def _root(parent: Int32, x: int) -> int:
    """Return the smallest member of the set of ``x``, shortening the way to it."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@kernel
def _unite(parent: Int32, first: Int32, second: Int32) -> None:
    """Join the sets of each pair; the smaller root becomes the root of both."""
    for i in range(len(first)):
        a, b = _root(parent, first[i]), _root(parent, second[i])
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for x in range(len(parent)):
        parent[x] = _root(parent, x)


def connected(first: npt.ArrayLike, second: npt.ArrayLike, count: int) -> Int32:
    """Return the connected component of each of ``count`` things, shape ``(count,)``.

    ``first[i]`` and ``second[i]`` (numbers below ``count``) belong together. Components are
    numbered by their smallest members, from 0 on, so the order of the pairs does not matter.
    """
    parent = np.arange(count, dtype=np.int32)
    _unite(parent, np.asarray(first, np.int32), np.asarray(second, np.int32))
    return by_smallest_member(parent)


def connected_by_keys(
    columns: Sequence[npt.NDArray[Any]], missing: Sequence[Any] | None = None
) -> Int32:
    """Return the components of things that share a value in any of several columns.

    Each column has shape ``(n,)`` (texts or numbers): a controller, a telephone, an address. Equal
    values of one column join; ``missing[j]`` of column j joins nothing.
    """
    count = len(columns[0]) if columns else 0
    first, second = [], []
    for j, column in enumerate(columns):
        _, leader, inverse = np.unique(column, return_index=True, return_inverse=True)
        stated = np.ones(count, np.bool_) if missing is None else column != missing[j]
        first.append(np.flatnonzero(stated))
        second.append(leader[inverse[stated]])
    if not columns:
        return np.empty(0, np.int32)
    return connected(np.concatenate(first), np.concatenate(second), count)
