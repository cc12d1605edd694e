"""``score()``: files in, a :class:`Result` out. The one loop of batch scoring."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.core.eventlog import EventLog
from trace_engine.detectors.base import Slice, Verdict
from trace_engine.engine import Engine
from trace_engine.events.batch import DAY, EventBatch
from trace_engine.events.encode import Encoded
from trace_engine.evidence.graphs import SupplyGraph
from trace_engine.policy import Policy
from trace_engine.readers import EventSource, Unit, file_digest, open_events
from trace_engine.registry import Registry
from trace_engine.store.checkpoint import save_engine
from trace_engine.store.eventlog import FolderLog
from trace_engine.store.spill import DaySpill

if TYPE_CHECKING:
    import networkx as nx

PathLike = str | os.PathLike[str]
Progress = Callable[[str, int, int | None], None]
_Item = tuple[int, Unit, "Future[Encoded] | None"] | BaseException | None

DEFAULT_MEMORY = 8 << 30
LOG_TO_DISK = 32 << 20  # bytes of input from which the event log goes to disk
SCORING_ROWS = 1 << 16  # rows encoded at a time: smaller batches hold less memory at no cost
AHEAD = 6  # batches encoded before the engine asks for them
_NEVER = 2**62


@dataclass
class Result:
    """What a run found. Tables follow the schemas of :mod:`trace_engine.events.findings`."""

    findings: pa.Table
    exposure: pa.Table
    graph_edges: pa.Table
    rejects: pa.Table
    coverage: dict[str, dict[str, Any]]
    counts: dict[str, int]
    policy: Policy
    registry: Registry
    seconds_by_stage: dict[str, float]
    files: list[dict[str, Any]] = field(repr=False, default_factory=list)
    live_codes: int = 0
    state_bytes: int = 0
    lang: str = "zh"
    supply: SupplyGraph | None = field(repr=False, default=None)

    @cached_property
    def sellers(self) -> pa.Table:
        """The ranking (see :func:`trace_engine.ranking.rank`)."""
        from trace_engine.ranking import rank

        return rank(self.findings, self.exposure, self.registry, self.policy)

    @cached_property
    def inputs(self) -> list[dict[str, Any]]:
        """Path, bytes, rows and SHA-256 of each input file; hashed when first asked for."""
        return [{**file, "sha256": file_digest(file["path"])} for file in self.files]

    @property
    def last_date(self) -> dt.date:
        """Day of the last event (today's plan starts there); 1970-01-01 without events."""
        last = pc.max(self.exposure["last_time"]).as_py()
        return dt.date(1970, 1, 1) if last is None else last.date()

    def plan(self, budget: int, seed: int = 0, as_of: dt.date | None = None) -> pa.Table:
        """Return a sampling plan (see :func:`trace_engine.sampling.plan`)."""
        from trace_engine.sampling import plan

        return plan(
            self.sellers,
            self.findings,
            self.registry,
            self.policy,
            budget=budget,
            seed=seed,
            as_of=as_of or self.last_date,
        )

    def graph(self, **filters: Any) -> nx.MultiDiGraph[str]:
        """Return the supply graph: an edge for each giver, receiver and drug, keyed by the drug.

        ``filters`` choose a part of it, or every edge by itself: ``drug``, ``enterprise`` and
        ``depth``, ``since`` and ``until``, ``types``, ``detail``
        (see :meth:`trace_engine.evidence.graphs.SupplyGraph.graph`).
        """
        if filters:
            if self.supply is None:
                raise ValueError("this result holds no edges to choose from")
            return self.supply.graph(**filters)
        import networkx as nx

        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for row in self.graph_edges.to_pylist():
            source, target, drug = row.pop("source_id"), row.pop("target_id"), row.pop("drug_id")
            graph.add_edge(source, target, key=drug, drug_id=drug, **row)
        return graph

    def write(self, folder: PathLike, **options: Any) -> None:
        """Write the output folder (see :func:`trace_engine.reports.output.write`)."""
        from trace_engine.reports.output import write

        write(self, Path(folder), **{"lang": self.lang, **options})


def score(
    inputs: PathLike | Sequence[PathLike],
    registry: Registry | PathLike | None = None,
    policy: Policy | PathLike | None = None,
    *,
    format: str = "auto",  # noqa: A002 - the name of the command-line option
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    batch_rows: int = SCORING_ROWS,
    progress: Progress | None = None,
    lang: str = "zh",
    work_folder: PathLike | None = None,
    state: PathLike | None = None,
) -> Result:
    """Score event files and return what was found.

    Parameters
    ----------
    inputs
        Files, folders or patterns of Parquet, CSV or NDJSON.
    registry, policy
        A folder or a :class:`Registry`; a file or a :class:`Policy`. Nothing: no reference data,
        the shipped policy.
    threads
        Worker threads; by default one for each processor. Findings never depend on it.
    memory
        Bytes that events waiting for their day may take before they are put on disk.
    progress
        Called as ``progress(stage, done, total)`` with bytes read.
    work_folder
        Where temporary files go (default: the system's temporary folder).
    state
        A folder for the engine's state, which ``trace`` and :meth:`Engine.load` read.

    Raises
    ------
    InputError, RegistryError, PolicyError
        Each with one line that says what is wrong and what was expected.
    """
    source = open_events(inputs, format=format, batch_rows=batch_rows)
    reference = {
        "registry": None
        if registry is None or isinstance(registry, Registry)
        else _absolute(registry),
        "policy": None if policy is None or isinstance(policy, Policy) else _absolute(policy),
    }
    if not isinstance(registry, Registry):
        registry = Registry.load(None if registry is None else Path(registry))
    if not isinstance(policy, Policy):
        policy = Policy.load(None if policy is None else os.fspath(policy))
    threads = threads or len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        work = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="trace-engine-", dir=work_folder)
            )
        )
        big = source.size_bytes > LOG_TO_DISK
        log: EventLog = FolderLog(work / "log") if big else EventLog()
        engine = Engine(
            registry, policy, threads=threads, lateness_days=None, log=log, keep_hits=False
        )
        run = _Run(engine, source, memory, DaySpill(work / "days"), progress)
        run.all()
        result = run.result(lang)
        if state is not None:
            with engine.stopwatch("state"):
                save_engine(engine, state, reference)
            result.seconds_by_stage = dict(engine.stopwatch.seconds)
        return result


