"""One shard: an engine fed record by record, in the order of its offsets.

What a shard finds depends on the order of its records alone. Days close only when a record raises
the latest day seen; what is late waits for the next closing. So a record may be handed over alone
or with a thousand others, before a restart or after it: the findings and their ids are the same.
The journal of the HTTP service, a partition of a Kafka topic and a shard of a cluster are all fed
this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from trace_engine.engine import Engine
from trace_engine.events.batch import DAY, EventBatch
from trace_engine.events.encode import Encoded
from trace_engine.evidence.findings import SHANGHAI_OFFSET

MOST_PIECES = 256  # batches held back before the small ones are joined
SMALL_PIECE = 1 << 16  # rows; larger ones are left as they are


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing days brought.

    ``findings`` follows the schema FINDINGS; ``late`` (one for each) says whether it rests on an
    event that came when its day had been closed. ``through`` is the last day closed, in days since
    1970-01-01.
    """

    findings: pa.Table
    late: list[bool]
    through: int


class Shard:
    """An engine, and the rule by which days close.

    Parameters
    ----------
    engine
        Made with ``lateness_days=None, keep_hits=False, hits_at_once=0``.
    lateness_days
        A day closes once an event that many days (and one) later has been seen.
    future_days
        Events dated more than this many days after they were received are held for their day but
        do not raise the latest day seen: one wrong clock must not close every day of the market.
        None: no limit.
    """

    def __init__(
        self, engine: Engine, lateness_days: int = 2, future_days: int | None = None
    ) -> None:
        if engine.keep_hits or engine.hits_at_once or engine.lateness_days is not None:
            raise ValueError("a shard's engine keeps no hits and closes no day by itself")
        self.engine = engine
        self._retold: set[str | None] = set()
        engine.retold_ids = self._retold
        self.lateness_days = lateness_days
        self.future_days = future_days
        self.latest_day: int | None = None
        self.rows = 0  # rows of all records taken

    @property
    def closed_through(self) -> int | None:
        """Last day closed, in days since 1970-01-01."""
        return self.engine.clock_day

    def late_rows(self, batch: EventBatch) -> int:
        """Return how many events of ``batch`` are of days that are closed already."""
        if self.engine.clock_day is None:
            return 0
        return int(np.count_nonzero(batch.time < (self.engine.clock_day + 1) * DAY))

    def hold(self, encoded: Encoded, received_at: int = 0) -> int | None:
        """Take a record's events and return the day before which days may now close, if any.

        ``received_at`` (µs, UTC) is when the record was accepted, 0 unknown. Follow with
        :meth:`close` before the next record.
        """
        engine, batch = self.engine, encoded.batch
        if batch.origin is not None:
            # Rows of a shard are numbered through, whichever record they came in.
            batch.origin = batch.origin + np.int64(self.rows)
        self.rows += encoded.rows_in
        engine.counts["rows"] += encoded.rows_in
        engine.add_rejects(encoded.rejects)
        if len(batch) == 0:
            return None
        latest = self._latest(batch, received_at)
        engine.buffer.add(batch)
        if len(engine.buffer.pieces) > MOST_PIECES:
            engine.buffer.join(SMALL_PIECE)
        if latest is None or (self.latest_day is not None and latest <= self.latest_day):
            return None
        self.latest_day = latest
        before = latest - self.lateness_days
        first = engine.buffer.first_day()
        return before if first is not None and first < before else None

    def close(self, before: int) -> Closed:
        """Judge all days before ``before`` (days since 1970-01-01)."""
        engine = self.engine
        late_ids = self._late_ids()
        findings = engine.advance(before)
        engine.built_findings.clear()
        late = [False] * findings.num_rows
        late_ids -= self._retold  # they were there in time
        self._retold.clear()
        if late_ids:
            late = [not late_ids.isdisjoint(ids) for ids in findings["event_ids"].to_pylist()]
        through = engine.clock_day if engine.clock_day is not None else before - 1
        return Closed(findings, late, through)

    def _late_ids(self) -> set[str | None]:
        """Return the ids of events that are held and whose day was closed before they came."""
        closed = self.engine.clock_day
        found: set[str | None] = set()
        if closed is not None:
            for piece in self.engine.buffer.pieces:
                rows = np.arange(np.searchsorted(piece.time, (closed + 1) * DAY))
                found.update(piece.text("event_id", rows))
        return found

    def take(self, encoded: Encoded, received_at: int = 0) -> Closed | None:
        """Take a record and return what it closed; None if it closed no day."""
        before = self.hold(encoded, received_at)
        return None if before is None else self.close(before)

    def advance(self, day: int) -> Closed | None:
        """Close all days before ``day`` by hand; None if no event was waiting for it.

        Days after it close as before, when events that are later still have been seen.
        """
        first = self.engine.buffer.first_day()
        if first is None or first >= day:
            return None
        if self.latest_day is None or self.latest_day < day - 1:
            self.latest_day = day - 1
        return self.close(day)

    def _latest(self, batch: EventBatch, received_at: int) -> int | None:
        times = batch.time
        if self.future_days is not None and received_at > 0:
            limit = ((received_at + SHANGHAI_OFFSET) // DAY + self.future_days + 1) * DAY
            times = times[times < limit]
        return int(times.max()) // DAY if len(times) else None

    def values(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the shard beside its engine."""
        return {
            "latest_day": self.latest_day,
            "rows": self.rows,
            "lateness_days": self.lateness_days,
            "future_days": self.future_days,
        }

    def other_rules(self, values: dict[str, Any]) -> list[str]:
        """Return by which rules days close otherwise than where :meth:`values` come from."""
        own = self.values()
        return [n for n in ("lateness_days", "future_days") if values.get(n, own[n]) != own[n]]

    def restore(self, values: dict[str, Any]) -> None:
        """Take over what :meth:`values` gave."""
        self.latest_day, self.rows = values["latest_day"], int(values["rows"])
