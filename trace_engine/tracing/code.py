"""The whole path of one trace code, where it stands, and what it is packed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trace_engine.core.codetable import RECALLED
from trace_engine.events.batch import NO_CODE
from trace_engine.evidence.paths import path_events
from trace_engine.tracing.batch import place_of
from trace_engine.tracing.packs import tell_packs

if TYPE_CHECKING:
    from trace_engine.tracing.tracer import Tracer

MOST_CONTENTS = 1000  # codes listed of a larger package


@dataclass(frozen=True)
class CodeTrace:
    """The trace of a code. Parties, drugs are numbers of the engine's vocabulary.

    ``path``: events as ``evidence.paths.path_events`` tells them, oldest first, without those made
    void and with those of what it was in while it was there (``borrowed`` of them).
    ``parents``: codes it was said to be packed in; ``contents``: codes said to be packed in
    it (at most ``MOST_CONTENTS``, ``contents_known`` counts all).
    """

    code: str
    drug: int
    batch: str
    path: list[dict[str, Any]]
    voided: int
    borrowed: int
    place: str
    party: int
    giver: int
    recalled: bool
    sales: int
    parents: list[str]
    contents: list[str]
    contents_known: int


def trace_code(tracer: Tracer, code: str, key: int, pack: int) -> CodeTrace:
    """Return the trace of the code with ``key``, which is ``pack`` in the index."""
    engine, index = tracer.engine, tracer.index
    numbers = np.array([pack], np.int64)
    told = tell_packs(tracer, numbers, None, whole=True)
    seqs, line = told.seqs, told.lines[0]
    last = np.array([int(index.lines(numbers)[0]["last_seq"])], np.int64)
    every = engine.log.paths(last, None)[1]
    voided = sum(int(s) in engine.voided for s in every)
    place, party, giver = place_of(tracer, told)
    parents = np.unique(engine.log.column("parent", seqs[told.own]))
    text = engine.vocabulary.code_text
    children = tracer.contents(key)
    return CodeTrace(
        code=code,
        drug=int(index.drug[pack]),
        batch=engine.vocabulary.batches.text(int(index.batch[pack])),
        path=path_events(seqs, engine.log, engine.vocabulary, engine.view),
        voided=voided,
        borrowed=int((~told.own).sum()),
        place=place,
        party=party,
        giver=giver,
        recalled=bool(line["flags"] & RECALLED),
        sales=int(line["sales"]),
        parents=[text(int(p)) for p in parents[parents != NO_CODE]],
        contents=[text(int(c)) for c in children[:MOST_CONTENTS]],
        contents_known=len(children),
    )
