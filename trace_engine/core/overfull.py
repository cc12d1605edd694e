"""Which packages hold more packs than a case of their product can (``docs/semantics.md``).

Counted is what is in a package when a day ends: so neither the order of a day's events matters, nor
whether packs were taken out before or after others were put in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.packages import PACKED, Packages
from trace_engine.core.past import Past
from trace_engine.core.stories import Stories, statements
from trace_engine.events.batch import DAY, NATIONAL_LIMIT
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.packagetable import PackageTable
    from trace_engine.events.batch import EventBatch

Bools = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

PLACEHOLDER = 10
"""A parent that was packed this many times over is no package but a number typed for want of one."""

_PACK = int(EventKind.PACK)


class Overfull(NamedTuple):
    """Events that put too many packs into a package, all of shape ``(m,)``."""

    rows: Int64  # of the slice
    parent: npt.NDArray[np.uint64]
    inside: Int64  # packs in it at the end of the event's day
    limit: Int64  # packs that a case of the product holds


class _Filling(NamedTuple):
    """A package into which packs of one drug are put on one day."""

    node: int
    day: int
    drug: int
    limit: int


@kernel
def _often_packed(p: Packages, nodes: Int64, days: Int64, limits: Int64, out: Bools) -> None:
    """Whether more than ``limits`` events packed into each node, as known that day, yet not too many."""
    for i in range(nodes.shape[0]):
        most = limits[i] * PLACEHOLDER
        count = np.int64(0)
        pair = np.int64(p.down[nodes[i]])
        while pair >= 0 and count <= most:
            if p.says[pair] == PACKED and p.day[pair] <= days[i] and p.void_day[pair] > days[i]:
                count += 1
            pair = np.int64(p.next_down[pair])
        out[i] = limits[i] < count <= most


def limits_of(batch: EventBatch, rows: Int64, packs_in_case: Int32) -> Int64:
    """Return how many packs the parent that each row states may hold, -1 where that is not known.

    Known it is where the parent bears a code of the product (not of a pallet, a tote or a shipping
    unit) and the registry says how many packs a case of the product holds.
    """
    drug = batch.drug[rows]
    limit = np.append(packs_in_case, np.int32(-1))[drug].astype(np.int64)
    parent = batch.optional.get("parent")
    if parent is None:
        return np.full(len(rows), -1, np.int64)
    limit[parent[rows] >= np.uint64(NATIONAL_LIMIT)] = -1
    return limit


def packings(batch: EventBatch) -> Int64:
    """Return the rows that pack their code into another."""
    parent = batch.optional.get("parent")
    if parent is None:
        return np.empty(0, np.int64)
    rows = np.flatnonzero(batch.kind == _PACK)
    return rows[statements(batch.kind[rows], batch.code[rows], parent[rows])[0]]


def find_overfull(
    table: PackageTable,
    batch: EventBatch,
    node_of_row: Int32,
    seq_base: int,
    last_of: Callable[[npt.NDArray[np.uint64]], Int64],
    log: EventLog,
    voided: set[int],
    void_days: dict[int, int],
    packs_in_case: Int32,
) -> Overfull | None:
    """Return the events of a slice that fill packages beyond what a case holds; None: none does."""
    rows = packings(batch)
    limit = limits_of(batch, rows, packs_in_case)
    rows, limit = rows[limit > 0], limit[limit > 0]
    parent = batch.optional.get("parent")
    if len(rows) == 0 or parent is None:
        return None
    found = np.stack(
        [
            table.nodes_of(parent[rows]).astype(np.int64),
            batch.time[rows] // DAY,
            batch.drug[rows].astype(np.int64),
            limit,
        ],
        axis=1,
    )
    found = np.unique(found, axis=0)
    often = np.empty(len(found), np.bool_)
    node, day, _, most = (np.ascontiguousarray(column) for column in found.T)
    _often_packed(table.arrays, node, day, most, often)
    if not often.any():
        return None
    fillings = [_Filling(*row) for row in found[often].tolist()]
    packed = {filling.node: _packed_into(table, filling.node) for filling in fillings}
    roots = np.unique(np.concatenate(list(packed.values())))
    past = Past(table, log, roots, last_of, batch, node_of_row, seq_base)
    here = set(past.seq.tolist())
    days = sorted({day for seq, day in void_days.items() if seq in here})
    past.know(voided - void_days.keys(), void_days, days)
    view = np.searchsorted(np.array(days, np.int64), [f.day for f in fillings], side="right")
    hits: list[tuple[int, int, int]] = []
    parents: list[int] = []
    for known in np.unique(view).tolist():
        story = past.tell(np.ones(len(past.keys), np.bool_), known)
        for at in np.flatnonzero(view == known).tolist():
            filling = fillings[at]
            children = packed[filling.node]
            holding = table.packed_by(children, np.full(len(children), filling.day))
            key = int(table.arrays.key[filling.node])
            places = np.searchsorted(roots, children[~holding])
            inside, today = _inside(past, story, known, places, key, filling)
            over = inside - filling.limit
            for row in sorted(today)[-over:] if over > 0 else ():
                if past.seq[row] >= seq_base:
                    hits.append((int(past.seq[row]) - seq_base, inside, filling.limit))
                    parents.append(key)
    if not hits:
        return None
    columns = np.array(hits, np.int64)
    return Overfull(columns[:, 0], np.array(parents, np.uint64), columns[:, 1], columns[:, 2])


def _packed_into(table: PackageTable, node: int) -> Int64:
    """Return the nodes of all that was ever packed into ``node``."""
    a = table.arrays
    pair = int(a.down[node])
    children = set()
    while pair >= 0:
        if a.says[pair] == PACKED:
            children.add(int(a.child[pair]))
        pair = int(a.next_down[pair])
    return np.array(sorted(children), np.int64)


def _inside(
    past: Past, story: Stories, view: int, places: Int64, parent: int, filling: _Filling
) -> tuple[int, list[int]]:
    """Return how many packs are in a package when the day ends, and the rows that put them there today.

    ``places`` are the numbers in ``past`` of the codes that may be in it. A pack counts if an event of
    that day or before packed it there as one of the drug, and no other code has replaced its own.
    """
    outer = int(np.flatnonzero(past.keys == np.uint64(parent))[0])
    inside, today = 0, []
    for k in places.tolist():
        own = past.own[past.own_begin[k] : past.own_begin[k + 1]]
        packs = own[
            (past.columns.kind[own] == _PACK)
            & (past.rows.parent[own] == outer)
            & (past.columns.drug[own] == filling.drug)
            & (past.days(own) <= filling.day)
            & (past.void[own] > view)
        ]
        heirs = past.heirs[past.heirs_begin[k] : past.heirs_begin[k + 1]]
        replaced = (past.days(heirs) <= filling.day) & (past.void[heirs] > view)
        if len(packs) == 0 or replaced.any():
            continue
        for link in range(int(story.link_begin[k]), int(story.link_end[k])):
            if (
                story.link_parent[link] != outer
                or story.link_since[link] // DAY > filling.day
                or story.link_until[link] // DAY <= filling.day
            ):
                continue
            inside += 1
            opener = int(story.link_opener[link])
            if opener in packs and past.days(np.array([opener]))[0] == filling.day:
                today.append(opener)
            break
    return inside, today
