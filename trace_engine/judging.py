"""One slice of whole days: custody, detectors, sums. The part of the engine that decides.

:class:`Judge` holds the state and takes a slice through it; :class:`trace_engine.engine.Engine` is a
judge that also holds events back until their day is complete and turns hits into findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from trace_engine.core.aggregation import step
from trace_engine.core.closing import Closing
from trace_engine.core.eventlog import EventLog
from trace_engine.core.fold import Exposure
from trace_engine.core.identity import IdentityTable
from trace_engine.core.retold import find_retold
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
from trace_engine.evidence.grouping import standing
from trace_engine.evidence.tables import conflict_rejects
from trace_engine.graph.multigraph import Multigraph
from trace_engine.policy import Policy
from trace_engine.reference import ReferenceData
from trace_engine.registry import Registry
from trace_engine.timing import Stopwatch

AnyDetector = Detector[Any]

FOLD_DAYS = 30  # edges of the supply graph are folded into months about this often


class Judge:
    """The state of an engine, and how a slice changes it. Parameters as for ``Engine``."""

    def __init__(
        self,
        registry: Registry | None,
        policy: Policy | None,
        threads: int,
        log: EventLog | None,
        vocabulary: Vocabulary | None,
        keep_rows: bool,
    ) -> None:
        self.registry = registry if registry is not None else Registry()
        self.policy = policy if policy is not None else Policy.load()
        self.threads = max(1, threads)
        self.keep_rows = keep_rows
        self.vocabulary = vocabulary if vocabulary is not None else Vocabulary()
        self.view = self.registry.view(self.vocabulary)
        self.detectors: dict[str, AnyDetector] = {
            name: cls() for name, cls in detector_classes().items()
        }
        self.policy.check(detector_classes())
        self.log = log if log is not None else EventLog()
        self.reference = ReferenceData(self.view)
        self.shards = CodeShards()
        self.closing: Closing | None = None  # sends codes that are done with to an archive
        self.identity = IdentityTable()
        self.exposure = Exposure()
        self.multigraph = Multigraph()
        self.states: dict[str, State] = {
            name: d.new_state() for name, d in self.keyed_detectors().items()
        }
        self.coverage = Coverage(self.detectors)
        self.counts = {"rows": 0, "events": 0, "duplicates": 0, "rejects": 0, "late": 0}
        self.rejects: list[pa.Table] = []
        self.retold_ids: set[str | None] | None = None  # noted for who sets a set, and empties it
        self.files: list[str] = []  # names behind EventBatch.origin
        self.data_begin: int | None = None
        self.clock_day: int | None = None  # last day judged
        self.voided: set[int] = set()  # log numbers of events that were voided
        self.kept_rows: dict[str, list[Rows]] = {name: [] for name in self.states}
        self.stopwatch = Stopwatch()
        self._pool: ThreadPoolExecutor | None = None
        self._parameters: dict[tuple[str, int], Any] = {}

    def add_rejects(self, rejects: pa.Table) -> None:
        """Count and keep rows that are no events (schema REJECTS)."""
        if rejects.num_rows:
            self.counts["rejects"] += rejects.num_rows
            self.rejects.append(rejects)

    # ---- one slice -----------------------------------------------------------------------------

    def judge_slice(
        self, batch: EventBatch, first_day: int, last_day: int
    ) -> list[tuple[str, Hits]]:
        """Take a slice of whole days through everything; return (detector id, hits) pairs."""
        watch = self.stopwatch
        begin = int(batch.time[0])
        self.data_begin = begin if self.data_begin is None else min(begin, self.data_begin)
        late, open_day = 0, first_day
        if self.clock_day is not None and first_day <= self.clock_day:
            open_day = self.clock_day + 1
            late = int(np.searchsorted(batch.time, open_day * DAY))
            self.counts["late"] += late
            last_day = max(last_day, self.clock_day)
            first_day = self.clock_day
        with watch("admit"):
            if late:
                batch = self._without_retold(batch, late)
            batch = self._admit(batch, open_day)
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
            self.settle_graph(every=FOLD_DAYS)
        if self.closing is not None:
            with watch("close"):
                self.closing.close(self.shards, last_day, len(self.log), self.run_all)
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

    def _without_retold(self, batch: EventBatch, late: int) -> EventBatch:
        """Return a slice without those of its ``late`` first rows that the log knows already."""
        retold = find_retold(self.log, batch, late)
        if not len(retold.duplicates) and not len(retold.conflicts):
            return batch
        self.counts["duplicates"] += len(retold.duplicates)
        if self.retold_ids is not None:
            self.retold_ids.update(batch.text("event_id", retold.duplicates))
        if len(retold.conflicts):
            self.add_rejects(conflict_rejects(batch, retold.conflicts, self.files))
        kept = np.ones(len(batch), np.bool_)
        kept[retold.duplicates] = kept[retold.conflicts] = False
        return batch.take(np.flatnonzero(kept))

    def _admit(self, batch: EventBatch, first_day: int) -> EventBatch:
        """Return the events of a slice; ``first_day`` is the first that was open."""
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
        if self.keep_rows:
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

    def settle_graph(self, every: int = 1) -> None:
        """Fold old edges of the supply graph if ``every`` days or more can be folded."""
        if self.clock_day is not None:
            detail = self.policy.general(self.clock_day).graph_detail_days
            before = self.clock_day - detail
            if before >= self.multigraph.settled_before + every:
                self.multigraph.settle(before)

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
