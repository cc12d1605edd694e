"""Packs told anew: without what was made void, with what they borrow, or only up to a moment.

Each pack's events go through custody again in scratch tables, under a number of its own in place of
its code, as ``core.retelling`` does for the packs of a slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import LINE
from trace_engine.core.kernel import kernel
from trace_engine.core.packing import DEATH, Columns
from trace_engine.core.past import Past, spread
from trace_engine.core.records import Records
from trace_engine.core.shards import CodeShards
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind
from trace_engine.tracing.index import chains, fetch, ranges

if TYPE_CHECKING:
    from trace_engine.engine import Engine
    from trace_engine.tracing.packs import Index

_VOID, _REPLACEMENT = int(EventKind.VOID), int(EventKind.CODE_REPLACEMENT)
_END = int(EventKind.DESTRUCTION)

COLUMNS = ("time", "kind", "source", "target", "actor", "quantity", "bill", "code")
_REST = tuple(name for name in Columns._fields if name not in COLUMNS)

Int64 = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


class Part(NamedTuple):
    """Some packs and the places of their events in arrays that several parts share.

    Those of the ``k``-th are ``places[starts[k]:starts[k + 1]]``, oldest first. ``packs`` (packs,):
    which of the packs asked for; ``lines`` (packs,): records ``core.codetable.LINE``.
    """

    packs: Int64
    starts: Int64
    places: Int64
    lines: Records


class Told(NamedTuple):
    """Packs' events in canonical order (rows of what was told, voids left out) and their lines."""

    starts: Int64
    rows: Int64
    lines: Records


@kernel
def _by_time(starts: Int64, time: Int64) -> Int64:
    """Return the rows pack by pack, those of a pack by time (they nearly stand so)."""
    rows = np.arange(len(time))
    for k in range(len(starts) - 1):
        for i in range(starts[k] + 1, starts[k + 1]):
            row, at = rows[i], i
            while at > starts[k] and time[rows[at - 1]] > time[row]:
                rows[at] = rows[at - 1]
                at -= 1
            rows[at] = row
    return rows


def _through_custody(engine: Engine, pack: Int64, columns: Arrays, lines: Records) -> Told:
    """Take events through custody: ``pack`` (events,) ascending, those of a pack by time.

    Packs without events keep their line of ``lines`` (packs,).
    """
    last_day = int(columns["time"].max(initial=0)) // DAY
    shards = CodeShards()
    # Packs do not heed one another, and deadlines, for which days must ascend, are not asked for.
    custody = shards.step_columns(
        Columns(**columns, code=pack.astype(np.uint64)),
        0,
        last_day,
        *engine.reference.arrays(),
        engine.reference.settings(engine.policy, engine.detectors, last_day),
        engine.run_all,
    )
    whole = f"V{LINE.itemsize}"  # copied as one piece: field by field takes ten times as long
    found = lines.copy()
    last = np.full(len(lines), -1, np.int64)
    for shard in shards.shards:
        some = shard.table.lines[: len(shard.table)]
        number = some["key"].astype(np.int64)
        found.view(whole)[number] = some.view(whole)
        last[number] = some["last_seq"]
    found["key"] = lines["key"]
    starts, rows, _ = chains(last, custody.previous, columns["kind"] == _VOID)
    return Told(starts, rows.astype(np.int64), found)


def retell_alone(
    engine: Engine, packs: Part, seqs: Int64, columns: Arrays, end: int | None
) -> Part:
    """Return packs as told by their own events up to ``end`` (µs; None: all).

    ``seqs`` and ``columns`` (names :data:`COLUMNS`) are what the places of ``packs`` stand for; events
    made void must not be among them, those that make void may.
    """
    places = packs.places
    pack = np.repeat(np.arange(len(packs.packs)), np.diff(packs.starts))
    if end is not None:
        known = columns["time"][places] <= end
        places, pack = places[known], pack[known]
    starts = np.searchsorted(pack, np.arange(len(packs.packs) + 1))
    places = places[_by_time(starts, columns["time"][places])]
    taken = {name: columns[name][places] for name in Columns._fields if name in COLUMNS}
    del taken["code"]
    told = _through_custody(
        engine, pack, taken | fetch(engine.log, _REST, seqs[places]), packs.lines
    )
    return Part(packs.packs, told.starts, places[told.rows], told.lines)


def retell_borrowing(
    engine: Engine, index: Index, packs: Int64, lines: Records, end: int | None
) -> tuple[Part, Int64, Arrays]:
    """Return packs as told by their own events and those of what they were in, up to ``end``.

    With them the log numbers and columns that the places stand for. What replaced a code ends it: its
    ``kind`` there is that of a destruction.
    """
    table = engine.shards.packages
    roots = table.nodes_of(np.ascontiguousarray(lines["key"])).astype(np.int64)
    past = Past(table, index, roots, index.last_of)
    past.know(engine.voided, {}, [])
    pack, row = _stories(past)
    if end is not None:
        known = past.columns.time[row] <= end
        pack, row = pack[known], row[known]
    columns: Arrays = {name: c[row] for name, c in past.columns._asdict().items()}
    died = (columns["kind"] == _REPLACEMENT) & (past.code[row] != pack)
    columns["kind"] = np.where(died, DEATH, columns["kind"]).astype(np.int8)
    code = columns.pop("code")
    told = _through_custody(engine, pack, columns, lines)
    seqs = past.seq[row[told.rows]]
    columns |= {"kind": np.where(died, _END, columns["kind"]).astype(np.int8), "code": code}
    chosen = {name: columns[name][told.rows] for name in COLUMNS if name != "actor"}
    chosen |= fetch(engine.log, ["actor"], seqs)
    return Part(packs, told.starts, np.arange(len(seqs)), told.lines), seqs, chosen


def _stories(past: Past) -> tuple[Int64, Int64]:
    """Return (root, row) of all that the roots went through, root by root and by time."""
    wanted = np.zeros(len(past.keys), np.bool_)
    wanted[: past.roots] = True
    story = past.tell(wanted, 0)
    codes = np.arange(past.roots, dtype=np.int64)
    # Own events: those that make others void keep their place in the order.
    which, place = spread(past.own_begin[codes], past.own_begin[codes + 1])
    row = past.own[place]
    stands = past.void[row] > 0
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
    which, place = spread(past.heirs_begin[codes], past.heirs_begin[codes + 1])
    row = past.heirs[place]
    alive = past.void[row] > 0
    rows.append(row[alive])
    tellings.append(which[alive])
    # Rows are numbered by time, so one sort does it.
    joined = (np.concatenate(tellings) << 32) | np.concatenate(rows)
    joined.sort()
    return joined >> 32, joined & 0xFFFFFFFF


def joined(parts: list[Part], count: int) -> Part:
    """Return the parts of ``count`` packs as one, ordered by pack."""
    if len(parts) == 1:
        return parts[0]
    events = np.zeros(count, np.int64)
    lines = np.empty(count, f"V{LINE.itemsize}")
    for part in parts:
        events[part.packs] = np.diff(part.starts)
        lines[part.packs] = part.lines.view(lines.dtype)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(events, out=starts[1:])
    places = np.empty(starts[-1], np.int64)
    for part in parts:
        places[ranges(starts, part.packs)[1]] = part.places
    return Part(np.arange(count), starts, places, lines.view(LINE))
