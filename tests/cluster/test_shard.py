"""What a shard finds depends on the order of its records, and on nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import pytest

from tests.conformance.casefile import world_rows
from tests.conformance.machine import registry_of, run_engine
from tests.conformance.strategies import Row
from tests.conformance.test_placement import by_time, everything, same
from tests.reference.events import DAY, moment, table_of
from trace_engine.cluster.shard import Closed, Shard
from trace_engine.engine import Engine
from trace_engine.events.encode import Encoded
from trace_engine.events.raw import RawBatch
from trace_engine.registry import Registry


def shard_of(registry: Registry | None = None, **options: int) -> Shard:
    engine = Engine(registry, lateness_days=None, keep_hits=False, hits_at_once=0)
    engine.files = ["journal"]
    return Shard(engine, **options)


def record(shard: Shard, rows: Sequence[Row]) -> Encoded:
    batch = table_of(rows).combine_chunks().to_batches()[0]
    return shard.engine.encoder.encode(RawBatch(batch, "request", 1))


def fed(shard: Shard, records: Sequence[Sequence[Row]]) -> list[Closed]:
    """Feed records, then close every day."""
    closed = [found for rows in records if (found := shard.take(record(shard, rows)))]
    last = shard.advance((shard.latest_day or 0) + 1)
    return [*closed, last] if last else closed


def all_findings(closed: Sequence[Closed]) -> pa.Table:
    tables = pa.concat_tables([c.findings for c in closed])
    return tables.sort_by([("event_time", "ascending"), ("finding_id", "ascending")])


def cut(rows: Sequence[Row], count: int, seed: int) -> list[Sequence[Row]]:
    """Cut rows anywhere into about ``count`` records."""
    marks = sorted(random.Random(seed).sample(range(1, len(rows)), count))
    return [rows[a:b] for a, b in pairwise([0, *marks, len(rows)])]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of(world_rows())


def test_findings_equal_those_of_one_batch(registry: Registry) -> None:
    rows = by_time(everything())
    expected = run_engine(rows, registry).findings
    shard = shard_of(registry)
    closed = fed(shard, cut(rows, 300, 1))
    found = all_findings(closed)
    same(found, expected.sort_by([("event_time", "ascending"), ("finding_id", "ascending")]))
    assert not any(late for c in closed for late in c.late)


def test_micro_batches_do_not_matter(registry: Registry) -> None:
    """Records may be cut anew where the latest day does not rise."""
    rows = by_time(everything())
    days = [moment(row["event_time"]) // DAY for row in rows]
    marks = [i for i in range(1, len(rows)) if days[i] > max(days[:i])]
    coarse = [rows[a:b] for a, b in pairwise([0, *marks, len(rows)])]
    fine = [piece for some in coarse for piece in (some[:1], some[1:3], some[3:]) if piece]
    ours, theirs = (fed(shard_of(registry), records) for records in (coarse, fine))
    assert [c.through for c in ours] == [c.through for c in theirs]
    for left, right in zip(ours, theirs, strict=True):
        same(left.findings, right.findings)


def test_late_events_wait_for_the_next_closing_and_are_marked(registry: Registry) -> None:
    rows = by_time(everything())
    findings = run_engine(rows, registry).findings.to_pylist()
    sold_again = [f for f in findings if f["detector"] == "duplicate_sale"]
    late_ids = {f["event_ids"][-1] for f in sold_again[:3]}
    late = [row for row in rows if row["event_id"] in late_ids]
    rest = [row for row in rows if row["event_id"] not in late_ids]
    after = max(moment(row["event_time"]) for row in late) // DAY + 5
    early = [row for row in rest if moment(row["event_time"]) // DAY <= after]
    shard = shard_of(registry)
    assert shard.take(record(shard, early)) is not None
    judged = shard.engine.counts["events"]
    assert shard.late_rows(record(shard, late).batch) == len(late)
    assert shard.take(record(shard, late)) is None  # held, not judged by itself
    assert shard.engine.counts["events"] == judged
    closed = fed(shard, [rest[len(early) :]])
    counts = shard.engine.counts
    assert counts["late"] == len(late)
    assert counts["rows"] == counts["events"] + counts["duplicates"] + counts["rejects"]
    marked = [
        finding
        for c in closed
        for finding, is_late in zip(c.findings.to_pylist(), c.late, strict=True)
        if is_late
    ]
    assert all(late_ids & set(finding["event_ids"]) for finding in marked)
    assert late_ids == {f["event_ids"][-1] for f in marked if f["detector"] == "duplicate_sale"}


def test_a_wrong_clock_closes_no_day() -> None:
    """An event of next year is held for its day; the days of today stay open."""
    rows = by_time(everything())[:50]
    shard = shard_of(future_days=1)
    day = moment(rows[-1]["event_time"]) // DAY
    received = (day + 1) * DAY - 8 * 3600 * 1_000_000  # the end of that day in Shanghai, as UTC
    shard.take(record(shard, rows), received)
    latest = shard.latest_day
    wrong = dict(rows[-1], event_id="from the future", event_time="2099-01-01 00:00:00")
    assert shard.take(record(shard, [wrong]), received) is None
    assert shard.latest_day == latest
    unlimited = shard_of()
    unlimited.take(record(unlimited, rows), received)
    assert unlimited.take(record(unlimited, [wrong]), received) is not None
    assert unlimited.latest_day != latest


def test_an_engine_that_closes_days_by_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="closes no day"):
        Shard(Engine())
