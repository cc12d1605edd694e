"""Findings do not depend on how, where or in which order events arrive."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.casefile import all_cases, world_rows
from tests.conformance.machine import registry_of, run_engine
from tests.conformance.strategies import Case, Row, case_of, cases
from tests.reference.events import moment, table_of
from trace_engine.detectors.registry import detector_classes
from trace_engine.engine import Engine
from trace_engine.registry import Registry


def moved_code(code: str, number: int) -> str:
    """Return a code that stands for ``code`` in the case of this number alone."""
    if len(code) == 20 and code.isdigit():
        return f"{code[:7]}{number:04d}{code[11:]}"
    return f"{code}{number}"


@lru_cache(maxsize=1)
def everything() -> tuple[Row, ...]:
    """Return the events of all hand-made cases as one input, each on codes and bills of its own."""
    rows = []
    for number, case in enumerate(all_cases()):
        if case.history_from is not None:
            continue
        for row in case.rows:
            moved = dict(row)
            for name in ("code", "parent_code"):
                if name in row:
                    moved[name] = moved_code(row[name], number)
            for name in ("event_id", "voids_event_id", "bill_code", "order_code", "buyer_id"):
                if name in row:
                    moved[name] = f"{number}/{row[name]}"
            if row.get("batch_no") == "L9":  # the batch whose books are kept: each case its own
                moved["batch_no"] = f"{number}/L9"
            rows.append(moved)
    return tuple(rows)


def findings_of(rows: Sequence[Row], registry: Registry, threads: int = 1) -> pa.Table:
    """Return the findings of an input taken at once."""
    return run_engine(rows, registry, threads=threads).findings


def same(left: pa.Table, right: pa.Table) -> None:
    """Hold two tables of findings to each other, byte for byte."""
    if left.equals(right):
        return
    mine, theirs = ({repr(row): row for row in table.to_pylist()} for table in (left, right))
    only_left = [row for text, row in mine.items() if text not in theirs]
    only_right = [row for text, row in theirs.items() if text not in mine]
    raise AssertionError(f"only left: {only_left[:2]}\nonly right: {only_right[:2]}")


def by_time(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: moment(row["event_time"]))


def pieces(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def fed(rows: Sequence[Sequence[Row]], registry: Registry, lateness: int | None) -> Engine:
    """Return an engine that has taken several tables, one after another."""
    engine = Engine(registry, lateness_days=lateness, keep_hits=True)
    for piece in rows:
        engine.process(table_of(piece))
    engine.finish()
    return engine


# ---------------------------------------------------------------- the comparisons


def shuffled(rows: Sequence[Row], registry: Registry, seed: int) -> pa.Table:
    """Shuffle rows, cut them anywhere, and let nothing be judged before the end."""
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)
    return fed(pieces(mixed, 1 + len(mixed) // 5), registry, None).findings


def streamed(rows: Sequence[Row], registry: Registry, size: int) -> pa.Table:
    """Take rows in order of time, judging each day as soon as may be."""
    return fed(pieces(by_time(rows), size), registry, 2).findings


def resumed(rows: Sequence[Row], registry: Registry, folder: Path, share: float) -> pa.Table:
    """Stop half-way, save, load into a fresh engine, go on."""
    ordered = by_time(rows)
    cut = int(len(ordered) * share)
    first = Engine(registry, keep_hits=True)
    for piece in pieces(ordered[:cut], 7 + len(rows) // 40):
        first.process(table_of(piece))
    first.save(folder)
    second = Engine.load(folder, registry, keep_hits=True)
    for piece in pieces(ordered[cut:], 11 + len(rows) // 40):
        second.process(table_of(piece))
    second.finish()
    return second.findings


def tree_of(rows: Sequence[Row]) -> dict[str, str]:
    """Return for each code one that stands for all it was ever packed with."""
    above: dict[str, str] = {}

    def root(code: str) -> str:
        while above.get(code, code) != code:
            code = above[code]
        return code

    for row in rows:
        if row.get("parent_code"):
            above[root(row["code"])] = root(row["parent_code"])
    return {row["code"]: root(row["code"]) for row in rows}


def merged(rows: Sequence[Row], registry: Registry, first_takes_over: bool) -> pa.Table:
    """Split the codes over two engines, what was packed together together, and merge."""
    engines = []
    tree = tree_of(rows)
    for half in (0, 1):
        mine = [row for row in rows if zlib.crc32(tree[row["code"]].encode()) % 2 == half]
        engines.append(fed([mine] if mine else [], registry, 2))
    ours, theirs = engines if first_takes_over else engines[::-1]
    ours.merge(theirs)
    return ours.findings


# ---------------------------------------------------------------- all detectors, made to fire


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of(world_rows())


@pytest.fixture(scope="module")
def whole(registry: Registry) -> pa.Table:
    return findings_of(everything(), registry)


def test_every_detector_fires_in_this_input(whole: pa.Table) -> None:
    ours = {name for name, cls in detector_classes().items() if "trace_engine." in cls.__module__}
    assert set(whole["detector"].to_pylist()) >= ours


def test_again(whole: pa.Table, registry: Registry) -> None:
    same(findings_of(everything(), registry), whole)


def test_two_threads(whole: pa.Table, registry: Registry) -> None:
    same(findings_of(everything(), registry, threads=2), whole)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled(whole: pa.Table, registry: Registry, seed: int) -> None:
    same(shuffled(everything(), registry, seed), whole)


@pytest.mark.parametrize("size", [1, 17, 400])
def test_streamed(whole: pa.Table, registry: Registry, size: int) -> None:
    if size == 1:  # one event a batch is slow: the last of the cases will do
        rows = everything()[-60:]
        same(streamed(rows, registry, 1), findings_of(rows, registry))
        return
    same(streamed(everything(), registry, size), whole)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_saved_and_loaded(
    whole: pa.Table, registry: Registry, tmp_path: Path, share: float
) -> None:
    same(resumed(everything(), registry, tmp_path / "state", share), whole)


@pytest.mark.parametrize("first_takes_over", [True, False])
def test_split_by_code_and_merged(
    whole: pa.Table, registry: Registry, first_takes_over: bool
) -> None:
    same(merged(everything(), registry, first_takes_over), whole)


def test_what_process_returns_is_what_is_found(whole: pa.Table, registry: Registry) -> None:
    engine = Engine(registry, keep_hits=True)
    returned = [engine.process(table_of(piece)) for piece in pieces(by_time(everything()), 400)]
    returned.append(engine.finish())
    ids = pa.concat_tables(returned)["finding_id"].to_pylist()
    assert sorted(ids) == sorted(whole["finding_id"].to_pylist())
    assert len(set(ids)) == len(ids)


def test_input_is_not_written_to(registry: Registry) -> None:
    table = table_of(everything())
    before = table.to_pylist()
    engine = Engine(registry, keep_hits=True)
    engine.process(table)
    engine.finish()
    assert table.to_pylist() == before


# ---------------------------------------------------------------- random histories


def all_ways(case: Case, folder: Path, seed: int) -> None:
    """Hold every way of taking a case to taking it at once."""
    registry = registry_of(case.registry)
    rows = case.rows
    if not rows:
        return
    whole = findings_of(rows, registry)
    same(findings_of(rows, registry, threads=2), whole)
    same(shuffled(rows, registry, seed), whole)
    same(streamed(rows, registry, 1 + seed % 9), whole)
    same(resumed(rows, registry, folder / f"state{seed}", 0.5), whole)
    same(merged(rows, registry, seed % 2 == 0), whole)


@settings(max_examples=max(15, settings().max_examples // 4))
@given(case=cases(codes=4, events=8), seed=st.integers(0, 10**6))
def test_any_history_in_any_way(
    case: Case, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    all_ways(case, tmp_path_factory.mktemp("ways"), seed)


@pytest.mark.parametrize("seed", range(2))
def test_many_codes_in_any_way(seed: int, tmp_path: Path) -> None:
    all_ways(case_of(1000 + seed, codes=120, events=10), tmp_path, seed)
