"""The trace of one code out of a running engine, without an index of all packs.

The index of :class:`trace_engine.tracing.index.TraceIndex` takes a pass over the whole log; for a
single code the log's own chain of events is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import NO_SEQ
from trace_engine.core.packages import LEVELS
from trace_engine.core.records import Records
from trace_engine.events.batch import NO_CODE
from trace_engine.events.codes import parse_code
from trace_engine.events.kinds import EventKind
from trace_engine.tracing.code import CodeTrace, trace_code
from trace_engine.tracing.index import lines_at, places_of
from trace_engine.tracing.tracer import Tracer

if TYPE_CHECKING:
    from trace_engine.engine import Engine

Int64 = npt.NDArray[np.int64]
_VOID = int(EventKind.VOID)


class _OneCode:
    """What ``TraceIndex`` says of pack 0, which is the only one."""

    def __init__(self, engine: Engine, line: Records, seqs: Int64) -> None:
        self.events_known = len(engine.log)
        self._line = line
        at = engine.log.columns(["kind", "drug", "batch_no"], seqs)
        left_out = at["kind"] == _VOID
        if engine.voided:
            left_out |= np.array([int(s) in engine.voided for s in seqs])
        self.has_void = np.array([left_out.any()])
        self._events = seqs[~left_out]
        drug, batch = at["drug"][~left_out], at["batch_no"][~left_out]
        stated = np.flatnonzero(batch >= 0)
        self.batch = np.array([batch[stated[0]] if len(stated) else -1])
        of_drug = stated if len(stated) else np.flatnonzero(drug >= 0)
        self.drug = np.array([drug[of_drug[0]] if len(of_drug) else -1])

    def lines(self, packs: Int64) -> Records:
        taken: Records = self._line[packs]
        return taken

    def events_of(self, packs: Int64) -> tuple[Int64, Int64]:
        events = self._events if len(packs) else self._events[:0]
        return np.array([0, len(events)])[: len(packs) + 1], events


class _OneCodeTracer(Tracer):
    def __init__(self, engine: Engine, index: _OneCode) -> None:
        super().__init__(engine)
        self._one = index

    @property
    def index(self) -> Any:
        return self._one


def find_code(engine: Engine, text: str) -> tuple[str, int] | None:
    """Return a code as it is kept and its key; None if the engine never saw it."""
    identity = parse_code(text).identity or text
    key = engine.vocabulary.code_key(identity)
    return None if key is None else (identity, key)


def line_of(engine: Engine, key: int) -> Records | None:
    """Return the line of a code (shape (1,), records ``core.codetable.LINE``), None if not judged."""
    shard, line = places_of(engine.shards, np.array([key], np.uint64))
    if line[0] < 0:
        return None
    found = lines_at(engine.shards, shard, line)
    return found if int(found[0]["key"]) == key else None


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
    if index.batch[0] >= 0 or not trace.parents:
        return trace
    return _with_batch_of_parents(engine, trace)


def is_packed(engine: Engine, key: int) -> bool:
    """Return whether something is known of what the code is or was in, or holds."""
    table = engine.shards.packages
    return len(table) > 0 and int(table.nodes_of(np.array([key], np.uint64))[0]) >= 0


def _with_batch_of_parents(engine: Engine, trace: CodeTrace) -> CodeTrace:
    from dataclasses import replace

    names = list(trace.parents)
    for _ in range(LEVELS):
        above: list[str] = []
        for name in names:
            key = engine.vocabulary.code_key(name)
            line = None if key is None else line_of(engine, key)
            if line is None or line[0]["last_seq"] == NO_SEQ:
                continue
            seqs = engine.log.paths(np.array([int(line[0]["last_seq"])]), None)[1]
            index = _OneCode(engine, line, seqs)
            if index.batch[0] >= 0:
                batch = engine.vocabulary.batches.text(int(index.batch[0]))
                return replace(trace, batch=batch)
            parents = np.unique(engine.log.column("parent", seqs))
            above += [engine.vocabulary.code_text(int(p)) for p in parents[parents != NO_CODE]]
        names = sorted(set(above))
    return trace
