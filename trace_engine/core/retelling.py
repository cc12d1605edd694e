"""Codes that leave the fast path: their stories are told anew (``docs/semantics.md``).

They are told with what they borrow ("Aggregation") and without what was made void ("VOID").

A *telling* is one code's events, own and borrowed, as known after so many voids. All tellings of a
slice run together through scratch tables, each under a number of its own in place of the code. An
event of the slice takes its results from the telling that knew just what is known when it is judged;
the last telling of a code becomes its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.codetable import Table, find, find_or_add
from trace_engine.core.kernel import kernel
from trace_engine.core.movements import WAITING, Settings
from trace_engine.core.packing import DEATH, Columns, Reference
from trace_engine.core.past import NEVER_VOID, Past, shard_of, spread
from trace_engine.core.records import Records
from trace_engine.core.shards import SPREAD, CodeShards, Runner
from trace_engine.core.signals import Custody, Overdue
from trace_engine.core.stories import Stories
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.events.batch import EventBatch

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
_VOID, _REPLACEMENT = int(EventKind.VOID), int(EventKind.CODE_REPLACEMENT)

Arguments = tuple[int, Reference, Records, Settings, Runner]
"""Last day, reference data, parties, settings and runner: what a step needs beside events."""


class Run:
    """Some tellings that went through scratch tables together; places are those of its events."""

    def __init__(self, past: Past, row: Int64, telling: Int64, arguments: Arguments) -> None:
        last_day, reference, parties, settings, run = arguments
        order = np.argsort(row, kind="stable")
        self.row, self.telling = row[order], telling[order]
        taken = {name: column[self.row] for name, column in past.columns._asdict().items()}
        taken["code"] = self.telling.astype(np.uint64)
        self.code = past.code[self.row]
        self.kind = taken["kind"]
        self.columns = taken
        self.shards = CodeShards()
        self.arguments = (last_day, reference, parties, settings, run)

    def go(self) -> Custody:
        """Take the events through custody."""
        columns = Columns(**self.columns)
        self.custody = self.shards.step_columns(columns, 0, *self.arguments)
        return self.custody

    def depth(self) -> Int64:
        """Return how many events of its telling come before each event."""
        previous = self.custody.previous
        depth = np.zeros(len(previous), np.int64)
        follows = np.full(len(previous), -1, np.int64)
        later = np.flatnonzero(previous >= 0)
        follows[previous[later]] = later
        frontier = follows[np.flatnonzero(previous < 0)]
        steps = 1
        while len(frontier := frontier[frontier >= 0]):
            depth[frontier] = steps
            frontier = follows[frontier]
            steps += 1
        return depth


class Voids:
    """What the voids of a slice cancel, found in the stories as their own codes tell them."""

    def __init__(
        self, past: Past, batch: EventBatch, voided: set[int], arguments: Arguments
    ) -> None:
        self.past = past
        # For each event: the number of the void (among its code's) that cancels it, -1 before.
        self.number = np.full(len(past.seq), NEVER_VOID, np.int64)
        if voided:
            self.number[np.isin(past.seq, np.fromiter(voided, np.int64, len(voided)))] = -1
        self.before: dict[int, int] = {}  # row -> voids of its code up to and with it
        self.void_days: dict[int, int] = {}  # log number of what is void -> day
        self.days_of: dict[int, list[int]] = {}  # code -> days of its voids, in their order
        self.unmatched: list[int] = []  # rows
        voids = np.flatnonzero(past.in_slice & (past.columns.kind == _VOID))
        self.codes = np.unique(past.code[voids])
        if len(voids) == 0:
            return
        which, place = spread(past.own_begin[self.codes], past.own_begin[self.codes + 1])
        rows = past.own[place]
        there = self.number[rows] >= 0
        run = Run(past, rows[there], which[there], arguments)
        run.go()
        names = {row: int(batch.voids[past.seq[row] - past.seq_base]) for row in voids.tolist()}
        order = np.lexsort((run.depth(), run.telling))
        chains = np.split(run.row[order], np.flatnonzero(np.diff(run.telling[order])) + 1)
        for chain in chains:
            self._find(chain.tolist(), names)

    def _find(self, chain: list[int], names: dict[int, int]) -> None:
        past = self.past
        seen: dict[int, int] = {}
        days: list[int] = []
        self.days_of[int(past.code[chain[0]])] = days
        for row in chain:
            if row in names:
                target = seen.get(names[row], -1)
                if target < 0 or self.number[target] != NEVER_VOID:
                    self.unmatched.append(row)
                else:
                    day = int(past.columns.time[row]) // DAY
                    self.number[target] = len(days)
                    self.void_days[int(past.seq[target])] = day
                    days.append(day)
            elif past.columns.kind[row] != _VOID:
                seen[int(past.columns.event_key[row])] = row
            self.before[row] = len(days)

    @property
    def changes(self) -> list[int]:
        """Days on which something became void."""
        return sorted(set(self.void_days.values()))


class Tellings:
    """Which tellings the roots of a past need, and the run of all of them."""

    def __init__(self, past: Past, voids: Voids, arguments: Arguments) -> None:
        self.past, self.voids = past, voids
        self.changes = voids.changes
        views = len(self.changes)
        self.views = views
        self.code: list[int] = list(range(past.roots))
        self.view = [views] * past.roots
        self.count = [0] * past.roots
        for k, days in voids.days_of.items():
            self.count[k] = len(days)
        self.stages: dict[int, list[int]] = {}  # affected root -> its views before the last
        self.number_of: dict[tuple[int, int, int], int] = {}
        if views:
            self._affected()
        self.run = self._assemble(arguments)
        self.custody = self.run.go()

    # ---- which

    def _affected(self) -> None:
        """Find roots that tell different stories during the slice, and note their tellings."""
        past, views = self.past, self.views
        knows = np.zeros((len(past.keys), views), np.bool_)
        changed = np.flatnonzero((past.void > 0) & (past.void != NEVER_VOID))
        knows[past.code[changed], past.void[changed] - 1] = True
        inner, outer = past.code[past.stating], past.rows.parent[past.stating]
        replacing = past.columns.kind[past.stating] == _REPLACEMENT
        before = -1
        while before != (before := int(knows.sum())):
            np.logical_or.at(knows, inner, knows[outer])
            np.logical_or.at(knows, outer[replacing], knows[inner[replacing]])
        for k in np.flatnonzero(knows[: past.roots].any(axis=1)).tolist():
            self.stages[k] = np.flatnonzero(knows[k]).tolist()
            self.number_of[k, self.view[k], self.count[k]] = k
            days = self.voids.days_of.get(k, [])
            for view in self.stages[k]:
                known = sum(day < self.changes[view] for day in days)
                self._number(k, view, known)

    def _number(self, k: int, view: int, count: int) -> int:
        """Return the number of a telling, which is a new one if it was not asked for yet."""
        found = self.number_of.get((k, view, count))
        if found is None:
            found = len(self.code)
            self.code.append(k)
            self.view.append(view)
            self.count.append(count)
            self.number_of[k, view, count] = found
        return found

    def _view_for(self, k: int, day: int) -> int:
        """Return the view of an affected root that equals what is known on ``day``."""
        known = sum(change <= day for change in self.changes)
        return next((view for view in self.stages[k] if view >= known), self.views)

    def known_on(self, k: int, day: int) -> int:
        """Return the telling of root ``k`` as known on ``day``."""
        if k not in self.stages:
            return k
        view = self._view_for(k, day)
        days = self.voids.days_of.get(k, [])
        bound = self.changes[view] if view < self.views else None
        count = sum(bound is None or when < bound for when in days)
        return self.number_of[k, view, count]

    def _of_events(self, rows: Int64) -> Int64:
        """Return the telling each own event of the slice takes its results from."""
        past = self.past
        telling = past.code[rows].astype(np.int64)
        affected = np.isin(telling, np.fromiter(self.stages, np.int64, len(self.stages)))
        for at in np.flatnonzero(affected).tolist():
            row, k = int(rows[at]), int(telling[at])
            count = self.voids.before.get(row, 0)
            telling[at] = self._number(k, self._view_for(k, int(past.days(rows[at]))), count)
        return telling

    # ---- the run

    def _assemble(self, arguments: Arguments) -> Run:
        past = self.past
        self.mine = np.flatnonzero(past.in_slice & (past.code < past.roots))
        self.telling_of = self._of_events(self.mine)
        code, view = np.array(self.code, np.int64), np.array(self.view, np.int64)
        count = np.array(self.count, np.int64)
        which, place = spread(past.own_begin[code], past.own_begin[code + 1])
        row = past.own[place]
        there = self.voids.number[row] >= count[which]
        rows, tellings = [row[there]], [which[there]]
        for known in np.unique(view).tolist():
            asking = np.flatnonzero(view == known)
            wanted = np.zeros(len(past.keys), np.bool_)
            wanted[code[asking]] = True
            story = past.tell(wanted, known)
            which, place = spread(story.begin[code[asking]], story.end[code[asking]])
            row = story.row[place]
            borrowed = past.code[row] != code[asking][which]
            rows.append(row[borrowed])
            tellings.append(asking[which[borrowed]])
            for telling in asking[np.isin(code[asking], past.replaces_others)].tolist():
                k = int(code[telling])
                lent = set(story.row[story.begin[k] : story.end[k]].tolist())
                more = sorted(past.inherited(k, story, known) - lent)
                rows.append(np.array(more, np.int64))
                tellings.append(np.full(len(more), telling))
            which, place = spread(
                past.heirs_begin[code[asking]], past.heirs_begin[code[asking] + 1]
            )
            row = past.heirs[place]
            alive = past.void[row] > known
            rows.append(row[alive])
            tellings.append(asking[which[alive]])
            if known == self.views:
                self.story: Stories = story
        self.telling_code = code
        run = Run(past, np.concatenate(rows), np.concatenate(tellings), arguments)
        self.own = run.code == code[run.telling]
        died = ~self.own & (run.kind == _REPLACEMENT)
        run.columns["kind"] = np.where(died, DEATH, run.kind).astype(np.int8)
        return run

    # ---- results

    def write(self, custody: Custody) -> None:
        """Write what the tellings say of the slice's own events into ``custody`` of the slice."""
        past, run, got = self.past, self.run, self.custody
        telling_of_row = np.full(len(past.seq), -1, np.int64)
        telling_of_row[self.mine] = self.telling_of
        places = np.flatnonzero(self.own & (telling_of_row[run.row] == run.telling))
        rows = past.seq[run.row[places]] - past.seq_base
        for name in SPREAD:
            if name != "previous":
                getattr(custody, name)[rows] = getattr(got, name)[places]
        position = got.position[places]
        custody.position[rows] = np.where(position < 0, -1, len(custody.results) + position)
        custody.replayed = got.events, got.results
        # Voided events stay on the path.
        code = run.code[places]
        told = np.zeros(len(places), np.int64)
        for at in np.flatnonzero(np.isin(run.row[places], list(self.voids.before))).tolist():
            told[at] = self.voids.before[int(run.row[places[at]])]
        order = np.lexsort((run.depth()[places], told, past.days(run.row[places]), code))
        code, rows = code[order], rows[order]
        first = np.ones(len(code), np.bool_)
        first[1:] = code[1:] != code[:-1]
        before = past.last_seq[code]
        before[~first] = past.seq_base + rows[:-1][~first[1:]]
        custody.previous[rows] = before
        self.last_seq = past.last_seq[: past.roots].copy()
        last = np.ones(len(code), np.bool_)
        last[:-1] = first[1:]
        self.last_seq[code[last]] = past.seq_base + rows[last]
        unmatched = past.seq[self.voids.unmatched] - past.seq_base
        custody.signal[unmatched] |= np.uint32(sig.VOID_UNMATCHED)

    def late(self, ours: Overdue, theirs: Overdue, since: int, waited: Int64) -> Overdue:
        """Return ``ours`` and what fell due after day ``since``, as known the day before it.

        Hops that ``waited`` (log numbers) until now fall due whatever the day: in a merge an engine
        may have seen fewer days.
        """
        run = self.run
        place = theirs.seq
        open_yet = (theirs.deadline > since) | np.isin(self.past.seq[run.row[place]], waited)
        mine = self.own[place] & open_yet
        telling = run.telling[place]
        for at in np.flatnonzero(mine).tolist() if self.stages else ():
            k = int(self.telling_code[telling[at]])
            mine[at] = self.known_on(k, int(theirs.deadline[at]) - 1) == telling[at]
        return Overdue(
            np.concatenate([ours.seq, self.past.seq[run.row[place[mine]]]]),
            np.concatenate([ours.deadline, theirs.deadline[mine]]),
            np.concatenate([ours.owner_on_record, theirs.owner_on_record[mine]]),
        )

    def adopt(self, shards: CodeShards) -> None:
        """Put the last telling of each root, and its own waiting hops, in place of its line."""
        past, run = self.past, self.run
        count = past.roots
        final = np.arange(count, dtype=np.uint64)
        keys = past.keys[:count]
        theirs_of, ours_of = shard_of(final), shard_of(keys)
        row_in_ours = np.full(count, -1, np.int64)
        for k, ours in enumerate(shards.shards):
            nodes = sum(int(shard.table.used[1]) for shard in run.shards.shards)
            ours.table.reserve(int(np.count_nonzero(ours_of == k)) + nodes)
        for j, theirs in enumerate(run.shards.shards):
            theirs.table.reserve(count)
            for k, ours in enumerate(shards.shards):
                mine = np.flatnonzero((theirs_of == j) & (ours_of == k))
                if len(mine):
                    rows = np.empty(len(mine), np.int64)
                    _adopt_lines(
                        theirs.table.view(), ours.table.view(), final[mine], keys[mine], rows
                    )
                    row_in_ours[mine] = rows
        for k, ours in enumerate(shards.shards):
            mine = np.flatnonzero(ours_of == k)
            ours.table.lines["last_seq"][row_in_ours[mine]] = self.last_seq[mine].astype(np.uint32)
        for name in ("shipments", "receipts"):
            self._take_waiting(shards, name, ours_of, row_in_ours)

    def _take_waiting(
        self, shards: CodeShards, name: str, ours_of: npt.NDArray[np.uint8], row_in_ours: Int64
    ) -> None:
        found = []
        for theirs in self.run.shards.shards:
            entries = getattr(theirs, name).waiting().copy()
            telling = theirs.table.lines["key"][entries["row"]].astype(np.int64)
            place = entries["seq"].astype(np.int64)
            mine = (telling < self.past.roots) & self.own[place]
            entries, telling, place = entries[mine], telling[mine], place[mine]
            entries["row"] = row_in_ours[telling]
            entries["seq"] = self.past.seq[self.run.row[place]].astype(np.uint32)
            found.append((ours_of[telling], entries))
        shard = np.concatenate([of for of, _ in found])
        joined = np.concatenate([entries for _, entries in found])
        for k, ours in enumerate(shards.shards):
            mine = joined[shard == k]
            if len(mine):
                queue = getattr(ours, name)
                queue.replace(np.concatenate([queue.waiting(), mine]).astype(WAITING))


