"""The stack of owners of one code: three parties in the line, deeper ones in linked nodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf, record
from trace_engine.core.records import Record, Records, Truth

# What custody must know of a party, addressed by its id.
PARTY = record([("group", np.int32), ("province", np.int32)])


class Owners(NamedTuple):
    """Linked nodes of one shard: ``nodes`` (m, 2) of party and next; ``used`` [lines, nodes]."""

    nodes: npt.NDArray[np.int32]
    used: npt.NDArray[np.int64]


@leaf
def related(parties: Records, a: np.int32, group: np.int32, b: np.int32) -> bool:
    """Whether ``a`` (of registered group ``group``, -1 none) and ``b`` are one or of one group."""
    if a == b:
        return True
    if a < 0 or b < 0 or group < 0:
        return False
    return bool(parties[b].group == group)


@leaf
def province_of(parties: Records, party: np.int32, giver: np.int32, of_giver: np.int64) -> np.int64:
    """Province (11..82, 0 unknown) of an owner; ``of_giver`` is known of the event's giver."""
    if party == giver:
        return np.int64(of_giver)
    if party < 0:
        return np.int64(0)
    return np.int64(parties[party].province)


@leaf
def push_owner(line: Record, owners: Owners, party: np.int32, by_hop: bool, crossed: Truth) -> None:
    """Make ``party`` the owner, above those before."""
    if line.owner >= 0:
        if line.previous >= 0:
            if line.tail == -1:
                line.tail = line.previous
            else:
                if line.tail >= 0:
                    node = owners.used[1]
                    owners.used[1] = node + 1
                    owners.nodes[node, 0] = line.tail
                    owners.nodes[node, 1] = -1
                    line.tail = np.int32(-(node + 2))
                node = owners.used[1]
                owners.used[1] = node + 1
                owners.nodes[node, 0] = line.previous
                owners.nodes[node, 1] = line.tail
                line.tail = np.int32(-(node + 2))
        line.previous = line.owner
    line.owner = party
    line.hop_bits = np.uint8(((line.hop_bits << 1) | (1 if by_hop else 0)) & 0xFF)
    line.crossed_bits = np.uint8(((line.crossed_bits << 1) | (1 if crossed else 0)) & 0xFF)


@leaf
def pop_owner(line: Record, owners: Owners) -> None:
    """Take the owner off the stack; the one below becomes owner."""
    line.owner = line.previous
    if line.tail >= 0:
        line.previous = line.tail
        line.tail = np.int32(-1)
    elif line.tail == -1:
        line.previous = np.int32(-1)
    else:
        node = -np.int64(line.tail) - 2
        line.previous = owners.nodes[node, 0]
        line.tail = owners.nodes[node, 1]
    line.hop_bits = np.uint8(line.hop_bits >> 1)
    line.crossed_bits = np.uint8(line.crossed_bits >> 1)


@leaf
def owned_before(line: Record, owners: Owners, party: np.int32) -> bool:
    """Whether ``party`` stands in the stack below the owner."""
    if line.owner < 0:
        return False
    if line.previous == party:
        return True
    tail = line.tail
    while tail < -1:
        node = -np.int64(tail) - 2
        if owners.nodes[node, 0] == party:
            return True
        tail = owners.nodes[node, 1]
    return bool(tail >= 0 and tail == party)


@leaf
def owns_anywhere(line: Record, owners: Owners, party: np.int32) -> bool:
    """Whether ``party`` stands anywhere in the stack."""
    return bool(line.owner == party or owned_before(line, owners, party))


@kernel
def _count_below(
    lines: Records, nodes: npt.NDArray[np.int32], counts: npt.NDArray[np.int64]
) -> int:
    total = 0
    for i in range(lines.shape[0]):
        tail = np.int64(lines[i].tail)
        counts[i] = 0
        while tail < -1:
            counts[i] += 1
            tail = np.int64(nodes[-tail - 2, 1])
        if tail >= 0 and counts[i] > 0:
            counts[i] += 1
        total += counts[i]
    return total


@kernel
def _list_below(
    lines: Records, nodes: npt.NDArray[np.int32], parties: npt.NDArray[np.int32]
) -> None:
    at = 0
    for i in range(lines.shape[0]):
        tail = np.int64(lines[i].tail)
        chained = tail < -1
        while tail < -1:
            parties[at] = nodes[-tail - 2, 0]
            at += 1
            tail = np.int64(nodes[-tail - 2, 1])
        if tail >= 0 and chained:
            parties[at] = np.int32(tail)
            at += 1


def owners_below(
    lines: Records, nodes: npt.NDArray[np.int32], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Return the owners in nodes of each line, the upper first, and write how many to ``counts``."""
    parties = np.empty(_count_below(lines, nodes, counts), np.int32)
    _list_below(lines, nodes, parties)
    return parties


@kernel
def push_below(
    lines: Records,
    which: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    parties: npt.NDArray[np.int32],
    begin: npt.NDArray[np.int64],
    nodes: npt.NDArray[np.int32],
    used: npt.NDArray[np.int64],
) -> None:
    """Chain owners below lines ``which``: ``counts[line]`` parties from ``begin`` on, upper first."""
    for k in range(which.shape[0]):
        i = which[k]
        tail = np.int64(-1)
        for back in range(counts[i]):
            node = used[1]
            used[1] = node + 1
            nodes[node, 0] = parties[begin[k] + counts[i] - 1 - back]
            nodes[node, 1] = np.int32(tail)
            tail = -(node + 2)
        lines[i].tail = np.int32(tail)
