"""Where what is said of packing contradicts itself (``docs/semantics.md``, "Aggregation")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.overfull import Overfull, find_overfull
from trace_engine.core.past import Past, last_before
from trace_engine.core.stories import MOVES, STATES, Stories, statements
from trace_engine.events.batch import DAY, QUANTITY_STATED
from trace_engine.events.kinds import EventKind, Role

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.packagetable import PackageTable
    from trace_engine.core.shards import CodeShards
    from trace_engine.core.signals import Custody
    from trace_engine.events.batch import EventBatch

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

TWO_PARENTS, ELSEWHERE, ONE_BILL, OVERFULL = 0, 1, 2, 3

_PACK = int(EventKind.PACK)


@dataclass(slots=True)
class Conflicts:
    """Events of a slice that contradict what is known of packing, all of shape ``(m,)``."""

    rows: Int64  # of the slice
    why: npt.NDArray[np.int8]  # TWO_PARENTS, ELSEWHERE, ONE_BILL, OVERFULL
    parent: npt.NDArray[np.uint64]  # the code that the event's code is in, or is packed into
    party: Int32  # who packed it there, or who has the parent; -1 unknown
    inside: Int64  # OVERFULL: packs in the parent when the day ended; else 1
    limit: Int64  # OVERFULL: packs that a case of the product holds; else 0


def find_conflicts(
    shards: CodeShards,
    batch: EventBatch,
    node_of_row: Int32,
    custody: Custody,
    seq_base: int,
    log: EventLog,
    voided: set[int],
    void_days: dict[int, int],
    group: Int32,
    packs_in_case: Int32,
) -> Conflicts | None:
    """Return the conflicts of a slice that custody has judged; None where there are none.

    ``group`` is the group of each party, ``packs_in_case`` what a case of each drug holds (-1: not
    known). An event that contradicts in two ways is told once, for the graver one.
    """
    table = shards.packages
    a = table.arrays
    child = node_of_row >= 0
    child[child] = a.up[node_of_row[child]] >= 0
    if not child.any():
        return None
    last_of = last_before(shards, custody, seq_base)
    found = _contradictions(
        table, batch, node_of_row, child, custody, seq_base, last_of, log, voided, void_days, group
    )
    overfull = find_overfull(
        table, batch, node_of_row, seq_base, last_of, log, voided, void_days, packs_in_case
    )
    return found if overfull is None else _joined(found, overfull)


def _joined(found: Conflicts | None, overfull: Overfull) -> Conflicts:
    """Return conflicts of both sorts, those of ``found`` first."""
    told = np.empty(0, np.int64) if found is None else found.rows
    new = ~np.isin(overfull.rows, told)
    count = int(np.count_nonzero(new))
    late = Conflicts(
        overfull.rows[new],
        np.full(count, OVERFULL, np.int8),
        overfull.parent[new],
        np.full(count, -1, np.int32),
        overfull.inside[new],
        overfull.limit[new],
    )
    if found is None:
        return late
    return Conflicts(
        *(
            np.concatenate([getattr(part, field.name) for part in (found, late)])
            for field in fields(Conflicts)
        )
    )


def _contradictions(
    table: PackageTable,
    batch: EventBatch,
    node_of_row: Int32,
    child: npt.NDArray[np.bool_],
    custody: Custody,
    seq_base: int,
    last_of: Callable[[npt.NDArray[np.uint64]], Int64],
    log: EventLog,
    voided: set[int],
    void_days: dict[int, int],
    group: Int32,
) -> Conflicts | None:
    """Return the events that contradict where custody has found their codes, packages aside."""
    parent = batch.optional.get("parent")
    repacked = child & (batch.kind == _PACK)
    repacked[repacked] = table.several_parents(node_of_row[repacked].astype(np.int64))
    elsewhere = child & ((custody.signal & np.uint32(sig.NO_SOURCE)) != 0)
    one_bill = _bills_of_parents(table, batch, node_of_row, child)
    if parent is not None:
        one_bill &= ~statements(batch.kind, batch.code, parent)[0]
    asked = np.flatnonzero(repacked | elsewhere | one_bill)
    if len(asked) == 0:
        return None
    roots = np.unique(node_of_row[asked]).astype(np.int64)
    past = Past(table, log, roots, last_of, batch, node_of_row, seq_base)
    here = set(past.seq.tolist())
    days = sorted({day for seq, day in void_days.items() if seq in here})
    past.know(voided - void_days.keys(), void_days, days)
    row_of = past.row_of(seq_base + asked)
    view = np.searchsorted(np.array(days, np.int64), past.days(row_of), side="right")
    finder = _Finder(table, past, batch, log, group)
    found: list[tuple[int, int, int, int]] = []
    for known in np.unique(view).tolist():
        story = past.tell(np.ones(len(past.keys), np.bool_), known)
        for at in np.flatnonzero(view == known).tolist():
            event, row = int(asked[at]), int(row_of[at])
            held = finder.held_in(row, story)
            if held is None:
                continue
            link, outer = held
            if repacked[event]:
                party = finder.packed_twice(row, link, outer, story)
                if party is not None:
                    found.append((event, TWO_PARENTS, outer, party))
            elif elsewhere[event] and (party := finder.moved_to(row, outer, story)) is not None:
                found.append((event, ELSEWHERE, outer, party))
            elif one_bill[event] and finder.listed(row, outer, known):
                found.append((event, ONE_BILL, outer, int(batch.target[event])))
    columns = np.array(found, np.int64).reshape(-1, 4)
    return Conflicts(
        columns[:, 0],
        columns[:, 1].astype(np.int8),
        past.keys[columns[:, 2]],
        columns[:, 3].astype(np.int32),
        np.ones(len(columns), np.int64),
        np.zeros(len(columns), np.int64),
    )


def _bills_of_parents(
    table: PackageTable, batch: EventBatch, node_of_row: Int32, child: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which rows of children stand in a bill in which some code stands that holds others."""
    holds = node_of_row >= 0
    holds[holds] = table.arrays.down[node_of_row[holds]] >= 0
    bills = np.unique(batch.bill[holds])
    listed: npt.NDArray[np.bool_] = child & (batch.bill != 0)
    listed[listed] = np.isin(batch.bill[listed], bills)
    return listed


