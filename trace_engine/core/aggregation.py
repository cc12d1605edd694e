"""The step that takes a slice through custody: fast for most codes, told anew for some.

A code is told anew where a void names one of its events, where something it was in has moved (so that
its line is behind), or where it was replaced. All others never hear of it. See
``docs/semantics.md`` ("VOID", "Aggregation") and ``docs/decisions/0006-lazy-aggregation.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.attributes import learn
from trace_engine.core.conflicts import find_conflicts
from trace_engine.core.elsewhere import not_told_elsewhere
from trace_engine.core.movements import Settings
from trace_engine.core.packages import PACKED, REPLACED, STATED
from trace_engine.core.packing import Reference
from trace_engine.core.past import Past, last_events
from trace_engine.core.records import Records
from trace_engine.core.retelling import Arguments, Tellings, Voids, withdraw
from trace_engine.core.returning import recall
from trace_engine.core.shards import DAY_2000, CodeShards, Runner
from trace_engine.core.signals import Custody
from trace_engine.core.stories import ACTING, statements
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.events.batch import EventBatch

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
_NOBODY = np.empty(0, np.int64)
_VOID, _PACK = int(EventKind.VOID), int(EventKind.PACK)


def step(
    shards: CodeShards,
    batch: EventBatch,
    seq_base: int,
    last_day: int,
    reference: Reference,
    parties: Records,
    settings: Settings,
    run: Runner,
    log: EventLog,
    voided: set[int],
    clock_day: int | None = None,
) -> Custody:
    """Take a slice through custody; ``voided`` (log numbers) is added to. See ``CodeShards.step``.

    ``clock_day`` is the last day judged before: deadlines up to it have been reported.
    """
    arguments = (last_day, reference, parties, settings, run)
    table = shards.packages
    _note_pairs(shards, batch, seq_base)
    is_void = batch.kind == _VOID
    any_void = bool(is_void.any())
    if not any_void and len(table) == 0:
        custody = shards.step(batch, seq_base, *arguments)
        learn(shards, batch, custody, run, _NOBODY)
        return custody
    if any_void:
        table.add_nodes(np.unique(batch.code[is_void]))
    node_of_row = table.nodes_of(batch.code)
    acts = ACTING[batch.kind]
    table.note_moves(node_of_row, acts)
    roots = _to_be_told(shards, node_of_row, acts, is_void, last_day, settings)
    if len(roots) == 0:
        custody = shards.step(batch, seq_base, *arguments)
        void_days: dict[int, int] = {}
        told = _NOBODY
    else:
        custody, void_days, told = _told_anew(
            shards, batch, node_of_row, roots, seq_base, arguments, log, voided, clock_day
        )
    learn(shards, batch, custody, run, told)
    if len(table):
        _know_sources(shards, batch, node_of_row, custody)
        not_told_elsewhere(
            shards, batch, node_of_row, custody, seq_base, log, voided, void_days, parties["group"]
        )
        custody.conflicts = find_conflicts(
            shards,
            batch,
            node_of_row,
            custody,
            seq_base,
            log,
            voided,
            void_days,
            parties["group"],
            reference.packs_in_case,
        )
    return custody


def _note_pairs(shards: CodeShards, batch: EventBatch, seq_base: int) -> None:
    """Enter which code is in which, as the events of the slice say."""
    parent = batch.optional.get("parent")
    if parent is None:
        return
    states, replaces = statements(batch.kind, batch.code, parent)
    rows = np.flatnonzero(states | replaces)
    if len(rows) == 0:
        return
    says = np.where(batch.kind[rows] == _PACK, PACKED, STATED).astype(np.uint8)
    says[replaces[rows]] = REPLACED
    table = shards.packages
    new = table.add(batch.code[rows], parent[rows], seq_base + rows, batch.time[rows] // DAY, says)
    _, last = last_events(shards, table.arrays.key[new])
    table.mark_moving(new[last >= 0])


def _to_be_told(
    shards: CodeShards,
    node_of_row: Int32,
    acts: npt.NDArray[np.bool_],
    is_void: npt.NDArray[np.bool_],
    last_day: int,
    settings: Settings,
) -> Int64:
    """Return the nodes whose stories must be told: with events now, or with a hop that falls due."""
    table = shards.packages
    asked = np.zeros(int(table.arrays.used[0]), np.bool_)
    asked[node_of_row[acts & (node_of_row >= 0)]] = True
    if len(table):
        for shard in shards.shards:
            for queue, days in (
                (shard.shipments, settings.shipment_days),
                (shard.receipts, settings.receipt_days),
            ):
                waiting = queue.waiting()
                due = waiting["row"][waiting["day"] + days + 1 <= last_day - DAY_2000]
                nodes = table.nodes_of(shard.table.lines["key"][due])
                asked[nodes[nodes >= 0]] = True
    roots = np.flatnonzero(asked)
    asked[roots] = table.borrows(roots)
    asked[node_of_row[is_void]] = True
    return np.flatnonzero(asked)


def _told_anew(
    shards: CodeShards,
    batch: EventBatch,
    node_of_row: Int32,
    roots: Int64,
    seq_base: int,
    arguments: Arguments,
    log: EventLog,
    voided: set[int],
    clock_day: int | None,
) -> tuple[Custody, dict[int, int], Int64]:
    """Take most codes through custody as ever, and the roots by telling their stories.

    Returns the days on which events (log numbers) were made void, and the rows of the roots, too.
    """
    table = shards.packages
    past = Past(
        table, log, roots, lambda keys: last_events(shards, keys)[1], batch, node_of_row, seq_base
    )
    keys = past.keys[: past.roots]
    recall(shards, keys)
    shipped, received = withdraw(shards, keys, last_events(shards, keys)[0])
    is_root = np.zeros(int(table.arrays.used[0]) + 1, np.bool_)
    is_root[roots] = True  # the last one stands for no node (-1)
    custody = shards.step(batch, seq_base, *arguments, wanted=~is_root[node_of_row])
    voids = Voids(past, batch, voided, arguments)
    past.know(voided, voids.void_days, voids.changes)
    tellings = Tellings(past, voids, arguments)
    tellings.write(custody)
    since = -(2**40) if clock_day is None else clock_day
    got = tellings.custody
    custody.overdue_shipments = tellings.late(
        custody.overdue_shipments, got.overdue_shipments, since, shipped
    )
    custody.overdue_receipts = tellings.late(
        custody.overdue_receipts, got.overdue_receipts, since, received
    )
    tellings.adopt(shards)
    voided.update(voids.void_days)
    if voids.void_days:
        seqs = np.fromiter(voids.void_days, np.int64, len(voids.void_days))
        days = np.fromiter(voids.void_days.values(), np.int64, len(seqs))
        table.note_voids(past.keys[past.code[past.row_of(seqs)]], seqs, days)
    mine = np.flatnonzero(is_root[node_of_row])
    told = mine[np.lexsort((batch.event_key[mine], batch.time[mine]))]
    return custody, voids.void_days, told


def _know_sources(
    shards: CodeShards, batch: EventBatch, node_of_row: Int32, custody: Custody
) -> None:
    """A code into which something was packed has the source of what is in it."""
    rows = custody.rows(sig.UNKNOWN_SOURCE)
    rows = rows[node_of_row[rows] >= 0]
    nodes = node_of_row[rows].astype(np.int64)
    packed = shards.packages.packed_by(nodes, batch.time[rows] // DAY)
    custody.signal[rows[packed]] &= ~np.uint32(sig.UNKNOWN_SOURCE)
