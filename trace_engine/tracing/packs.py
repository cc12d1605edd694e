"""Packs with their events and their state: those of a batch, each told up to a moment.

Most packs are as the code tables have them. A pack of whose case or pallet something is known, one of
which an event was made void, and one that has events after the time asked for are told anew
(``docs/semantics.md``, "Aggregation", "Void"): ``retold`` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from trace_engine.core.past import Keys, Paths
from trace_engine.core.records import Records
from trace_engine.events.kinds import EventKind
from trace_engine.tracing.index import fetch, ranges
from trace_engine.tracing.retold import COLUMNS, Part, joined, retell_alone, retell_borrowing

if TYPE_CHECKING:
    from trace_engine.core.packagetable import PackageTable
    from trace_engine.engine import Engine

_VOID = int(EventKind.VOID)

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Index(Paths, Protocol):
    """What telling asks of ``index.TraceIndex``, or of an index of fewer packs.

    As a source of pasts it is asked for the paths of what :meth:`last_of` returned.
    """

    has_void: Bools

    def lines(self, packs: Int64) -> Records:
        """Return the state of packs (records ``core.codetable.LINE``)."""
        ...

    def events_of(self, packs: Int64) -> tuple[Int64, Int64]:
        """Return (starts, log numbers) of the packs' events, oldest first, without what is void."""
        ...

    def last_of(self, codes: Keys) -> Int64:
        """Return by what number :meth:`paths` knows the events of each code, -1 for none."""
        ...


@dataclass(frozen=True)
class ToldPacks:
    """Packs and their events: those of pack ``k`` are rows ``starts[k]`` to ``starts[k + 1]``.

    ``numbers`` (packs,): in the index; ``seqs`` (events,): log numbers, oldest first; ``columns``:
    ``COLUMNS`` of the log at these; ``lines`` (packs,): records ``core.codetable.LINE``; ``own``
    (events,): the event names the pack itself, not what it was in. ``packages`` and ``replaced``
    count codes that were left out: larger packages, whose packs count, and codes that another
    replaced.
    """

    numbers: Int64
    starts: Int64
    seqs: Int64
    columns: dict[str, npt.NDArray[Any]]
    lines: Records
    own: Bools
    packages: int
    replaced: int


def tell_packs(
    engine: Engine, index: Index, numbers: Int64, end: int | None, whole: bool = False
) -> ToldPacks:
    """Return packs as of ``end`` (µs; None: now). ``whole`` leaves no package and no code out.

    Packs of which no event counts, or none by then, are left out (but not by ``whole``).
    """
    lines = index.lines(numbers)
    numbers, lines, borrows, packages, replaced = _chosen(
        engine.shards.packages, numbers, lines, whole
    )
    alone = np.flatnonzero(~borrows)
    starts, seqs = index.events_of(numbers[alone])
    columns = fetch(engine.log, COLUMNS, seqs)
    anew = index.has_void[numbers[alone]]
    if end is not None:
        anew |= _ends_later(columns["time"], starts, end)
    parts: list[Part] = []
    for some, retold in ((~anew, False), (anew, True)):
        which = np.flatnonzero(some)
        if len(which):
            packs = alone[which]
            part = Part(packs, *ranges(starts, which), lines[packs])
            parts.append(retell_alone(engine, part, seqs, columns, end) if retold else part)
    if borrows.any():
        packs = np.flatnonzero(borrows)
        part, more, also = retell_borrowing(engine, index, packs, lines[packs], end)
        parts.append(part._replace(places=part.places + len(seqs)))
        seqs = np.concatenate([seqs, more])
        columns = {name: np.concatenate([columns[name], also[name]]) for name in COLUMNS}
    if anew.any() or borrows.any():
        _, starts, places, lines = joined(parts, len(numbers))
        seqs, columns = seqs[places], {name: columns[name][places] for name in COLUMNS}
    counts = columns["kind"] != _VOID
    if not counts.all():
        starts = np.append(0, np.cumsum(counts))[starts]
        seqs, columns = seqs[counts], {name: columns[name][counts] for name in COLUMNS}
    if not whole:
        stay = np.flatnonzero(np.diff(starts) > 0)
        if len(stay) < len(numbers):
            numbers, lines = numbers[stay], lines[stay]
            starts = np.append(starts[stay], starts[-1:])
    own = columns["code"] == np.repeat(lines["key"], np.diff(starts))
    return ToldPacks(numbers, starts, seqs, columns, lines, own, packages, replaced)


def _chosen(
    table: PackageTable, numbers: Int64, lines: Records, whole: bool
) -> tuple[Int64, Records, Bools, int, int]:
    """Return packs, their lines, which of them borrow, and how many packages and replaced are out."""
    borrows = np.zeros(len(numbers), np.bool_)
    packages = replaced = 0
    if len(table):
        nodes = table.nodes_of(np.ascontiguousarray(lines["key"])).astype(np.int64)
        known = nodes >= 0
        if not whole:
            outer = known & (table.arrays.down[nodes] >= 0)
            gone = known & (table.arrays.replaced[nodes] >= 0) & ~outer
            packages, replaced = int(outer.sum()), int(gone.sum())
            stay = ~(outer | gone)
            numbers, lines, nodes, known = numbers[stay], lines[stay], nodes[stay], known[stay]
            borrows = borrows[stay]
        borrows[known] = table.borrows(nodes[known])
    return numbers, lines, borrows, packages, replaced


def _ends_later(time: Int64, starts: Int64, end: int) -> Bools:
    """Return which packs have an event after ``end``."""
    late = np.zeros(len(time) + 1, np.int64)
    np.cumsum(time > end, out=late[1:])
    found: Bools = late[starts[1:]] > late[starts[:-1]]
    return found
