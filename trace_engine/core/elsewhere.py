"""Halves of a movement that seem to be missing, and were told at another level of packing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.packages import LEVELS
from trace_engine.core.past import Past, last_before, spread
from trace_engine.core.signals import Custody, Overdue
from trace_engine.core.stories import Rows, Stories, span_end
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import Role

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.shards import CodeShards
    from trace_engine.events.batch import EventBatch

Bools = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
_DAY = np.int64(DAY)
_SHIP, _RECEIVE = int(Role.SHIP), int(Role.RECEIVE)


def not_told_elsewhere(
    shards: CodeShards,
    batch: EventBatch,
    node_of_row: Int32,
    custody: Custody,
    seq_base: int,
    log: EventLog,
    voided: set[int],
    void_days: dict[int, int],
    group: npt.NDArray[np.int32],
) -> None:
    """Leave of what fell due only that which no other level of packing told."""
    last_of = last_before(shards, custody, seq_base)

    def standing(late: Overdue, shipments: bool) -> Overdue:
        if len(late.seq) == 0:
            return late
        now = late.seq >= seq_base
        code = np.empty(len(late.seq), np.uint64)
        code[now] = batch.code[late.seq[now] - seq_base]
        code[~now] = log.column("code", late.seq[~now])
        table = shards.packages
        nodes = table.nodes_of(code).astype(np.int64)
        asked = np.flatnonzero(nodes >= 0)
        a = table.arrays
        packed = (a.down[nodes[asked]] >= 0) | (a.replaced[nodes[asked]] >= 0)
        asked = asked[packed | (a.up[nodes[asked]] >= 0)] if not shipments else asked[packed]
        if len(asked) == 0:
            return late
        roots = table.descendants(np.unique(nodes[asked]))
        past = Past(table, log, roots, last_of, batch, node_of_row, seq_base)
        days = sorted({day for seq, day in void_days.items() if seq in set(past.seq.tolist())})
        past.know(voided - void_days.keys(), void_days, days)
        number = {int(key): k for k, key in enumerate(past.keys[: past.roots].tolist())}
        at = np.array([number[int(key)] for key in code[asked].tolist()], np.int64)
        row = past.row_of(late.seq[asked])
        view = np.searchsorted(np.array(days, np.int64), late.deadline[asked], side="left")
        wanted = np.zeros(len(past.keys), np.bool_)
        wanted[: past.roots] = True
        told = np.zeros(len(asked), np.bool_)
        for known in np.unique(view).tolist():
            mine = np.flatnonzero(view == known)
            story = past.tell(wanted | past.lends, known)
            told[mine] = _told(
                past.rows,
                past.own,
                past.own_begin,
                story,
                *_links_by_parent(story, len(past.keys)),
                at[mine],
                row[mine],
                late.deadline[asked[mine]],
                shipments,
                group,
                known,
            )
        kept = np.ones(len(late.seq), np.bool_)
        kept[asked[told]] = False
        return Overdue(late.seq[kept], late.deadline[kept], late.owner_on_record[kept])

    custody.overdue_shipments = standing(custody.overdue_shipments, True)
    custody.overdue_receipts = standing(custody.overdue_receipts, False)


def _links_by_parent(story: Stories, codes: int) -> tuple[Any, Any, Any]:
    """Return (link, child, begin): links into code ``k`` at ``begin[k]`` to ``begin[k + 1]``."""
    child, link = spread(story.link_begin, story.link_end)
    parent = story.link_parent[link]
    known = parent >= 0
    child, link, parent = child[known], link[known], parent[known]
    order = np.argsort(parent, kind="stable")
    begin = np.zeros(codes + 1, np.int64)
    np.cumsum(np.bincount(parent, minlength=codes), out=begin[1:])
    return link[order], child[order], begin


@kernel
def _told(
    r: Rows,
    own: Int64,
    own_begin: Int64,
    story: Stories,
    link: Int64,
    child: Int64,
    begin: Int64,
    codes: Int64,
    rows: Int64,
    deadlines: Int64,
    shipments: bool,
    group: npt.NDArray[np.int32],
    view: int,
) -> Bools:
    """Whether the other half of each late hop (code, event, day due) was told at another level."""
    out = np.zeros(codes.shape[0], np.bool_)
    seen = np.full(own_begin.shape[0], np.int64(-1))
    queue = np.empty(own_begin.shape[0], np.int64)
    for n in range(codes.shape[0]):
        event = rows[n]
        party = r.target[event]
        if party < 0:
            continue
        of_group = group[party]
        day = r.time[event] // _DAY
        # What was in it then.
        queue[0] = codes[n]
        seen[codes[n]] = n
        start, stop = np.int64(0), np.int64(1)
        for _ in range(LEVELS):
            end = stop
            for q in range(start, end):
                for at in range(begin[queue[q]], begin[queue[q] + 1]):
                    k = child[at]
                    since, until = story.link_since[link[at]], story.link_until[link[at]]
                    if seen[k] == n or span_end(r, event) < since or r.time[event] > until:
                        continue
                    seen[k] = n
                    queue[stop] = k
                    stop += 1
                    for here in range(own_begin[k], own_begin[k + 1]):
                        i = own[here]
                        other = r.target[i]
                        today = r.time[i] // _DAY
                        if r.void[i] <= view or other < 0 or today >= deadlines[n]:
                            continue
                        if other != party and (of_group < 0 or group[other] != of_group):
                            continue
                        if shipments:
                            out[n] |= r.role[i] == _RECEIVE and today >= day
                        else:
                            out[n] |= r.role[i] == _SHIP
            start = end
        if shipments:
            continue
        # What it was in then.
        for at in range(story.link_begin[codes[n]], story.link_end[codes[n]]):
            since, until = story.link_since[at], story.link_until[at]
            parent = story.link_parent[at]
            if parent < 0 or span_end(r, event) < since or r.time[event] > until:
                continue
            for here in range(story.begin[parent], story.end[parent]):
                i = story.row[here]
                other = r.target[i]
                if r.role[i] != _SHIP or other < 0 or r.time[i] // _DAY >= deadlines[n]:
                    continue
                if other == party or (of_group >= 0 and group[other] == of_group):
                    out[n] = True
    return out
