"""The engine: events in, findings out. It does no input or output and reads no clock.

    order -> enrich (custody) -> detect -> fold

Whole days of events are judged in order of time. What detectors need to know of a pack is found out
once, by custody; what enterprises did in sum is folded; everything else is the detectors'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from trace_engine.core.aggregation import step
from trace_engine.core.daybuffer import DayBuffer
from trace_engine.core.eventlog import EventLog
from trace_engine.core.fold import Exposure
from trace_engine.core.identity import IdentityTable
from trace_engine.core.records import Records
from trace_engine.core.shards import CodeShards
from trace_engine.core.signals import Custody
from trace_engine.coverage import Coverage
from trace_engine.detectors.base import (
    ClueDetector,
    Detector,
    Family,
    Hits,
    KeyedDetector,
    LookUp,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.detectors.registry import detector_classes
from trace_engine.events.batch import DAY, EventBatch, Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.findings import FINDINGS, REJECTS
from trace_engine.events.raw import RawBatch
from trace_engine.evidence.findings import FindingsBuilder
from trace_engine.evidence.graphs import SupplyGraph
from trace_engine.evidence.grouping import standing
from trace_engine.evidence.tables import conflict_rejects, edges_table, exposure_table, hits_table
from trace_engine.graph.multigraph import Multigraph
from trace_engine.policy import Policy
from trace_engine.reference import ReferenceData
from trace_engine.registry import Registry
from trace_engine.timing import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    import networkx as nx

AnyDetector = Detector[Any]

FOLD_DAYS = 30  # edges of the supply graph are folded into months about this often
HITS_AT_ONCE = 200_000  # hits turned into findings together where none are kept


class Engine:
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
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.registry = registry if registry is not None else Registry()
        self.policy = policy if policy is not None else Policy.load()
        self.threads = max(1, threads)
        self.lateness_days = lateness_days
        self.keep_hits = keep_hits
        self.vocabulary = vocabulary if vocabulary is not None else Vocabulary()
        self.view = self.registry.view(self.vocabulary)
        self.detectors: dict[str, AnyDetector] = {
            name: cls() for name, cls in detector_classes().items()
        }
        self.policy.check(detector_classes())
        self.log = log if log is not None else EventLog()
        self.reference = ReferenceData(self.view, self.vocabulary)
        self.encoder = Encoder(self.vocabulary)
        self.buffer = DayBuffer()
        self.shards = CodeShards()
        self.identity = IdentityTable()
        self.exposure = Exposure()
        self.multigraph = Multigraph()
        self.states: dict[str, State] = {
            name: d.new_state() for name, d in self.keyed_detectors().items()
        }
        self.coverage = Coverage(self.detectors)
        self.counts = {"rows": 0, "events": 0, "duplicates": 0, "rejects": 0, "late": 0}
        self.rejects: list[pa.Table] = []
        self.files: list[str] = []  # names behind EventBatch.origin
        self.data_begin: int | None = None
        self.clock_day: int | None = None  # last day judged
        self.voided: set[int] = set()  # log numbers of events that were voided
        self.kept_hits: list[tuple[str, Hits]] = []
        self.kept_rows: dict[str, list[Rows]] = {name: [] for name in self.states}
        self.built_findings: list[pa.Table] = []
        self._built: pa.Table | None = None
        self._waiting: list[tuple[str, Hits]] = []
        self.stopwatch = Stopwatch()
        self._pool: ThreadPoolExecutor | None = None
        self._parameters: dict[tuple[str, int], Any] = {}
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

    def add_rejects(self, rejects: pa.Table) -> None:
        """Count and keep rows that are no events (schema REJECTS)."""
        if rejects.num_rows:
            self.counts["rejects"] += rejects.num_rows
            self.rejects.append(rejects)

    def advance(self, day: int) -> pa.Table:
        """Judge all days before ``day`` (since 1970-01-01) and return their findings."""
        new: list[tuple[str, Hits]] = []
        for first, last, batch in self.buffer.take_days(day, self.policy.segment):
            new += self._judge(batch, first, last)
        if not new:
            return FINDINGS.empty_table()
        if self.keep_hits:
            self.kept_hits += new
            self._built = None
            return self._build(new)
        self._waiting += new
        if sum(len(hits) for _, hits in self._waiting) < HITS_AT_ONCE:
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

    # ---- one slice -----------------------------------------------------------------------------

    def _judge(self, batch: EventBatch, first_day: int, last_day: int) -> list[tuple[str, Hits]]:
        watch = self.stopwatch
        if self.clock_day is not None and first_day <= self.clock_day:
            self.counts["late"] += int(np.searchsorted(batch.time, (self.clock_day + 1) * DAY))
            last_day = max(last_day, self.clock_day)
            first_day = self.clock_day
        begin = int(batch.time[0])
        self.data_begin = begin if self.data_begin is None else min(begin, self.data_begin)
        with watch("admit"):
            batch = self._admit(batch, first_day)
            self.view.refresh()
        seq_base = len(self.log)
        with watch("custody"):
            settings = self.reference.settings(self.policy, self.detectors, first_day)
            custody = step(
                self.shards,
                batch,
                seq_base,
                last_day,
                *self.reference.arrays(),
                settings,
                self.run_all,
                self.log,
                self.voided,
                self.clock_day,
            )
        with watch("log"):
            self.log.append(batch, custody.previous)
        data = self._slice(batch, seq_base, custody, first_day, last_day)
        self.clock_day = last_day
        self.counts["events"] += len(batch)
        with watch("detect"):
            verdicts = self._verdicts(data)
        with watch("fold"):
            self.exposure.grow(len(self.vocabulary.parties))
            folds: list[Callable[[EventBatch, Any], None]] = [
                self.exposure.add,
                self.multigraph.add,
            ]
            self.map_all(lambda fold: fold(batch, custody), folds)
            self._settle(every=FOLD_DAYS)
        hits = []
        for name, verdict in verdicts.items():
            self.coverage.add(name, verdict)
            if verdict.hits is not None and len(verdict.hits):
                hits.append((name, verdict.hits))
        return hits

    def _verdicts(self, data: Slice) -> dict[str, Verdict]:
        """Ask every detector, those that judge what others found last."""
        verdicts: dict[str, Verdict] = {}
        for last in (False, True):
            asked = [d for d in self.detectors.values() if d.after_others == last]
            found = self.map_all(lambda d: self._ask(d, data), asked)
            verdicts.update(zip((d.id for d in asked), found, strict=True))
            data.hits = {n: v.hits for n, v in verdicts.items() if v.hits is not None}
        return verdicts

    def catch_up(self, day: int) -> list[tuple[str, Hits]]:
        """Let what fell due by the beginning of ``day`` be reported, without new events."""
        if self.clock_day is None or self.data_begin is None:
            return []
        settings = self.reference.settings(self.policy, self.detectors, day)
        nothing = EventBatch.empty()
        custody = step(
            self.shards,
            nothing,
            len(self.log),
            day,
            *self.reference.arrays(),
            settings,
            self.run_all,
            self.log,
            self.voided,
            self.clock_day,
        )
        self.clock_day = max(day, self.clock_day)
        data = self._slice(nothing, len(self.log), custody, day, day)
        keyed = self.keyed_detectors()
        hits = []
        for name, detector in self.detectors.items():
            if name not in keyed:
                verdict = detector.judge(data, self.parameters(detector, day))
                if verdict.hits is not None and len(verdict.hits):
                    hits.append((name, verdict.hits))
        return hits

    def judge_rows(self, name: str, rows: Rows) -> list[tuple[str, Hits]]:
        """Let a keyed detector judge ``rows`` (by time), a stretch of equal policy at a time."""
        detector = self.keyed_detectors()[name]
        days = rows["time"] // DAY
        segment = np.array([self.policy.segment(int(d)) for d in np.unique(days)])
        of_row = segment[np.searchsorted(np.unique(days), days)]
        cuts = np.flatnonzero(np.diff(of_row)) + 1
        bounds = [0, *cuts.tolist(), len(days)]
        hits = []
        for start, stop in pairwise(bounds):
            part = {column: values[start:stop] for column, values in rows.items()}
            parameters = self.parameters(detector, int(days[start]))
            last = int(days[stop - 1])
            if stop == len(days) and self.clock_day is not None:
                last = max(last, self.clock_day)  # months may have ended since the last row
            found = detector.advance(part, self.states[name], parameters, last)
            if found is not None and len(found):
                hits.append((name, found))
        return hits

    def _slice(
        self, batch: EventBatch, seq_base: int, custody: Custody, first_day: int, last_day: int
    ) -> Slice:
        return Slice(
            batch=batch,
            seq_base=seq_base,
            custody=custody,
            registry=self.view,
            policy=self.policy,
            vocabulary=self.vocabulary,
            first_day=first_day,
            last_day=last_day,
            data_begin=self.data_begin or 0,
            log=self.log,
        )

    def _admit(self, batch: EventBatch, first_day: int) -> EventBatch:
        horizon = self.policy.general(first_day).deduplication_days
        admission = self.identity.admit(batch, first_day, horizon, self.vocabulary)
        if admission.kept is None:
            return batch
        self.counts["duplicates"] += len(admission.duplicates)
        if len(admission.conflicts):
            self.add_rejects(conflict_rejects(batch, admission.conflicts, self.files))
        return batch.take(admission.kept)

    def _ask(self, detector: AnyDetector, data: Slice) -> Verdict:
        parameters = self.parameters(detector, data.first_day)
        if not isinstance(detector, KeyedDetector):
            return detector.judge(data, parameters)
        rows, verdict = detector.select(data, parameters)
        if len(rows["time"]):
            # A late event is taken into windows as if it had happened when the open day began.
            rows["time"] = np.maximum(rows["time"], data.first_day * DAY)
        if self.keep_hits:
            self.kept_rows[detector.id].append(rows)
        if isinstance(detector, ClueDetector):
            clues = self.clues(detector, list(data.hits.items()), data.look_up)
            clues["time"] = np.maximum(clues["time"], data.first_day * DAY)
            rows = {name: np.concatenate([rows[name], clues[name]]) for name in rows}
        verdict.hits = detector.advance(rows, self.states[detector.id], parameters, data.last_day)
        return verdict

    def clues(
        self, detector: ClueDetector[Any], hits: list[tuple[str, Hits]], look_up: LookUp
    ) -> Rows:
        """Return the rows a detector selects of what others found: suspected violations that stand."""
        found = [
            (name, standing(some, self.data_begin or 0))
            for name, some in hits
            if self.detectors[name].family == Family.SUSPECTED_VIOLATION
            and not self.detectors[name].after_others
        ]
        return detector.select_clues(found, self.detectors, look_up, self.view)

    def parameters(self, detector: AnyDetector, day: int) -> Any:
        """Return a detector's parameters in force on ``day``."""
        key = (detector.id, self.policy.segment(day))
        if key not in self._parameters:
            self._parameters[key] = self.policy.parameters(detector.id, detector.parameters, day)
        return self._parameters[key]

    def keyed_detectors(self) -> dict[str, KeyedDetector[Any]]:
        """Return the detectors that keep state across codes, by id."""
        return {n: d for n, d in self.detectors.items() if isinstance(d, KeyedDetector)}

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
        return pa.concat_tables(self.rejects) if self.rejects else REJECTS.empty_table()

    def exposure_table(self) -> pa.Table:
        """What each enterprise scanned (schema EXPOSURE), by enterprise id."""
        return exposure_table(self.exposure, self.vocabulary)

    def edges_table(self) -> pa.Table:
        """Edges of the supply graph (schema GRAPH_EDGES), by giver, receiver and drug."""
        return edges_table(self.multigraph, self.vocabulary)

    def _settle(self, every: int = 1) -> None:
        """Fold old edges of the supply graph if ``every`` days or more can be folded."""
        if self.clock_day is not None:
            detail = self.policy.general(self.clock_day).graph_detail_days
            before = self.clock_day - detail
            if before >= self.multigraph.settled_before + every:
                self.multigraph.settle(before)

    def supply_edges(self) -> Records:
        """Return the supply graph's edges (records ``graph.multigraph.EDGE``), old ones folded."""
        self._settle()
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

    # ---- threads -------------------------------------------------------------------------------

    def map_all(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call ``function`` on each item, in threads if there are several; results in order."""
        if self.threads == 1:
            return [function(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="trace-engine")
        return list(self._pool.map(function, items))

    def run_all(self, function: Callable[[int], None], items: Iterable[int]) -> None:
        """Like :meth:`map_all`, for what returns nothing."""
        self.map_all(function, items)
