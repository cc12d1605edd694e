"""The whole path of one trace code, where it stands, and what it is packed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.codetable import RECALLED
from trace_engine.events.batch import NO_CODE
from trace_engine.evidence.paths import path_events
from trace_engine.tracing.batch import place_of
from trace_engine.tracing.packs import tell_packs

if TYPE_CHECKING:
    from trace_engine.tracing.tracer import Tracer

Int32 = npt.NDArray[np.int32]

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


def drug_and_batch(drug: Int32, batch: Int32) -> tuple[Int32, Int32]:
    """Return, as arrays of shape (1,), those of the first event that states a batch.

    ``drug`` and ``batch`` (events,) are of a code's own events, oldest first. Where none states a
    batch (-1), the drug is that of the first event that states one.
    """
    stated = np.flatnonzero(batch >= 0)
    of_drug = stated if len(stated) else np.flatnonzero(drug >= 0)
    none = np.full(1, -1, np.int32)
    return (
        drug[of_drug[:1]] if len(of_drug) else none,
        batch[stated[:1]] if len(stated) else none,
    )


def trace_code(tracer: Tracer, code: str, key: int, pack: int) -> CodeTrace:
    """Return the trace of the code with ``key``, which is ``pack`` in the index."""
    engine, index = tracer.engine, tracer.index
    numbers = np.array([pack], np.int64)
    told = tell_packs(engine, index, numbers, None, whole=True)
    seqs, line = told.seqs, told.lines[0]
    last = np.array([int(index.lines(numbers)[0]["last_seq"])], np.int64)
    every = engine.log.paths(last, None)[1]
    voided = sum(int(s) in engine.voided for s in every)
    place, party, giver = place_of(tracer, told)
    parents = np.unique(engine.log.column("parent", seqs[told.own]))
    text = engine.vocabulary.code_text
    stated = engine.log.columns(["drug", "batch_no"], seqs[told.own])
    drug, batch = drug_and_batch(stated["drug"], stated["batch_no"])
    if batch[0] < 0:  # that of what it was in
        batch = index.batch[[pack]]
    children = tracer.contents(key)
    return CodeTrace(
        code=code,
        drug=int(drug[0]),
        batch=engine.vocabulary.batches.text(int(batch[0])),
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
