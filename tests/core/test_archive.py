"""Findings do not depend on which codes left the tables, and every code comes back whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.machine import registry_of
from tests.conformance.strategies import Case, Row, case_of, cases
from tests.conformance.test_placement import by_time, pieces, same, tree_of
from tests.reference.events import table_of
from tests.store.worlds import findings_after, registry, tables
from trace_engine.core.archive import UNIT, Archive, Away, MemoryUnits
from trace_engine.core.attributes import FIRST
from trace_engine.core.closing import Closing
from trace_engine.core.codetable import DEAD, LINE, SHARDS, find_or_add
from trace_engine.core.kernel import kernel
from trace_engine.core.movements import WAITING
from trace_engine.core.owners import Owners, push_owner
from trace_engine.core.past import last_events, shard_of
from trace_engine.core.returning import find_line, recall, recall_all, send_away
from trace_engine.core.shards import CodeShards
from trace_engine.engine import Engine
from trace_engine.registry import Registry
from trace_engine.store.archive import FolderUnits
from trace_engine.tracing import Tracer

TOTALS: Counter[str] = Counter()


def one_after_another(function: Any, items: Any) -> None:
    for item in items:
        function(item)


def closing(engine: Engine, days: int) -> Engine:
    """Have an engine archive whatever may go, every few days."""
    engine.closing = Closing(days, share=0)
    if engine.shards.archive is None:
        engine.shards.archive = Archive()
    return engine


def count(engine: Engine) -> None:
    archive = engine.shards.archive
    assert archive is not None
    TOTALS["archived"] += len(archive.units)
    TOTALS["returned"] += len(archive.returned())


def judged(engine: Engine, rows: list[Row], size: int) -> Engine:
    for piece in pieces(rows, size):
        engine.process(table_of(piece))
    return engine


# ---------------------------------------------------------------- findings


def every_way(case: Case, days: int, folder: Path, seed: int) -> None:
    """Hold engines that archive to one that does not: in one go, saved and loaded, merged."""
    known = registry_of(case.registry)
    rows = by_time(case.rows)
    size = 1 + seed % 7
    plain = judged(Engine(known), rows, size)
    plain.finish()
    expected = plain.findings

    one = closing(Engine(known, threads=1 + seed % 2), days)
    judged(one, rows, size).finish()
    same(one.findings, expected)
    count(one)

    half = len(rows) // 2
    on_disk = Archive(FolderUnits(folder / "archive")) if seed % 2 else None
    first = closing(Engine(known, archive=on_disk), days)
    judged(first, rows[:half], size).save(folder / "state")
    on_disk = Archive(FolderUnits(folder / "archive")) if seed % 2 else None
    second = Engine.load(folder / "state", known, close_after_days=days, archive=on_disk)
    judged(closing(second, days), rows[half:], size).finish()
    same(second.findings, expected)
    count(second)

    tree = tree_of(rows)
    roots = sorted(set(tree.values()))
    mine = set(roots[::2])
    engines = []
    for ours in (True, False):
        part = [row for row in rows if (tree[row["code"]] in mine) == ours]
        engine = closing(Engine(known), days)
        judged(engine, part, size).finish()
        engines.append(engine)
    engines[0].merge(engines[1])
    whole = Engine(known, lateness_days=None)
    judged(whole, rows, size).finish()
    same(engines[0].findings, whole.findings)


@settings(max_examples=max(4, settings().max_examples // 12))
@given(case=cases(codes=4, events=9), days=st.sampled_from([1, 2, 6]), seed=st.integers(0, 10**6))
def test_any_history(
    case: Case, days: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    every_way(case, days, tmp_path_factory.mktemp("archive"), seed)


@pytest.mark.parametrize("seed", range(2))
def test_many_codes(seed: int, tmp_path: Path) -> None:
    every_way(case_of(900 + seed, codes=40, events=9), 1, tmp_path, seed)
    assert TOTALS["archived"] > 20
    assert TOTALS["returned"] > 3


@pytest.mark.parametrize("threads", [1, 2])
def test_the_busy_month(threads: int) -> None:
    engine = closing(Engine(registry(), threads=threads), 1)
    same(
        findings_after(engine, tables()),
        findings_after(Engine(registry()), tables()),
    )
    assert engine.shards.archive is not None
    assert len(engine.shards.archive) > 300
    assert len(engine.shards.archive.returned()) > 0


# ---------------------------------------------------------------- saved and traced


def test_a_state_without_a_place_for_its_archive(tmp_path: Path) -> None:
    """Who only looks at a state takes its archive into memory; the folder stays as it is."""
    archive = Archive(FolderUnits(tmp_path / "archive"))
    engine = closing(Engine(registry(), archive=archive), 1)
    for table in tables():
        engine.process(table)
    engine.save(tmp_path / "state")
    files = {p.name: p.read_bytes() for p in (tmp_path / "archive").iterdir()}
    seen = Engine.load(tmp_path / "state", registry())
    assert seen.shards.archive is not None
    assert isinstance(seen.shards.archive.units, MemoryUnits)
    assert len(seen.shards.archive) == len(archive) > 0
    same(seen.findings, engine.findings)
    again = Engine.load(
        tmp_path / "state", registry(), archive=Archive(FolderUnits(tmp_path / "other"))
    )
    assert again.shards.archive is not None
    assert len(again.shards.archive) == len(archive)
    assert {p.name: p.read_bytes() for p in (tmp_path / "archive").iterdir()} == files


def test_what_was_archived_after_a_state_is_written_over(tmp_path: Path) -> None:
    def service() -> Archive:
        return Archive(FolderUnits(tmp_path / "archive"))

    half = len(tables()) // 2
    engine = closing(Engine(registry(), archive=service()), 1)
    for table in tables()[:half]:
        engine.process(table)
    engine.save(tmp_path / "state")
    for table in tables()[half:]:
        engine.process(table)  # lost
    engine = closing(Engine.load(tmp_path / "state", registry(), archive=service()), 1)
    expected = findings_after(Engine(registry()), tables())
    same(findings_after(engine, tables()[half:]), expected)
    engine.save(tmp_path / "state")
    same(Engine.load(tmp_path / "state", registry(), archive=service()).findings, expected)


@pytest.mark.parametrize("name", ["lines.bin", "keys.bin"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    from trace_engine.store.checkpoint import CheckpointError, check_state

    archive = Archive(FolderUnits(tmp_path / "archive"))
    engine = closing(Engine(registry(), archive=archive), 1)
    for table in tables()[:10]:
        engine.process(table)
    engine.save(tmp_path / "state")
    path = tmp_path / "archive" / name
    data = bytearray(path.read_bytes())
    assert len(data) > 100
    data[50] ^= 4
    path.write_bytes(data if damage == "changed" else data[:-1])
    with pytest.raises(CheckpointError, match=rf"{name}: damaged"):
        check_state(tmp_path / "state")


def test_archived_codes_are_traced() -> None:
    plain, engine = Engine(registry()), closing(Engine(registry()), 1)
    for some in (plain, engine):
        for table in tables():
            some.process(table)
    archive = engine.shards.archive
    assert archive is not None
    keys = next(iter(archive.units.codes()))
    codes = [engine.vocabulary.code_text(int(key)) for key in keys[:5]]
    live = [find_line(engine.shards, int(key)) for key in keys[:5]]
    ours, theirs = Tracer(plain), Tracer(engine)
    for code, line in zip(codes, live, strict=True):
        assert line is not None
        assert theirs.code(code) == ours.code(code)
    assert len(archive) == 0  # an index of all packs is made of live ones
    assert len(engine.shards) == len(plain.shards)


# ---------------------------------------------------------------- lines


@kernel
def _fill(table: Any, owners: Owners, keys: Any, parties: Any, sold: Any) -> None:
    for i in range(keys.shape[0]):
        row = find_or_add(table, keys[i])
        line = table.lines[row]
        for k in range(parties.shape[1]):
            if parties[i, k] >= 0:
                push_owner(line, owners, parties[i, k], True, False)
        line.last_seq = np.uint32(i)
        line.sales = np.uint8(1) if sold[i] else np.uint8(0)


def filled(codes: int, seed: int = 0) -> tuple[CodeShards, np.ndarray, dict[int, list[int]]]:
    """Shards with codes that had up to 50 owners; the codes; and their stacks of owners."""
    rng = np.random.default_rng(seed)
    shards = CodeShards()
    shards.archive = Archive()
    keys = np.unique(rng.integers(0, 10**19, codes, dtype=np.uint64))
    parties = rng.integers(0, 1000, (len(keys), 50)).astype(np.int32)
    parties[np.arange(50) >= rng.integers(0, 51, len(keys))[:, None]] = -1
    of_shard = shard_of(keys)
    for k, shard in enumerate(shards.shards):
        mine = of_shard == k
        shard.table.reserve(25 * int(mine.sum()))
        owners = Owners(shard.table.nodes, shard.table.used)
        sold = rng.random(int(mine.sum())) < 0.7
        _fill(shard.table.view(), owners, keys[mine], parties[mine], sold)
        shard.firsts.reserve(len(shard.table))
        shard.firsts.records["batch_no"] = rng.integers(0, 99, len(shard.firsts.records))
    return shards, keys, stacks(shards)


def stacks(shards: CodeShards) -> dict[int, list[int]]:
    """The owners of each live code, the latest first, and what it first carried."""
    found = {}
    for shard in shards.shards:
        nodes = shard.table.nodes
        for row in range(len(shard.table)):
            line = shard.table.lines[row]
            owners = [int(line["owner"]), int(line["previous"])]
            tail = int(line["tail"])
            while tail < -1:
                owners.append(int(nodes[-tail - 2, 0]))
                tail = int(nodes[-tail - 2, 1])
            owners.append(tail)
            found[int(line["key"])] = [
                *(party for party in owners if party >= 0),
                int(line["last_seq"]),
                int(line["sales"]),
                int(shard.firsts.records[row]["batch_no"]),
            ]
    return found


@pytest.mark.parametrize("disk", [False, True])
def test_lines_go_and_come_back(tmp_path: Path, disk: bool) -> None:
    shards, keys, before = filled(3000)
    assert shards.archive is not None
    if disk:
        shards.archive = Archive(FolderUnits(tmp_path))
    sent = send_away(shards, 2**40, 0, one_after_another)
    assert 1500 < sent == len(shards.archive) < 2500
    assert len(shards) == len(keys) - sent
    live = stacks(shards)
    assert all(before[key] == stack for key, stack in live.items())
    lines, last = last_events(shards, keys)
    assert (last >= 0).all()
    assert np.count_nonzero(lines < 0) == sent
    recall(shards, keys[:700])
    assert stacks(shards).items() >= {int(k): before[int(k)] for k in keys[:700]}.items()
    assert 0 < len(shards.archive) < sent
    again = send_away(shards, 2**40, 0, one_after_another)
    assert len(shards.archive) == sent
    assert 0 < again < 700
    restored = Archive(shards.archive.units)
    restored.restore(shards.archive.returned())
    assert len(restored) == sent
    assert restored.returned().tolist() == shards.archive.returned().tolist()
    shards.archive = restored
    recall_all(shards)
    assert len(restored) == 0
    assert stacks(shards) == before


def test_what_is_live_stays() -> None:
    shards, keys, before = filled(400)
    assert shards.archive is not None
    shard = shards.shards[0]
    table = shard.table
    table.lines["flags"][: len(table)] = DEAD
    table.lines["last_seq"][:5] = 0xFFFFFFFF  # nothing is known of them any more
    table.lines["last_seq"][5:10] = 1000
    waits = np.zeros(2, WAITING)
    waits["row"] = [12, len(table) - 1]
    shard.shipments.replace(waits[:1])
    shard.receipts.replace(waits[1:])
    waiting = table.lines["key"][waits["row"]].tolist()
    stay = {*waiting, *table.lines["key"][:10].tolist()}
    send_away(shards, 1000, 0, one_after_another)
    assert set(table.lines["key"][: len(table)].tolist()) == stay
    rows = [int(q.waiting()["row"][0]) for q in (shard.shipments, shard.receipts)]
    assert table.lines["key"][rows].tolist() == waiting
    assert len(before) == len(keys)


def test_a_shard_with_few_to_go_is_left_alone() -> None:
    shards, _, _ = filled(800)
    assert send_away(shards, 2**40, 0.9, one_after_another) == 0
    assert send_away(shards, 2**40, 0.3, one_after_another) > 0


def test_a_line_by_its_code() -> None:
    shards, keys, before = filled(200)
    send_away(shards, 2**40, 0, one_after_another)
    for key in keys.tolist():
        line = find_line(shards, key)
        assert line is not None
        assert line.shape == (1,)
        assert line.dtype == LINE
        assert int(line[0]["last_seq"]) == before[key][-3]
    assert find_line(shards, 5) is None


def unmixed(value: int) -> int:
    """The inverse of ``codetable.mix``."""
    mask = 2**64 - 1

    def unshift(x: int, by: int) -> int:
        y = x
        for _ in range(64 // by):
            y = x ^ (y >> by)
        return y

    x = unshift(value, 31)
    x = x * pow(0x94D049BB133111EB, -1, 2**64) & mask
    x = unshift(x, 27)
    x = x * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    return unshift(x, 30)


def test_codes_whose_entries_look_alike() -> None:
    """32 bits of the hash are in an entry: of codes that share them each is found all the same."""
    keys = np.array([unmixed((7 << 32) | (8 * i)) for i in range(40)], np.uint64)
    assert (shard_of(keys) == 0).all()
    archive = Archive()
    shards = CodeShards()
    shards.archive = archive
    table = shards.shards[0].table
    table.reserve(40)
    _fill(
        table.view(),
        Owners(table.nodes, table.used),
        keys[:30],
        np.zeros((30, 1), np.int32),
        np.ones(30, np.bool_),
    )
    shards.shards[0].firsts.reserve(30)
    assert send_away(shards, 2**40, 0, one_after_another) == 30
    which, _, _ = archive.away[0].matches(keys)
    assert len(which) == 40 * 30
    assert archive.last_of(keys).tolist() == [*range(30), *[-1] * 10]
    recall(shards, keys[5:9])
    assert archive.last_of(keys[:10]).tolist() == [0, 1, 2, 3, 4, -1, -1, -1, -1, 9]
    assert last_events(shards, keys)[1].tolist() == [*range(30), *[-1] * 10]


def test_entries_cost_little() -> None:
    away = Away()
    rng = np.random.default_rng(0)
    number = 0
    for _ in range(60):
        keys = rng.integers(0, 2**63, 5000, dtype=np.uint64)
        away.add(keys, np.arange(number, number + len(keys)))
        number += len(keys)
        if number > 50_000:
            assert away.slots.nbytes / number <= 13
    which, _, units = away.matches(keys)
    assert set(zip(which.tolist(), units.tolist(), strict=True)) >= {
        (i, number - 5000 + i) for i in range(5000)
    }


def test_days_are_counted_from_the_last_event() -> None:
    shards, keys, _ = filled(600)
    close = Closing(3, share=0)
    of_shard = shard_of(keys)
    largest = max(int((of_shard == k).sum()) for k in range(SHARDS))
    assert close.close(shards, 10, largest, one_after_another) == 0
    assert close.close(shards, 12, largest + 5, one_after_another) == 0
    assert close.close(shards, 13, largest + 5, one_after_another) > 300
    assert close.marks[0] == (10, largest)
    assert close.close(shards, 13, largest + 9, one_after_another) == 0
    assert close.marks[-1] == (13, largest + 9)
    with pytest.raises(ValueError, match="1 day or more"):
        Closing(0)


def test_units_are_eighty_bytes() -> None:
    assert UNIT.itemsize == LINE.itemsize + FIRST.itemsize + 4


def test_nothing_leaves_unless_asked() -> None:
    engine = Engine(Registry())
    assert engine.closing is None
    assert engine.shards.archive is None
    asked = Engine(Registry(), close_after_days=30)
    assert asked.closing is not None
    assert asked.closing.days == 30
    assert asked.findings.equals(pa.concat_tables([engine.findings]))
