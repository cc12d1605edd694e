"""Folds and hits as tables of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from trace_engine.core.fold import EVENTS, FIRST, LAST, VALUE, Exposure
from trace_engine.events.batch import EventBatch, Vocabulary
from trace_engine.events.findings import EXPOSURE, GRAPH_EDGES, REJECTS
from trace_engine.evidence.findings import SHANGHAI_OFFSET
from trace_engine.evidence.grouping import group_hits, standing
from trace_engine.graph.multigraph import Multigraph, hop_sums

if TYPE_CHECKING:
    import numpy.typing as npt

    from trace_engine.detectors.base import Hits
    from trace_engine.engine import Engine

_FILE_SHIFT = 40
_ROW_MASK = (1 << _FILE_SHIFT) - 1


def _moments(local: npt.NDArray[np.int64]) -> pa.Array:
    return (
        pa.array(local - SHANGHAI_OFFSET)
        .cast(pa.timestamp("us"))
        .cast(pa.timestamp("us", tz="Asia/Shanghai"))
    )


def exposure_table(exposure: Exposure, vocabulary: Vocabulary) -> pa.Table:
    """Return ``EXPOSURE``, one row an enterprise with events, by enterprise id."""
    totals = exposure.totals[: len(vocabulary.parties)]
    seen = np.flatnonzero(totals[:, EVENTS] > 0)
    names = pa.array([vocabulary.parties.values[i] for i in seen.tolist()], pa.string())
    t = totals[seen]
    table = pa.table(
        [
            names,
            *(pa.array(t[:, k]) for k in range(VALUE)),
            pa.array(t[:, VALUE] / 100),
            _moments(t[:, FIRST]),
            _moments(t[:, LAST]),
        ],
        schema=EXPOSURE,
    )
    return table.sort_by("enterprise_id")


def edges_table(graph: Multigraph, vocabulary: Vocabulary) -> pa.Table:
    """Return ``GRAPH_EDGES``, by giver, receiver and drug."""
    keys, sums = hop_sums(graph.records())
    parties, drugs = vocabulary.parties, vocabulary.drugs

    def names(interner: Any, ids: npt.NDArray[np.int32]) -> pa.Array:
        return pa.array([interner.text(i) for i in ids.tolist()], pa.string())

    table = pa.table(
        [
            names(parties, keys[:, 0]),
            names(parties, keys[:, 1]),
            names(drugs, keys[:, 2]),
            pa.array(sums[:, 0]),
            pa.array(sums[:, 1]),
            pa.array(sums[:, 2] / 100),
            _moments(sums[:, 3]),
            _moments(sums[:, 4]),
        ],
        schema=GRAPH_EDGES,
    )
    by = [(name, "ascending") for name in ("source_id", "target_id", "drug_id")]
    return table.sort_by(by)


HITS = pa.schema(
    [
        ("detector", pa.string()),
        ("event_id", pa.string()),
        ("subject_id", pa.string()),
        ("counterparty_id", pa.string()),
        ("observed", pa.float64()),
        ("threshold", pa.float64()),
        ("event_time", pa.timestamp("us", tz="Asia/Shanghai")),
    ]
)


def hits_table(kept: list[tuple[str, Hits]], engine: Engine) -> pa.Table:
    """Return the hits that stand (schema HITS), by detector, time and event id."""
    parts = []
    parties = engine.vocabulary.parties
    for detector_id, some in kept:
        some = standing(some, engine.data_begin or 0)
        receiver_answers = engine.detectors[detector_id].answerable == "receiver"
        g = group_hits(
            some, engine.log, engine.view, engine.vocabulary, receiver_answers=receiver_answers
        )
        parts.append(
            pa.table(
                [
                    pa.array([detector_id] * len(g.seq), pa.string()),
                    pa.array(engine.log.text("event_id", g.seq), pa.string()),
                    pa.array([parties.text(i) for i in g.subject.tolist()], pa.string()),
                    pa.array([parties.text(i) for i in g.counterparty.tolist()], pa.string()),
                    pa.array(g.observed),
                    pa.array(g.threshold),
                    _moments(g.time),
                ],
                schema=HITS,
            )
        )
    if not parts:
        return HITS.empty_table()
    by = [(name, "ascending") for name in ("detector", "event_time", "event_id")]
    return pa.concat_tables(parts).sort_by(by)


def conflict_rejects(batch: EventBatch, rows: npt.NDArray[np.int64], files: list[str]) -> pa.Table:
    """Return rejects for rows whose event id stands for another event already."""
    ids = batch.text("event_id", rows)
    origin = np.zeros(len(rows), np.int64) if batch.origin is None else batch.origin[rows]
    named = batch.origin is not None and len(files) > 0
    return pa.table(
        [
            pa.array([files[int(o >> _FILE_SHIFT)] if named else "" for o in origin], pa.string()),
            pa.array(origin & _ROW_MASK),
            pa.array(["event_id"] * len(rows), pa.string()),
            pa.array(["event_id_conflict"] * len(rows), pa.string()),
            pa.array(
                [
                    f"found event_id {i!r} again with other content; expected one id for one event"
                    for i in ids
                ],
                pa.string(),
            ),
            pa.array([None] * len(rows), pa.string()),
        ],
        schema=REJECTS,
    )
