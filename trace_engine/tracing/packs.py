"""Packs with their events and their state: those of a batch, each told up to a moment.

Most packs are as the code tables have them. A pack of whose case or pallet something is known, one of
which an event was made void, and every pack that is asked for as of an earlier time is told anew
(``docs/semantics.md``, "Aggregation"): with what it borrows, without what was made void, and only up
to that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.packages import PackageTable
from trace_engine.core.past import NEVER_VOID, Past, last_events, spread
from trace_engine.core.records import Records
from trace_engine.core.retelling import Run
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind
from trace_engine.tracing.index import lines_at, places_of

if TYPE_CHECKING:
    from trace_engine.tracing.tracer import Tracer

_VOID = int(EventKind.VOID)

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COLUMNS = ("time", "kind", "source", "target", "actor", "quantity", "bill", "code")


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


def tell_packs(tracer: Tracer, numbers: Int64, end: int | None, whole: bool = False) -> ToldPacks:
    """Return packs as of ``end`` (µs; None: now). ``whole`` leaves no package and no code out.

    Packs of which nothing was known by then are left out.
    """
    engine, index = tracer.engine, tracer.index
    table = engine.shards.packages
    lines = index.lines(numbers)
    keys = np.ascontiguousarray(lines["key"])
    anew = index.has_void[numbers]
    packages = replaced = 0
    if len(table):
        nodes = table.nodes_of(keys)
        known = nodes >= 0
        if not whole:
            outer = known & (table.arrays.down[nodes] >= 0)
            gone = known & (table.arrays.replaced[nodes] >= 0) & ~outer
            packages, replaced = int(outer.sum()), int(gone.sum())
            stay = ~(outer | gone)
            numbers, lines, keys, anew = numbers[stay], lines[stay], keys[stay], anew[stay]
            nodes, known = nodes[stay], known[stay]
        anew[known] |= table.borrows(nodes[known].astype(np.int64))
        anew[known] &= table.arrays.replaced[nodes[known]] < 0
    starts, seqs = index.events_of(numbers)
    if end is not None:
        anew |= _ends_later(engine.log.column("time", seqs), starts, end)
    if anew.any():
        numbers, starts, seqs, lines = _with_anew(tracer, numbers, starts, seqs, lines, anew, end)
    columns = engine.log.columns(COLUMNS, seqs)
    own = columns["code"] == np.repeat(lines["key"], np.diff(starts))
    return ToldPacks(numbers, starts, seqs, columns, lines, own, packages, replaced)


def _ends_later(time: Int64, starts: Int64, end: int) -> Bools:
    """Return which packs have an event after ``end``."""
    late = np.zeros(len(time) + 1, np.int64)
    np.cumsum(time > end, out=late[1:])
    found: Bools = late[starts[1:]] > late[starts[:-1]]
    return found


def _with_anew(
    tracer: Tracer,
    numbers: Int64,
    starts: Int64,
    seqs: Int64,
    lines: Records,
    anew: Bools,
    end: int | None,
) -> tuple[Int64, Int64, Int64, Records]:
    """Put packs told anew in place of those of ``anew``."""
    which, place = spread(starts[:-1], starts[1:])
    kept = ~anew[which]
    packs = [which[kept]]
    events = [seqs[place[kept]]]
    rest = np.flatnonzero(anew)
    told = lines.copy()
    for pack, seq, line in _retold(tracer, rest, lines["key"][rest], end):
        packs.append(pack)
        events.append(seq)
        begun = np.unique(pack)
        told[begun] = line
        told["key"][begun] = lines["key"][begun]
    pack, seq = np.concatenate(packs), np.concatenate(events)
    order = np.argsort(pack, kind="stable")
    count = np.bincount(pack, minlength=len(numbers))
    stay = (count > 0) | ~anew
    begin = np.zeros(int(stay.sum()) + 1, np.int64)
    np.cumsum(count[stay], out=begin[1:])
    return numbers[stay], begin, seq[order], told[stay]


def _retold(
    tracer: Tracer,
    packs: Int64,
    keys: npt.NDArray[np.uint64],
    end: int | None,
) -> Iterator[tuple[Int64, Int64, Records]]:
    """Yield (pack, log number) of events in canonical order, and the lines of these packs."""
    table = tracer.engine.shards.packages
    noted = table.nodes_of(np.ascontiguousarray(keys)) >= 0
    # Codes that the table does not know borrow nothing: a table of their own does not change it.
    for some, packages in ((noted, table), (~noted, PackageTable())):
        if some.any():
            packages.add_nodes(np.ascontiguousarray(keys[some]))
            told = _retold_of(tracer, packages, packs[some], keys[some], end)
            if told is not None:
                yield told


def _retold_of(
    tracer: Tracer,
    table: PackageTable,
    packs: Int64,
    keys: npt.NDArray[np.uint64],
    end: int | None,
) -> tuple[Int64, Int64, Records] | None:
    engine = tracer.engine
    shards = engine.shards
    roots = table.nodes_of(np.ascontiguousarray(keys)).astype(np.int64)
    past = Past(table, engine.log, roots, lambda codes: last_events(shards, codes)[1])
    past.know(engine.voided, {}, [])
    wanted = np.zeros(len(past.keys), np.bool_)
    wanted[: past.roots] = True
    story = past.tell(wanted, 0)
    codes = np.arange(past.roots, dtype=np.int64)
    which, place = spread(past.own_begin[codes], past.own_begin[codes + 1])
    row = past.own[place]
    stands = (past.void[row] == NEVER_VOID) & (past.columns.kind[row] != _VOID)
    rows, tellings = [row[stands]], [which[stands]]
    which, place = spread(story.begin[codes], story.end[codes])
    row = story.row[place]
    borrowed = past.code[row] != which
    rows.append(row[borrowed])
    tellings.append(which[borrowed])
    for k in codes[np.isin(codes, past.replaces_others)].tolist():
        lent = set(story.row[story.begin[k] : story.end[k]].tolist())
        more = sorted(past.inherited(k, story, 0) - lent)
        rows.append(np.array(more, np.int64))
        tellings.append(np.full(len(more), k))
    every, telling = np.concatenate(rows), np.concatenate(tellings)
    if end is not None:
        known = past.columns.time[every] <= end
        every, telling = every[known], telling[known]
    if len(every) == 0:
        return None
    last_day = int(past.columns.time[every].max()) // DAY
    settings = engine.reference.settings(engine.policy, engine.detectors, last_day)
    run = Run(
        past, every, telling, (last_day, *engine.reference.arrays(), settings, engine.run_all)
    )
    run.go()
    order = np.lexsort((run.depth(), run.telling))
    of, seq = run.telling[order], past.seq[run.row[order]]
    shard, line = places_of(run.shards, np.unique(of).astype(np.uint64))
    return packs[of], seq, lines_at(run.shards, shard, line)
