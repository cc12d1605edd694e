"""The trace of one code out of a running engine, without an index of all packs.

The index of :class:`trace_engine.tracing.index.TraceIndex` takes a pass over the whole log; for a
single code the log's own chain of events is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import NO_SEQ
from trace_engine.core.packages import LEVELS
from trace_engine.core.past import last_events
from trace_engine.core.records import Records
from trace_engine.core.returning import find_line
from trace_engine.events.codes import parse_code
from trace_engine.events.kinds import EventKind
from trace_engine.tracing.code import CodeTrace, drug_and_batch, trace_code
from trace_engine.tracing.packs import tell_packs
from trace_engine.tracing.tracer import Tracer

if TYPE_CHECKING:
    from trace_engine.core.packagetable import PackageTable
    from trace_engine.engine import Engine

Int64 = npt.NDArray[np.int64]
_VOID = int(EventKind.VOID)


class _OneCode:
    """What ``TraceIndex`` says of pack 0, which is the only one."""

    def __init__(self, engine: Engine, line: Records, seqs: Int64) -> None:
        self._engine = engine
        self._line = line
        at = engine.log.columns(["kind", "drug", "batch_no"], seqs)
        left_out = np.zeros(len(seqs), np.bool_)
        if engine.voided:
            left_out |= np.array([int(s) in engine.voided for s in seqs])
        self.has_void = np.array([left_out.any()])
        self._events = seqs[~left_out]
        counts = ~left_out & (at["kind"] != _VOID)
        stated = at["batch_no"][counts]
        self.differs = len(np.unique(stated[stated >= 0])) > 1
        self.drug, self.batch = drug_and_batch(at["drug"][counts], at["batch_no"][counts])

    def lines(self, packs: Int64) -> Records:
        taken: Records = self._line[packs]
        return taken

    def events_of(self, packs: Int64) -> tuple[Int64, Int64]:
        events = self._events if len(packs) else self._events[:0]
        return np.array([0, len(events)])[: len(packs) + 1], events

    def last_of(self, codes: npt.NDArray[np.uint64]) -> Int64:
        return last_events(self._engine.shards, codes)[1]

    def paths(self, seqs: Int64, longest: int | None) -> tuple[Int64, Int64]:
        return self._engine.log.paths(seqs, longest)

    def columns(self, names: Sequence[str], seqs: Int64) -> dict[str, npt.NDArray[Any]]:
        return self._engine.log.columns(names, seqs)


class _OneCodeTracer(Tracer):
    def __init__(self, engine: Engine, index: _OneCode) -> None:
        super().__init__(engine)
        self._one = index

    @property
    def index(self) -> Any:
        return self._one

    def groups(self) -> npt.NDArray[np.int32]:
        # The view is not refreshed: the engine may be using it. It knows all that was judged.
        return np.ascontiguousarray(self.engine.view.party_group, np.int32)


def find_code(engine: Engine, text: str) -> tuple[str, int] | None:
    """Return a code as it is kept and its key; None if the engine never saw it."""
    identity = parse_code(text).identity or text
    key = engine.vocabulary.code_key(identity)
    return None if key is None else (identity, key)


def line_of(engine: Engine, key: int) -> Records | None:
    """Return the line of a code (shape (1,), records ``core.codetable.LINE``), None if not judged."""
    return find_line(engine.shards, key)


def trace_live(engine: Engine, identity: str, key: int) -> CodeTrace | None:
    """Return the trace of the code with ``key``; None if none of its events is judged yet.

    The engine must not judge meanwhile if the code is packed, or was (``is_packed``).
    """
    line = line_of(engine, key)
    if line is None or line[0]["last_seq"] == NO_SEQ:
        return None
    seqs = engine.log.paths(np.array([int(line[0]["last_seq"])]), None)[1]
    index = _OneCode(engine, line, seqs)
    trace = trace_code(_OneCodeTracer(engine, index), identity, key, 0)
    if trace.batch or not is_packed(engine, key):
        return trace
    return replace(trace, batch=_batch_above(engine, key))


def is_packed(engine: Engine, key: int) -> bool:
    """Return whether something is known of what the code is or was in, or holds."""
    table = engine.shards.packages
    return len(table) > 0 and int(table.nodes_of(np.array([key], np.uint64))[0]) >= 0


def _batch_above(engine: Engine, key: int) -> str:
    """Return the batch of what the code was in, or replaced: of the nearest, the first by name."""
    table = engine.shards.packages
    nodes = {int(table.nodes_of(np.array([key], np.uint64))[0])}
    for _ in range(LEVELS):
        nodes = {parent for node in nodes for parent in _parents(table, node)}
        found = {_own_batch(engine, int(table.arrays.key[node])) for node in nodes} - {""}
        if found:
            return min(found)
    return ""


def _parents(table: PackageTable, node: int) -> Iterator[int]:
    pair = int(table.arrays.up[node])
    while pair >= 0:
        yield int(table.arrays.parent[pair])
        pair = int(table.arrays.next_up[pair])


def _own_batch(engine: Engine, key: int) -> str:
    """Return the batch that a code's own events state, "" if none."""
    line = line_of(engine, key)
    if line is None or line[0]["last_seq"] == NO_SEQ:
        return ""
    seqs = engine.log.paths(np.array([int(line[0]["last_seq"])]), None)[1]
    index = _OneCode(engine, line, seqs)
    if index.differs:
        told = tell_packs(engine, index, np.zeros(1, np.int64), None, whole=True)
        stated = engine.log.columns(["drug", "batch_no"], told.seqs[told.own])
        batch = drug_and_batch(stated["drug"], stated["batch_no"])[1]
    else:
        batch = index.batch
    return engine.vocabulary.batches.text(int(batch[0]))
