"""What callers ask of an engine at work: single codes, the network, the ranking, a sampling plan.

Whoever asks reads along: where an answer needs the engine to stand still, the asker is let in between
two slices (:class:`trace_engine.service.turns.Turns`).
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.cluster.shard import Shard
from trace_engine.core.fold import Exposure
from trace_engine.detectors.base import Family
from trace_engine.engine import Engine
from trace_engine.evidence.tables import exposure_table
from trace_engine.policy import Policy
from trace_engine.registry import Registry
from trace_engine.service.code_path import CodeReader
from trace_engine.service.inspected import InspectedRegistry
from trace_engine.service.neighbourhood import neighbourhood
from trace_engine.service.stores import Stores
from trace_engine.service.turns import StandsStill, Turns
from trace_engine.store.findings_table import FindingFilters

_logger = logging.getLogger(__name__)

EPOCH = dt.date(1970, 1, 1)
INDEX_SECONDS = 1.0
MOST_SUBJECTS = 10_000  # named to the database at once; beyond, it is asked for all
RANKING_SECONDS = 60.0  # at least so long between two rankings


def date_of(day: int | None) -> dt.date | None:
    """Return the date of a day since 1970; None of None."""
    return None if day is None else EPOCH + dt.timedelta(days=day)


@dataclass(frozen=True)
class Ranking:
    """The ranking as of a moment (schema as of ``ranking.rank``)."""

    table: pa.Table
    made_at: float
    closed_through: dt.date | None


class Questions:
    """Answers from an engine that goes on judging, and from the stores beside it. Thread-safe.

    Takes the place of the engine's guard, by which it is let in.
    """

    def __init__(self, engine: Engine, shard: Shard, stores: Stores) -> None:
        self.engine = engine
        self.shard = shard
        self.stores = stores
        self.findings = stores.findings
        self.registry: Registry = engine.registry
        self.policy: Policy = engine.policy
        self.turns = Turns()
        engine.guard = self.turns
        self._codes = CodeReader(engine, self.turns)
        self._ranking: Ranking | None = None
        self._ranking_lock = threading.Lock()

    def code_path(self, text: str) -> dict[str, Any] | None:
        """Return the whole path of a code and its standing; None if it was never seen."""
        return self._codes.path(text)

    def neighbourhood(
        self,
        enterprise_id: str,
        *,
        depth: int = 1,
        drug: str | None = None,
        since: dt.date | None = None,
        until: dt.date | None = None,
        most: int = 2000,
    ) -> dict[str, Any] | None:
        """Return nodes and edges around an enterprise; None if it was never seen."""
        if self.engine.vocabulary.parties.find(enterprise_id) < 0:
            return None
        with self.turns:
            edges = self.engine.supply.table(
                enterprise=enterprise_id, depth=depth, drug=drug, since=since, until=until
            )
        return neighbourhood(edges, enterprise_id, self.engine.view, self.engine.vocabulary, most)

    def ranking(self) -> Ranking:
        """Return the last ranking; the first call may wait for one to be made."""
        if (made := self._ranking) is not None:
            return made
        with self._ranking_lock:
            # Others may have waited for the first one too: one ranking does for all of them.
            return self._ranking or self._ranked()

    def refresh_ranking(self) -> Ranking:
        """Rank the sellers as of now and return the ranking."""
        with self._ranking_lock:
            return self._ranked()

    def _ranked(self) -> Ranking:
        """Make a ranking and keep it. Hold ``_ranking_lock``."""
        from trace_engine.ranking import rank

        with self.turns:
            closed = self.shard.closed_through
            exposure = Exposure()
            exposure.totals = self.engine.exposure.totals.copy()
        table = rank(
            self.findings.for_ranking(),
            exposure_table(exposure, self.engine.vocabulary),
            self._inspected(),
            self.policy,
        )
        self._ranking = Ranking(table, time.time(), date_of(closed))
        return self._ranking

    def plan(self, budget: int, seed: int = 0, as_of: dt.date | None = None) -> pa.Table:
        """Return a sampling plan of what is known now (see :func:`trace_engine.sampling.plan`).

        ``as_of`` is by default the day of the last event judged.
        """
        from trace_engine.sampling.planning import FINDING_COLUMNS, candidates, plan

        sellers = self.refresh_ranking().table
        if as_of is None:
            last = pc.max(sellers["last_time"]).as_py()
            as_of = EPOCH if last is None else last.date()
        inspected = self._inspected()
        # Whole findings are read of those alone who may be chosen: of all there are, they would
        # take seconds and hundreds of megabytes.
        subjects: list[str] | None = candidates(
            sellers,
            self.findings.for_ranking(),
            inspected,
            self.policy,
            budget=budget,
            as_of=as_of,
        )
        if subjects is not None and len(subjects) > MOST_SUBJECTS:
            subjects = None
        findings = self.findings.table(
            FindingFilters(family=str(Family.SUSPECTED_VIOLATION)), subjects, FINDING_COLUMNS
        )
        return plan(
            sellers, findings, inspected, self.policy, budget=budget, seed=seed, as_of=as_of
        )

    def _inspected(self) -> InspectedRegistry:
        return InspectedRegistry(self.registry, self.stores.outcomes.all())

    # ---- kept ready, each in a thread of its own -------------------------------------------------

    def _rank_until(self, stop: threading.Event) -> None:
        """Renew the ranking when something was judged since the last one."""
        made_of: tuple[int, int | None] | None = None
        while not stop.wait(RANKING_SECONDS):
            try:
                now = (self.findings.last_number(), self.shard.closed_through)
                if now == made_of or self._ranking is None:
                    continue  # nobody has asked yet, or nothing changed
                self.refresh_ranking()
                made_of = now
            except StandsStill:
                continue  # its cause was told
            except Exception:  # the database may be away for a while
                _logger.exception("the ranking could not be renewed")

    def _index_until(self, stop: threading.Event) -> None:
        """Keep events that wait for their day findable by code."""
        while not stop.wait(INDEX_SECONDS):
            try:
                self._codes.refresh()
            except Exception:  # what is not sorted is looked through
                _logger.exception("held events could not be sorted")
