"""The engine: events in, findings out. It does no input or output and reads no clock.

    order -> enrich (custody) -> detect -> fold

Whole days of events are judged in order of time. What detectors need to know of a pack is found out
once, by custody; what enterprises did in sum is folded; everything else is the detectors'.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from trace_engine.core.archive import Archive
from trace_engine.core.closing import Closing
from trace_engine.core.daybuffer import DayBuffer
from trace_engine.core.eventlog import EventLog
from trace_engine.core.records import Records
from trace_engine.detectors.base import Hits
from trace_engine.events.batch import EventBatch, Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.findings import FINDINGS, REJECTS
from trace_engine.events.raw import RAW_ROWS, RawBatch
from trace_engine.evidence.findings import FindingsBuilder
from trace_engine.evidence.graphs import SupplyGraph
from trace_engine.evidence.tables import edges_table, exposure_table, hits_table
from trace_engine.judging import Judge
from trace_engine.policy import Policy
from trace_engine.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    import networkx as nx

_NO_REJECTS = REJECTS.empty_table()
HITS_AT_ONCE = 200_000  # hits turned into findings together where none are kept


class Engine(Judge):
    """Scores events as they come. See ``docs/architecture.md`` for the parts it is made of.

    Parameters
    ----------
    registry, policy
        Reference data and thresholds; empty registry and shipped policy by default.
    threads
        Worker threads. Findings never depend on it.
    lateness_days
        A day is judged once an event that many days (and one) later has been seen. Events that come
        later still are judged with the first open day and counted as late. None: no day is judged
        before :meth:`advance` or :meth:`finish` says so.
    log
        Where accepted events are kept for evidence; in memory by default.
    keep_hits
        Keep hits and the rows of keyed detectors, which :attr:`hits` and :meth:`merge` need. Without
        them findings are made from many hits at once: :meth:`process` may return those of earlier
        calls, and :attr:`findings` has them all.
    hits_at_once
        How many hits are awaited before findings are made, where none are kept. With 0 each call
        returns the findings of the days it closed, as with ``keep_hits``.
    close_after_days
        Send codes that were sold or died to ``archive`` (in memory by default) so many days after
        their last event. Findings never depend on it. None: all codes stay in the tables.
    hash_key
        Secret for pseudonyms (default: see ``events.privacy.default_key``).
    """

    def __init__(
        self,
        registry: Registry | None = None,
        policy: Policy | None = None,
        *,
        threads: int = 1,
        lateness_days: int | None = 2,
        log: EventLog | None = None,
        keep_hits: bool = True,
        hits_at_once: int = HITS_AT_ONCE,
        vocabulary: Vocabulary | None = None,
        hash_key: bytes | None = None,
        close_after_days: int | None = None,
        archive: Archive | None = None,
    ) -> None:
        super().__init__(registry, policy, threads, log, vocabulary, keep_rows=keep_hits)
        if close_after_days is not None:
            self.closing = Closing(close_after_days)
            archive = Archive() if archive is None else archive
        self.shards.archive = archive
        self.lateness_days = lateness_days
        self.keep_hits = keep_hits
        self.hits_at_once = hits_at_once
        self.encoder = Encoder(self.vocabulary, key=hash_key)
        self.buffer = DayBuffer()
        # Held while a slice changes the state; who reads along from another thread sets a lock.
        self.guard: AbstractContextManager[Any] = nullcontext()
        self.kept_hits: list[tuple[str, Hits]] = []
        self.built_findings: list[pa.Table] = []
        self._built: pa.Table | None = None
        self._waiting: list[tuple[str, Hits]] = []
        self.builder = FindingsBuilder(
            self.detectors,
            self.log,
            self.vocabulary,
            self.view,
            self.policy.version,
            self.encoder.pseudonyms.mask_identity_cards,
        )
        self.builder.holder = self

    # ---- events in -----------------------------------------------------------------------------

    def process(self, data: EventBatch | pa.Table | pa.RecordBatch) -> pa.Table:
        """Take events and return the findings (schema FINDINGS) of the days they closed.

        Arrow data carry the canonical column names. Raises ``InputError`` where required columns
        are missing.
        """
        if isinstance(data, EventBatch):
            self.counts["rows"] += len(data)
            batch = data
        else:
            batch = self._encode(data)
        self.buffer.add(batch)
        last = self.buffer.last_day()
        if last is None or self.lateness_days is None:
            return FINDINGS.empty_table()
        return self.advance(last - self.lateness_days)

    def _encode(self, data: pa.Table | pa.RecordBatch) -> EventBatch:
        batches = data.to_batches() if isinstance(data, pa.Table) else [data]
        parts = []
        if "<memory>" not in self.files:
            self.files.append("<memory>")
        file = np.int64(self.files.index("<memory>"))
        for piece in batches:
            encoded = self.encoder.encode(RawBatch(piece, "<memory>", self.counts["rows"] + 1))
            self.counts["rows"] += encoded.rows_in
            self.add_rejects(encoded.rejects)
            if encoded.batch.origin is not None:
                encoded.batch.origin |= file << np.int64(40)
            parts.append(encoded.batch)
        return EventBatch.concat(parts) if parts else EventBatch.empty()

    def advance(self, day: int) -> pa.Table:
        """Judge all days before ``day`` (since 1970-01-01) and return their findings."""
        new: list[tuple[str, Hits]] = []
        for first, last, batch in self.buffer.take_days(day, self.policy.segment):
            with self.guard:
                new += self.judge_slice(batch, first, last)
        if not new:
            return FINDINGS.empty_table()
        if self.keep_hits:
            self.kept_hits += new
            self._built = None
            return self._build(new)
        self._waiting += new
        if sum(len(hits) for _, hits in self._waiting) < self.hits_at_once:
            return FINDINGS.empty_table()
        return self._build_waiting()

    def _build(self, hits: list[tuple[str, Hits]]) -> pa.Table:
        with self.stopwatch("findings"):
            return self.builder.build(hits, self.data_begin or 0)

    def _build_waiting(self) -> pa.Table:
        """Turn the hits held back into findings: many at once, as each look into the log costs."""
        table = self._build(self._waiting)
        self._waiting = []
        self.built_findings.append(table)
        return table

    def finish(self) -> pa.Table:
        """Judge every day seen and return the findings of those that were still open."""
        last = self.buffer.last_day()
        return FINDINGS.empty_table() if last is None else self.advance(last + 1)

    def forget_output(self) -> None:
        """Forget findings and rejects made so far: the caller has taken them elsewhere."""
        self.built_findings.clear()
        self.rejects.clear()
        self.encoder.raw_left = RAW_ROWS

    # ---- findings out --------------------------------------------------------------------------

    @property
    def findings(self) -> pa.Table:
        """All findings so far (schema FINDINGS), by time and id."""
        if not self.keep_hits:
            if self._waiting:
                self._build_waiting()
            return pa.concat_tables(self.built_findings or [FINDINGS.empty_table()])
        if self._built is None:
            self._built = self._build(self.kept_hits)
        return self._built

    @property
    def hits(self) -> pa.Table:
        """All hits that stand, one row an event: what findings are grouped from."""
        return hits_table(self.kept_hits, self)

    @property
    def reject_table(self) -> pa.Table:
        """All rows that are no events (schema REJECTS)."""
        return pa.concat_tables(self.rejects) if self.rejects else _NO_REJECTS

    def exposure_table(self) -> pa.Table:
        """What each enterprise scanned (schema EXPOSURE), by enterprise id."""
        return exposure_table(self.exposure, self.vocabulary)

    def edges_table(self) -> pa.Table:
        """Edges of the supply graph (schema GRAPH_EDGES), by giver, receiver and drug."""
        return edges_table(self.multigraph, self.vocabulary)

    def supply_edges(self) -> Records:
        """Return the supply graph's edges (records ``graph.multigraph.EDGE``), old ones folded."""
        self.settle_graph()
        return self.multigraph.records()

    @property
    def supply(self) -> SupplyGraph:
        """The supply graph, to be asked for tables and networkx graphs of parts of it."""
        return SupplyGraph(self.supply_edges(), self.vocabulary)

    def graph(self, **filters: Any) -> nx.MultiDiGraph[str]:
        """Return the supply graph or a part of it (see ``evidence.graphs.SupplyGraph.graph``)."""
        return self.supply.graph(**filters)

    def rank(self) -> pa.Table:
        """Rank the enterprises seen so far (see ``trace_engine.ranking``)."""
        from trace_engine.ranking import rank

        return rank(self.findings, self.exposure_table(), self.registry, self.policy)

    # ---- state ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the whole state to ``folder`` (see ``trace_engine.store.checkpoint``)."""
        from trace_engine.store.checkpoint import save_engine

        save_engine(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        registry: Registry | None = None,
        policy: Policy | None = None,
        **options: Any,
    ) -> Engine:
        """Return the engine saved in ``folder``; registry and policy must be the same ones.

        Raises ``CheckpointError`` with one line if a file is missing or damaged, or if the state
        was made with other reference data or by another version.
        """
        from trace_engine.store.checkpoint import load_engine

        engine = cls(registry, policy, **options)
        load_engine(engine, folder)
        return engine

    def merge(self, other: Engine) -> None:
        """Take over the state of ``other``, which saw other codes (see ``trace_engine.merging``)."""
        from trace_engine.merging import merge_engines

        merge_engines(self, other)
        self._built = None