def _absolute(path: PathLike) -> str:
    """Return where a file or folder lies; a name that is no path of a file stays as it is."""
    return str(Path(path).resolve()) if Path(path).exists() else os.fspath(path)


class Follower(Engine):
    """An engine that follows packs and judges nothing."""

    def _verdicts(self, data: Slice) -> dict[str, Verdict]:
        return {}


@contextmanager
def follow(
    inputs: PathLike | Sequence[PathLike],
    registry: Registry | None = None,
    policy: Policy | None = None,
    *,
    format: str = "auto",  # noqa: A002 - the name of the command-line option
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Iterator[Engine]:
    """Yield an engine that has followed every pack of event files, without findings.

    Its log may lie in temporary files that are removed afterwards. Arguments as for :func:`score`.
    """
    source = open_events(inputs, format=format, batch_rows=SCORING_ROWS)
    with tempfile.TemporaryDirectory(prefix="trace-engine-") as folder:
        work = Path(folder)
        big = source.size_bytes > LOG_TO_DISK
        engine = Follower(
            registry,
            policy,
            threads=threads or len(os.sched_getaffinity(0)),
            lateness_days=None,
            log=FolderLog(work / "log") if big else EventLog(),
            keep_hits=False,
        )
        _Run(engine, source, memory, DaySpill(work / "days"), progress).all()
        yield engine


class _Run:
    """One batch run: reads ahead, holds events back until their day is complete, judges days."""

    def __init__(
        self,
        engine: Engine,
        source: EventSource,
        memory: int,
        spill: DaySpill,
        progress: Progress | None,
    ) -> None:
        self.engine = engine
        self.source = source
        self.memory = memory
        self.spill = spill
        self.progress = progress
        self.rows_of: dict[str, int] = dict.fromkeys(source.files, 0)

    def all(self) -> None:
        """Read every unit and judge every day."""
        engine = self.engine
        engine.files = list(self.source.files)
        # What begins first is read first, so that days can be closed early.
        units = sorted(
            self.source.units, key=lambda u: -_NEVER if u.first_time is None else u.first_time
        )
        begins = [_NEVER if u.first_time is None else u.first_time for u in units]
        unknown = [u.first_time is None for u in units]
        done_bytes, total = 0, self.source.size_bytes
        for number, unit, encoded in self._encoded(units):
            if encoded is None:  # the unit is read
                done_bytes += unit.size_bytes
                self._tell("score", done_bytes, total)
                if not any(unknown[number + 1 :]):
                    rest = min(begins[number + 1 :], default=_NEVER)
                    self._advance(rest // DAY)
                continue
            engine.counts["rows"] += encoded.rows_in
            self.rows_of[unit.path] = self.rows_of.get(unit.path, 0) + encoded.rows_in
            engine.add_rejects(encoded.rejects)
            engine.buffer.add(self._with_file(encoded.batch, unit.path))
            if engine.buffer.nbytes > self.memory:
                for piece in engine.buffer.pieces:
                    self.spill.write(piece)
                engine.buffer.pieces = []
        unread = self.source.rejects
        engine.counts["rows"] += unread.num_rows
        for path in unread["file"].to_pylist():
            self.rows_of[path] = self.rows_of.get(path, 0) + 1
        engine.add_rejects(unread)
        self._advance(_NEVER // DAY)
        counts = engine.counts
        if counts["rows"] != counts["events"] + counts["duplicates"] + counts["rejects"]:
            raise AssertionError(f"rows were lost or invented: {counts}")

    def _advance(self, day: int) -> None:
        """Judge all days before ``day``, those on disk in their turn."""
        for spilled in [d for d in self.spill.days() if d < day]:
            self.engine.advance(spilled)
            for batch in self.spill.take(spilled):
                self.engine.buffer.add(batch)
            self.engine.advance(spilled + 1)
        self.engine.advance(day)

    def _with_file(self, batch: EventBatch, path: str) -> EventBatch:
        if batch.origin is not None:
            batch.origin = batch.origin | np.int64(self.engine.files.index(path) << 40)
        return batch

    def _encoded(self, units: list[Unit]) -> Iterator[tuple[int, Unit, Encoded | None]]:
        """Yield the encoded batches of all units in order, after those of a unit (.., None).

        Reading and encoding go on in threads of their own while the engine judges, ``AHEAD``
        batches ahead at most.
        """
        encode = self.engine.encoder.encode
        ready: SimpleQueue[_Item] = SimpleQueue()
        room = Semaphore(AHEAD)
        stop = Event()

        def read() -> None:
            try:
                for number, unit in enumerate(units):
                    for raw in unit.batches():
                        room.acquire()
                        if stop.is_set():
                            return
                        ready.put((number, unit, pool.submit(encode, raw)))
                    ready.put((number, unit, None))
                ready.put(None)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
                ready.put(error)

        with ThreadPoolExecutor(self.engine.threads, thread_name_prefix="encode") as pool:
            reader = Thread(target=read, name="read", daemon=True)
            reader.start()
            try:
                while (item := self._next(ready)) is not None:
                    number, unit, job = item
                    if job is None:
                        yield number, unit, None
                        continue
                    with self.engine.stopwatch("wait for encoding"):
                        encoded = job.result()
                    room.release()
                    yield number, unit, encoded
            finally:
                stop.set()
                room.release()
                reader.join()

    def _next(self, ready: SimpleQueue[_Item]) -> tuple[int, Unit, Future[Encoded] | None] | None:
        with self.engine.stopwatch("wait for reading"):
            item = ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _tell(self, stage: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)

    def result(self, lang: str) -> Result:
        """Return what the engine found."""
        engine = self.engine
        files = [
            {"path": path, "bytes": Path(path).stat().st_size, "rows": self.rows_of.get(path, 0)}
            for path in self.source.files
        ]
        return Result(
            findings=engine.findings,
            exposure=engine.exposure_table(),
            graph_edges=engine.edges_table(),
            rejects=engine.reject_table,
            coverage=engine.coverage.table(),
            counts=dict(engine.counts),
            policy=engine.policy,
            registry=engine.registry,
            seconds_by_stage=dict(engine.stopwatch.seconds),
            files=files,
            live_codes=len(engine.shards),
            state_bytes=engine.shards.nbytes + engine.identity.nbytes,
            lang=lang,
            supply=engine.supply,
        )