class _Finder:
    """Questions about single events, for the few that may be conflicts."""

    def __init__(
        self, table: PackageTable, past: Past, batch: EventBatch, log: EventLog, group: Int32
    ) -> None:
        self.table, self.past, self.batch = table, past, batch
        self.log, self.group = log, group

    def _related(self, a: int, b: int) -> bool:
        if a < 0 or b < 0:
            return False
        return a == b or bool(self.group[a] >= 0 and self.group[a] == self.group[b])

    def _actor(self, row: int) -> int:
        seq = int(self.past.seq[row])
        if seq >= self.past.seq_base:
            return int(self.batch.actor[seq - self.past.seq_base])
        return int(self.log.column("actor", np.array([seq]))[0])

    def held_in(self, row: int, story: Stories) -> tuple[int, int] | None:
        """Return the link (and the parent) an event found its code in, the latest of several."""
        past = self.past
        k, time = int(past.code[row]), int(past.columns.time[row])
        for link in range(int(story.link_end[k]) - 1, int(story.link_begin[k]) - 1, -1):
            meets = story.link_since[link] <= time <= story.link_until[link]
            if meets and story.link_opener[link] != row and story.link_parent[link] >= 0:
                return link, int(story.link_parent[link])
        return None

    def packed_twice(self, row: int, link: int, outer: int, story: Stories) -> int | None:
        """Return who packed it before, if somebody else packs it now who never had the parent."""
        past = self.past
        if past.rows.parent[row] == outer or not past.rows.flags[row] & STATES:
            return None
        packer, before = self._actor(row), self._actor(int(story.link_opener[link]))
        if self._related(packer, before):
            return None
        for other in story.row[story.begin[outer] : story.end[outer]].tolist():
            if past.columns.time[other] // DAY > past.columns.time[row] // DAY:
                break
            target, source = int(past.columns.target[other]), int(past.columns.source[other])
            if self._related(packer, target) or self._related(packer, source):
                return None
        return before

    def moved_to(self, row: int, outer: int, story: Stories) -> int | None:
        """Return to whom the parent last moved by that day; None if it never did."""
        past = self.past
        moved = None
        for other in story.row[story.begin[outer] : story.end[outer]].tolist():
            if past.columns.time[other] // DAY > past.columns.time[row] // DAY:
                break
            if past.rows.flags[other] & MOVES and past.columns.target[other] >= 0:
                moved = int(past.columns.target[other])
        return moved

    def listed(self, row: int, outer: int, view: int) -> bool:
        """Return whether the parent stands in the same bill that day, and as a whole."""
        past, c = self.past, self.past.columns
        own = past.own[past.own_begin[outer] : past.own_begin[outer + 1]]
        beside = own[
            (c.bill[own] == c.bill[row])
            & (past.days(own) == c.time[row] // DAY)
            & (past.rows.role[own] == past.rows.role[row])
            & (past.void[own] > view)
        ]
        if len(beside) == 0 or past.rows.role[row] in (Role.NONE, Role.VOID):
            return False
        # A case that stands for fewer packs than it holds was opened: the others are listed apart.
        stated = beside[(c.flags[beside] & QUANTITY_STATED) != 0]
        packed = self.table.packed_count(past.keys[outer], int(c.time[row]) // DAY)
        return not bool((c.quantity[stated] < packed).any())
