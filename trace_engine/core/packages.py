"""Which code was ever in which other code: pairs as arrays, and how kernels fill and walk them.

Nothing of times: when a pair held is found from events (``core.stories``); the pairs only say whose
events to look at. ``core.packagetable`` owns the arrays and lets them grow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import mix
from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.records import Integer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

LEVELS = 4  # links up or down that count

# What a pair says
STATED = 0  # an event of the child stated the parent
PACKED = 1  # the child was packed into the parent
REPLACED = 2  # the child is the code that replaced the parent

NEVER = np.iinfo(np.int32).max


class Packages(NamedTuple):
    """Arrays as kernels take them: codes (nodes), pairs, and an index from key to node."""

    key: Keys
    up: Int32  # latest pair as child, -1 none
    down: Int32  # latest pair as parent
    replaced: Int32  # latest pair as a code that was replaced
    moves: npt.NDArray[np.uint8]  # 1: the code has events that move what is in it
    place: Int32  # scratch: -1 outside of a walk
    child: Int32
    parent: Int32
    next_up: Int32
    next_down: Int32
    seq: Int64  # log number of the event that said so (of several statements: the first)
    day: Int32  # its day
    void_day: Int32  # day it was made void, NEVER
    says: npt.NDArray[np.uint8]
    index: Keys  # type: ignore[assignment]  # hides tuple.index
    used: Int64  # nodes, pairs


@leaf
def find_node(p: Packages, key: np.uint64) -> np.int64:
    """Return the node of ``key`` or -1."""
    index = p.index
    mask = np.uint64(index.shape[0] - 1)
    h = mix(key)
    slot = (h >> np.uint64(3)) & mask
    mark = h & np.uint64(0xFFFFFFFF00000000)
    while True:
        entry = index[slot]
        if entry == np.uint64(0):
            return np.int64(-1)
        if (entry & np.uint64(0xFFFFFFFF00000000)) == mark:
            node = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if p.key[node] == key:
                return node
        slot = (slot + np.uint64(1)) & mask


@leaf
def _enter(index: Keys, key: np.uint64, node: Integer) -> None:
    mask = np.uint64(index.shape[0] - 1)
    h = mix(key)
    slot = (h >> np.uint64(3)) & mask
    while index[slot] != np.uint64(0):
        slot = (slot + np.uint64(1)) & mask
    index[slot] = (h & np.uint64(0xFFFFFFFF00000000)) | np.uint64(node + 1)


@leaf
def _node(p: Packages, key: np.uint64) -> np.int64:
    node = find_node(p, key)
    if node >= 0:
        return node
    node = np.int64(p.used[0])
    p.used[0] = node + 1
    p.key[node] = key
    p.up[node] = -1
    p.down[node] = -1
    p.replaced[node] = -1
    p.moves[node] = 0
    p.place[node] = -1
    _enter(p.index, key, node)
    return node


@kernel
def add_nodes(p: Packages, keys: Keys) -> None:
    """Make sure that every code has a node; there is room for all."""
    for i in range(keys.shape[0]):
        _node(p, keys[i])


@kernel
def add_pairs(
    p: Packages,
    children: Keys,
    parents: Keys,
    seqs: Int64,
    days: Int32,
    void_days: Int32,
    says: npt.NDArray[np.uint8],
) -> None:
    """Add pairs; a statement only where no pair of the two is there yet."""
    for i in range(children.shape[0]):
        child, parent = _node(p, children[i]), _node(p, parents[i])
        if says[i] == STATED:
            pair = np.int64(p.up[child])
            while pair >= 0 and (p.parent[pair] != parent or p.says[pair] == REPLACED):
                pair = np.int64(p.next_up[pair])
            if pair >= 0:
                continue
        pair = np.int64(p.used[1])
        p.used[1] = pair + 1
        p.child[pair] = child
        p.parent[pair] = parent
        p.seq[pair] = seqs[i]
        p.day[pair] = days[i]
        p.void_day[pair] = void_days[i]
        p.says[pair] = says[i]
        p.next_up[pair] = p.up[child]
        p.up[child] = pair
        if says[i] == REPLACED:
            p.next_down[pair] = p.replaced[parent]
            p.replaced[parent] = pair
        else:
            p.next_down[pair] = p.down[parent]
            p.down[parent] = pair


@kernel
def nodes_of(p: Packages, codes: Keys, nodes: Int32) -> None:
    """Write the node of each code, -1 for none, to ``nodes``."""
    for i in range(codes.shape[0]):
        nodes[i] = find_node(p, codes[i])


@kernel
def reindex(p: Packages) -> None:
    """Enter every node into an index that is all zero."""
    for node in range(p.used[0]):
        _enter(p.index, p.key[node], node)


@kernel
def note_moves(p: Packages, nodes: Int32, acts: npt.NDArray[np.bool_]) -> None:
    """Mark nodes (-1: none) of rows that move what is in the code."""
    for i in range(nodes.shape[0]):
        if acts[i] and nodes[i] >= 0:
            p.moves[nodes[i]] = 1


@kernel
def borrows(p: Packages, nodes: Int64, out: npt.NDArray[np.bool_]) -> None:
    """Whether each node may have something to borrow (or was replaced): its parents moved."""
    stack = np.empty(256, np.int64)
    depth = np.empty(256, np.int64)
    for i in range(nodes.shape[0]):
        out[i] = p.replaced[nodes[i]] >= 0
        top = 1
        stack[0], depth[0] = nodes[i], 0
        while top > 0 and not out[i]:
            top -= 1
            node, level = stack[top], depth[top]
            if level > 0 and p.moves[node] != 0:
                out[i] = True
            if level == 2 * LEVELS:
                continue
            for way in range(2):
                pair = np.int64(p.up[node] if way == 0 else p.replaced[node])
                while pair >= 0:
                    if top == stack.shape[0]:  # more than any package has: look closely
                        out[i] = True
                        break
                    stack[top] = p.parent[pair] if way == 0 else p.child[pair]
                    depth[top] = level + 1
                    top += 1
                    pair = np.int64(p.next_up[pair] if way == 0 else p.next_down[pair])


@kernel
def closure(p: Packages, roots: Int64) -> Int64:
    """Return the nodes that stories of ``roots`` may need, roots first; ``place`` numbers them."""
    found = np.empty(max(64, 2 * roots.shape[0]), np.int64)
    count = 0
    for i in range(roots.shape[0]):
        if p.place[roots[i]] < 0:
            p.place[roots[i]] = count
            found[count] = roots[i]
            count += 1
    begin = 0
    for _ in range(2 * LEVELS):
        end = count
        for i in range(begin, end):
            node = found[i]
            for way in range(2):
                pair = np.int64(p.up[node] if way == 0 else p.replaced[node])
                while pair >= 0:
                    other = np.int64(p.parent[pair] if way == 0 else p.child[pair])
                    if p.place[other] < 0:
                        if count == found.shape[0]:
                            grown = np.empty(2 * count, np.int64)
                            grown[:count] = found
                            found = grown
                        p.place[other] = count
                        found[count] = other
                        count += 1
                    pair = np.int64(p.next_up[pair] if way == 0 else p.next_down[pair])
        begin = end
    return found[:count]


@kernel
def descendants(p: Packages, roots: Int64) -> Int64:
    """Return the nodes that may ever have been in ``roots``, roots first."""
    found = np.empty(max(64, 2 * roots.shape[0]), np.int64)
    count = 0
    for i in range(roots.shape[0]):
        if p.place[roots[i]] < 0:
            p.place[roots[i]] = count
            found[count] = roots[i]
            count += 1
    begin = 0
    for _ in range(2 * LEVELS):  # a code that replaced another is where that was
        end = count
        for i in range(begin, end):
            for way in range(2):
                node = found[i]
                pair = np.int64(p.down[node] if way == 0 else p.replaced[node])
                while pair >= 0:
                    other = np.int64(p.child[pair])
                    if p.place[other] < 0:
                        if count == found.shape[0]:
                            grown = np.empty(2 * count, np.int64)
                            grown[:count] = found
                            found = grown
                        p.place[other] = count
                        found[count] = other
                        count += 1
                    pair = np.int64(p.next_down[pair])
        begin = end
    for i in range(count):
        p.place[found[i]] = -1
    return found[:count]


@kernel
def several_parents(p: Packages, nodes: Int64, out: npt.NDArray[np.bool_]) -> None:
    """Whether each node was ever said to be in more than one other."""
    for i in range(nodes.shape[0]):
        out[i] = False
        first = np.int64(-1)
        pair = np.int64(p.up[nodes[i]])
        while pair >= 0:
            if p.says[pair] != REPLACED:
                out[i] |= first >= 0 and p.parent[pair] != first
                first = np.int64(p.parent[pair])
            pair = np.int64(p.next_up[pair])


@kernel
def packed_by(p: Packages, nodes: Int64, days: Int64, out: npt.NDArray[np.bool_]) -> None:
    """Whether something was packed into each node on or before a day, as known that day."""
    for i in range(nodes.shape[0]):
        out[i] = False
        pair = np.int64(p.down[nodes[i]])
        while pair >= 0 and not out[i]:
            known = p.day[pair] <= days[i] and p.void_day[pair] > days[i]
            out[i] = p.says[pair] == PACKED and known
            pair = np.int64(p.next_down[pair])


@kernel
def note_voids(p: Packages, nodes: Int64, seqs: Int64, days: Int32) -> None:
    """Give pairs that events said (by child and log number) the day they were made void."""
    for i in range(nodes.shape[0]):
        pair = np.int64(p.up[nodes[i]])
        while pair >= 0:
            if p.seq[pair] == seqs[i]:
                p.void_day[pair] = days[i]
            pair = np.int64(p.next_up[pair])