@kernel
def _adopt_lines(
    theirs: Table,
    ours: Table,
    their_keys: npt.NDArray[np.uint64],
    our_keys: npt.NDArray[np.uint64],
    rows: Int64,
) -> None:
    """Copy lines from one table to another under new keys, with their deeper owners."""
    for i in range(our_keys.shape[0]):
        their_row = find(theirs, their_keys[i])
        if their_row < 0:  # all its events were made void: a line like a new one
            their_row = find_or_add(theirs, their_keys[i])
        row = find_or_add(ours, our_keys[i])
        rows[i] = row
        ours.lines[row] = theirs.lines[their_row]
        line = ours.lines[row]
        line.key = our_keys[i]
        tail = line.tail
        below = np.int64(-1)
        while tail < -1:
            node = -np.int64(tail) - 2
            copy = ours.used[1]
            ours.used[1] = copy + 1
            ours.nodes[copy, 0] = theirs.nodes[node, 0]
            ours.nodes[copy, 1] = -1
            if below < 0:
                line.tail = np.int32(-(copy + 2))
            else:
                ours.nodes[below, 1] = np.int32(-(copy + 2))
            below = copy
            tail = theirs.nodes[node, 1]


def withdraw(shards: CodeShards, keys: npt.NDArray[np.uint64], lines: Int64) -> tuple[Int64, Int64]:
    """Take the waiting hops of codes (their lines, -1 none) off the queues.

    Returns the log numbers of those that awaited their receipt, and their shipment.
    """
    of_shard = shard_of(keys)
    taken: dict[str, list[Int64]] = {"shipments": [], "receipts": []}
    for k, shard in enumerate(shards.shards):
        mine = lines[(of_shard == k) & (lines >= 0)]
        gone = np.zeros(len(shard.table), np.bool_)
        gone[mine] = True
        for name, seqs in taken.items():
            queue = getattr(shard, name)
            waiting = queue.waiting()
            leaving = gone[waiting["row"]]
            seqs.append(waiting["seq"][leaving].astype(np.int64))
            if leaving.any():
                queue.replace(waiting[~leaving])
    return np.concatenate(taken["shipments"]), np.concatenate(taken["receipts"])
