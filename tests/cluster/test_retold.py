"""What is sent again is counted once, however long ago its day was closed."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from tests.cluster.test_shard import all_findings, cut, fed, record, shard_of
from tests.conformance.casefile import world_rows
from tests.conformance.machine import registry_of
from tests.conformance.strategies import Row
from tests.conformance.test_placement import by_time, everything, same
from trace_engine.cluster.shard import Shard
from trace_engine.engine import Engine
from trace_engine.registry import Registry
from trace_engine.store.eventlog import FolderLog

CODE = "81234560000000000017"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of(world_rows())


def sale(number: str, day: str, **more: Any) -> Row:
    return {
        "event_id": number,
        "event_time": f"2026-{day} 10:00:00",
        "event_type": "retail_sale",
        "code": CODE,
        "actor_id": "P1",
        **more,
    }


def counted(shard: Shard) -> tuple[int, int, int]:
    counts = shard.engine.counts
    assert counts["rows"] == counts["events"] + counts["duplicates"] + counts["rejects"]
    return counts["events"], counts["duplicates"], counts["rejects"]


@pytest.mark.parametrize("seed", range(4))
def test_resending_changes_nothing(registry: Registry, seed: int) -> None:
    rows = by_time(everything())
    dice = random.Random(seed)
    once, again = shard_of(registry), shard_of(registry)
    sent: list[Any] = []
    resent, seen = 0, 0
    for part in cut(rows, 200, seed):
        sent.append(part)
        seen += len(part)
        if dice.random() < 0.3:
            begin = dice.randrange(seen)
            old = rows[begin : min(begin + dice.randrange(1, 80), seen)]
            sent.append(dice.sample(old, len(old)))
            resent += len(old)
    expected = all_findings(fed(once, cut(rows, 200, seed)))
    closed = fed(again, sent)
    same(all_findings(closed), expected)
    assert not any(late for found in closed for late in found.late)
    events, duplicates, rejects = counted(once)
    assert resent > 100
    found = counted(again)
    # What was refused is refused again; all else is a duplicate.
    assert (found[0], found[1] + found[2]) == (events, duplicates + rejects + resent)
    assert found[1] > duplicates + resent // 2


@pytest.mark.parametrize("later", ["03-05", "03-20", "07-01"])
def test_a_sale_sent_again_is_no_second_sale(later: str, tmp_path: Any) -> None:
    for log in (None, FolderLog(tmp_path / "log")):
        engine = Engine(lateness_days=None, keep_hits=False, hits_at_once=0, log=log)
        engine.files = ["journal"]
        shard = Shard(engine)
        closed = fed(
            shard,
            [
                [sale("s1", "03-02")],
                [sale("x", later, code="81234560000000000024")],
                [sale("s1", "03-02"), sale("s1", "03-02")],
                [sale("y", "12-01", code="81234560000000000031")],
            ],
        )
        assert counted(shard) == (3, 2, 0)
        assert "duplicate_sale" not in all_findings(closed)["detector"].to_pylist()


def test_another_content_under_an_id_told_before_is_refused() -> None:
    shard = shard_of()
    rejects: list[pa.Table] = []
    for rows in (
        [sale("s1", "03-02", buyer_id="a")],
        [sale("x", "03-09", code="81234560000000000024")],
        [sale("s1", "03-02", buyer_id="b"), sale("s1", "03-02", unit_price="3.00")],
        [sale("s1", "03-01")],
        [sale("y", "03-20", code="81234560000000000031")],
    ):
        shard.take(record(shard, rows))
        rejects.append(shard.engine.reject_table)
        shard.engine.forget_output()
    shard.advance((shard.latest_day or 0) + 1)
    assert counted(shard) == (3, 0, 3)
    assert set(pa.concat_tables(rejects)["reason"].to_pylist()) == {"event_id_conflict"}


def test_a_late_event_told_twice_at_once_is_one() -> None:
    shard = shard_of()
    fed(
        shard,
        [
            [sale("w", "03-06", code="81234560000000000055")],
            [sale("x", "03-09", code="81234560000000000024")],
            [sale("s1", "03-02"), sale("s1", "03-02"), sale("s2", "03-02", actor_id="P2")],
            [sale("s2", "03-02", actor_id="P2")],
            [sale("y", "03-20", code="81234560000000000031")],
            [sale("s1", "03-02")],
            [sale("z", "03-30", code="81234560000000000048")],
        ],
    )
    assert counted(shard) == (6, 3, 0)
    assert shard.engine.counts["late"] == 5
    assert int(shard.engine.identity.entries()[1].max()) < 1 << 20
