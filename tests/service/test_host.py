"""The host gives what batch scoring gives, whatever happens to it in between."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trace_engine.events.findings import REJECTS
from trace_engine.events.privacy import KEY_VARIABLE
from trace_engine.events.raw import RawBatch
from trace_engine.readers.payload import admit
from trace_engine.scoring import Result, score
from trace_engine.service import questions
from trace_engine.service.host import EngineHost
from trace_engine.service.settings import ServiceSettings
from trace_engine.simulate import simulate
from trace_engine.store import checkpoint
from trace_engine.store.backup import backup_file
from trace_engine.store.checkpoint import CheckpointError
from trace_engine.store.findings_table import FindingFilters
from trace_engine.store.journal import JournalError
from trace_engine.store.migrate import StoreError
from trace_engine.tracing import Tracer
from trace_engine.tracing.live import find_code

EVENTS = 6000


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    simulate(EVENTS, 5, folder)
    return folder


@pytest.fixture(scope="module")
def events(market: Path) -> pa.Table:
    table = pa.concat_tables([pq.read_table(p) for p in sorted((market / "events").iterdir())])
    return table.sort_by("event_time")


@pytest.fixture(scope="module")
def expected(market: Path) -> Result:
    return score(str(market / "events"), registry=str(market / "registry"))


def open_host(data: Path, market: Path, close_after_days: int = 180) -> EngineHost:
    host = EngineHost.open(
        ServiceSettings(
            data=data,
            registry=market / "registry",
            future_days=9999,
            close_after_days=close_after_days,
        )
    )
    host.start()
    return host


def send(host: EngineHost, table: pa.Table) -> int:
    batch = table.combine_chunks().to_batches()[0]
    encoded, payload = admit(RawBatch(batch, "request", 1), REJECTS.empty_table(), host.encoder)
    return host.submit(encoded, payload).result(10).offset


def pieces(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def close_all(host: EngineHost) -> None:
    latest = host.status().watermark
    assert latest is not None
    offset = host.advance(latest).result(10).offset
    assert host.wait_taken(offset, 60) is not None


def by_id(table: pa.Table) -> pa.Table:
    return table.sort_by("finding_id").combine_chunks()


def stored(host: EngineHost) -> pa.Table:
    return by_id(host.findings.table(FindingFilters()))


def finished(host: EngineHost, last: int) -> None:
    assert host.wait_taken(last, 120) is not None
    close_all(host)


def test_findings_equal_batch_scoring(
    tmp_path: Path,
    market: Path,
    events: pa.Table,
    expected: Result,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = open_host(tmp_path, market)
    last = [send(host, piece) for piece in pieces(events, 500)][-1]
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    status = host.status()
    counts = status.counts
    assert counts["rows"] == events.num_rows
    assert counts["rows"] == counts["events"] + counts["duplicates"] + counts["rejects"]
    assert (status.ready, status.pending_events, status.error) == (True, 0, None)
    assert host.refresh_ranking().table.equals(expected.sellers)
    as_of = expected.last_date
    read: list[int] = []
    table = host.findings.table

    def counted(*given: Any) -> pa.Table:
        found = table(*given)
        read.append(found.num_rows)
        return found

    monkeypatch.setattr(host.findings, "table", counted)
    for budget in (0, 3, 30, 3000):
        made = host.plan(budget, seed=3, as_of=as_of)
        assert made.equals(expected.plan(budget, seed=3, as_of=as_of))
    assert host.plan(30).equals(host.plan(30, as_of=as_of))
    assert read[0] == 0
    assert 0 < read[1] < read[3]  # findings of those alone who may be chosen
    monkeypatch.setattr(questions, "MOST_SUBJECTS", 1)  # more than can be named at once
    assert host.plan(30, seed=3).equals(expected.plan(30, seed=3, as_of=as_of))
    assert read[-1] >= read[3]
    host.close()


def test_restarts_change_nothing(
    tmp_path: Path, market: Path, events: pa.Table, expected: Result
) -> None:
    host = open_host(tmp_path, market)
    last = 0
    for number, piece in enumerate(pieces(events, 400)):
        last = send(host, piece)
        if number % 6 == 5:
            host.close()
            host = open_host(tmp_path, market)
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    assert host.status().findings == host.findings.count() == expected.findings.num_rows
    assert host.status().counts["rows"] == events.num_rows
    host.close()


def test_what_is_sent_again_changes_nothing(
    tmp_path: Path, market: Path, events: pa.Table, expected: Result
) -> None:
    """Without ids of batches, days after they were closed, and after a restart too."""
    dice = random.Random(5)
    host = open_host(tmp_path, market)
    sent = resent = 0
    for number, piece in enumerate(pieces(events, 100)):
        last = send(host, piece)
        sent += piece.num_rows
        if dice.random() < 0.3:
            begin = dice.randrange(sent)
            again = events.slice(begin, min(dice.randrange(1, 300), sent - begin))
            last = send(host, again)
            resent += again.num_rows
        if number == events.num_rows // 200:
            host.close()
            host = open_host(tmp_path, market)
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    counts = host.status().counts
    assert resent > 1000
    assert counts["events"] == expected.counts["events"]
    assert counts["duplicates"] + counts["rejects"] == resent + (
        expected.counts["duplicates"] + expected.counts["rejects"]
    )
    host.close()


def test_codes_long_closed_leave_memory_and_change_nothing(
    tmp_path: Path, market: Path, events: pa.Table, expected: Result
) -> None:
    host = open_host(tmp_path, market, close_after_days=1)
    last, away = 0, 0
    for number, piece in enumerate(pieces(events, 400)):
        last = send(host, piece)
        if number % 6 == 5:
            assert host.wait_taken(last, 60) is not None
            away = max(away, len(host.stores.archive))
            host.close()
            host = open_host(tmp_path, market, close_after_days=1)
    finished(host, last)
    assert away > 0
    assert stored(host).equals(by_id(expected.findings))
    archived = [c for c in events["code"].to_pylist() if is_away(host, c)]
    told = host.code_path(archived[0])
    assert told is not None
    assert told["judged"] > 0
    host.close()


def is_away(host: EngineHost, code: str) -> bool:
    found = find_code(host.engine, code)
    return found is not None and host.stores.archive.line_of(found[1]) is not None


def test_a_lost_checkpoint_is_made_up_for_by_the_journal(
    tmp_path: Path,
    market: Path,
    events: pa.Table,
    expected: Result,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = open_host(tmp_path, market)
    parts = list(pieces(events, 400))
    for number, piece in enumerate(parts[:-3]):
        last = send(host, piece)
        if number in (4, 9):
            host.wait_taken(last, 60)
            host.checkpoint_now()
    host.close()
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    damaged = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    host = open_host(tmp_path, market)
    assert "checkpoint left out" in caplog.text
    last = [send(host, piece) for piece in parts[-3:]][-1]
    finished(host, last)
    assert stored(host).equals(by_id(expected.findings))
    host.close()


def test_a_code_is_told_judged_and_held(tmp_path: Path, market: Path, events: pa.Table) -> None:
    host = open_host(tmp_path, market)
    half = events.num_rows // 2
    last = [send(host, piece) for piece in pieces(events.slice(0, half), 500)][-1]
    host.wait_taken(last, 60)
    known = events.slice(0, half)["code"].to_pylist()
    tracer = Tracer(host.engine)
    seen = {"judged": 0, "held": 0}
    for code in dict.fromkeys([*known[:40], *known[-40:]]):
        told = host.code_path(code)
        assert told is not None
        ids = [event["event_id"] for event in told["path"]]
        assert len(ids) == len(set(ids))
        seen["judged"] += told["judged"] > 0
        seen["held"] += told["held"] > 0
        if told["judged"]:
            trace = tracer.code(code)
            judged = [e for e in told["path"] if e["judged"]]
            assert [e["event_id"] for e in judged] == [e["event_id"] for e in trace.path]
            assert (told["place"], told["batch_no"] or "") == (trace.place, trace.batch)
    assert min(seen.values()) > 0
    assert host.code_path("81234567890123456789") is None
    host.close()


def test_the_engine_runs_where_its_priority_may_not_be_set(
    tmp_path: Path, market: Path, events: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", denied)
    host = open_host(tmp_path, market)
    assert host.wait_taken(send(host, events.slice(0, 10)), 60) is not None
    assert host.status().ready
    host.close()


def test_questions_are_answered_while_the_state_is_written(
    tmp_path: Path, market: Path, events: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(tmp_path, market)
    finished(host, send(host, events.slice(10)))
    writing, answered = threading.Event(), threading.Event()
    plain = checkpoint.write_arrays

    def slow(*args: Any, **options: Any) -> dict[str, Any]:
        writing.set()
        assert answered.wait(30)
        return plain(*args, **options)

    monkeypatch.setattr(checkpoint, "write_arrays", slow)
    assert host.wait_taken(send(host, events.slice(0, 10)), 60) is not None
    saved: list[int] = []
    saver = threading.Thread(target=lambda: saved.append(host.checkpoint_now(60)))
    saver.start()
    assert writing.wait(30)
    enterprise = events["actor_id"][0].as_py()
    asked: list[Any] = []

    def ask() -> None:
        with host.turns:  # as for a code that is packed
            asked.append("packed")
        asked.append(host.refresh_ranking().table.num_rows)
        asked.append(host.neighbourhood(enterprise))
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    saver.join(60)
    assert len(asked) == 3
    assert saved == [host.journal.last_offset]
    host.close()


def test_a_neighbourhood_is_cut_where_it_is_too_large(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    host = open_host(tmp_path, market)
    last = send(host, events.slice(0, 3000))
    finished(host, last)
    centre = host.refresh_ranking().table["enterprise_id"][0].as_py()
    whole = host.neighbourhood(centre)
    assert whole is not None
    assert whole["edges"]
    assert all(centre in (e["source_id"], e["target_id"]) for e in whole["edges"])
    cut = host.neighbourhood(centre, most=1)
    assert cut is not None
    assert len(cut["edges"]) == 1
    assert cut["left_out"] == len(whole["edges"]) - 1
    assert host.neighbourhood("nobody") is None
    host.close()


def other_registry(market: Path, tmp_path: Path) -> Path:
    """Return a copy of the registry with one enterprise more, at the front."""
    folder = tmp_path / "registry"
    shutil.copytree(market / "registry", folder)
    path = next(folder.glob("enterprises.*"))
    text = path.read_text("utf-8-sig").splitlines()
    added = text[1].split(",")
    added[0] = "A-NEW-ONE"
    path.write_text("\n".join([text[0], ",".join(added), *text[1:]]) + "\n", "utf-8")
    return folder


def taken(host: EngineHost) -> EngineHost:
    """Wait until the host has taken what is in the journal."""
    assert host.wait_taken(host.journal.last_offset, 60) is not None
    return host


def test_a_newer_registry_holds_from_the_next_orderly_start_on(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    data = tmp_path / "data"
    newer = ServiceSettings(data=data, registry=other_registry(market, tmp_path), future_days=9999)
    host = open_host(data, market)
    first = send(host, events.slice(0, 3000))
    assert host.wait_taken(first, 60) is not None
    host.close()
    host = open_host(data, market)
    host.loop.stop()  # as if killed: what comes now is in the journal only
    send(host, events.slice(3000, 100))
    host.stores.close()
    with pytest.raises(CheckpointError, match="another registry, and 1 records came after"):
        EngineHost.open(newer)
    taken(open_host(data, market)).close()
    host = EngineHost.open(newer)
    host.start()
    last = send(host, events.slice(3100))
    finished(host, last)
    assert host.status().counts["rows"] == events.num_rows
    assert host.engine.view.party_name(host.engine.vocabulary.parties.find("A-NEW-ONE"))
    told = host.code_path(events["code"][0].as_py())
    assert told is not None
    assert told["path"][0]["source_name"] or told["path"][0]["target_name"]
    host.close()


def killed(data: Path, market: Path, events: pa.Table) -> None:
    """Leave a data folder with a record that no saved state knows of."""
    host = open_host(data, market)
    host.loop.stop()
    send(host, events)
    host.stores.close()


def test_days_close_by_the_same_rules_when_records_are_taken_again(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    """By others the findings of a record would be those of another, and grow by themselves."""
    data = tmp_path / "data"
    killed(data, market, events.slice(0, 3000))
    for name in ("lateness_days", "future_days"):
        days = {"lateness_days": 2, "future_days": 9999} | {name: 7}
        settings = ServiceSettings(
            data=data,
            registry=market / "registry",
            lateness_days=days["lateness_days"],
            future_days=days["future_days"],
        )
        with pytest.raises(CheckpointError, match=f"another {name}, and 1 records came after"):
            EngineHost.open(settings)
    taken(open_host(data, market)).close()
    settings = ServiceSettings(
        data=data, registry=market / "registry", future_days=9999, lateness_days=7
    )
    EngineHost.open(settings).close()


def test_before_the_first_checkpoint_the_registry_is_the_same_too(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    data = tmp_path / "data"
    killed(data, market, events.slice(0, 100))
    newer = ServiceSettings(data=data, registry=other_registry(market, tmp_path), future_days=9999)
    with pytest.raises(CheckpointError, match="another registry, and 1 records came after"):
        EngineHost.open(newer)


def test_a_lost_key_of_pseudonyms_is_not_replaced_in_silence(
    tmp_path: Path,
    market: Path,
    events: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    host = open_host(tmp_path, market)
    send(host, events.slice(0, 100))
    host.close()
    key = tmp_path / "hash.key"
    assert key.stat().st_mode & 0o777 == 0o600
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(StoreError, match=r"hash\.key: missing"):
        open_host(tmp_path, market)
    assert not key.exists()
    key.write_bytes(kept)
    open_host(tmp_path, market).close()
    assert "key of pseudonyms" not in caplog.text
    monkeypatch.setenv(KEY_VARIABLE, "another key, of thirty-two characters")
    open_host(tmp_path, market).close()
    assert "another key of pseudonyms than before" in caplog.text
    assert "thirty-two" not in caplog.text
    states = (path.read_bytes() for path in (tmp_path / "checkpoints").rglob("state.json"))
    assert not any(b"thirty-two" in state or kept.strip() in state for state in states)


def test_what_the_journal_refuses_fails_the_future(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    """So that the caller hears of it the same way, whenever the journal stopped."""
    host = open_host(tmp_path, market)
    host.journal._fail("the disk is gone")
    with pytest.raises(JournalError, match="the disk is gone"):
        assert host.wait_taken(send(host, events.slice(0, 10)), 60) is not None
    host.close()


def test_the_ranking_outlives_a_database_that_is_away(
    tmp_path: Path, market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "RANKING_SECONDS", 0.01)
    host = open_host(tmp_path, market)
    made_at = host.refresh_ranking().made_at
    plain = host.findings.last_number
    asked = []

    def last_number() -> int:
        asked.append(1)
        if len(asked) < 3:
            raise OSError("no route to the database")
        return plain()

    monkeypatch.setattr(host.findings, "last_number", last_number)
    end = time.monotonic() + 20
    while host.ranking().made_at == made_at:
        assert time.monotonic() < end
        time.sleep(0.01)
    host.close()


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    tmp_path: Path, market: Path, events: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(tmp_path, market)
    assert host.wait_taken(send(host, events.slice(0, 500)), 60) is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.stores, "save", full)
    host.close()
    host = open_host(tmp_path, market)
    assert host.wait_taken(host.journal.last_offset, 60) is not None
    assert host.status().counts["rows"] == 500
    host.close()


def test_a_database_older_than_the_state_is_refused(
    tmp_path: Path, market: Path, events: pa.Table
) -> None:
    host = open_host(tmp_path, market)
    first = send(host, events.slice(0, 2000))
    assert host.wait_taken(first, 60) is not None
    host.close()
    older = tmp_path / "older.sqlite3"
    backup_file(tmp_path / "trace-engine.sqlite3", older)
    host = open_host(tmp_path, market)
    second = send(host, events.slice(2000, 2000))
    assert host.wait_taken(second, 60) is not None
    host.close()
    for path in tmp_path.glob("trace-engine.sqlite3*"):
        path.unlink()
    older.rename(tmp_path / "trace-engine.sqlite3")
    with pytest.raises(CheckpointError, match="findings up to record 1 only"):
        open_host(tmp_path, market)


def test_who_asks_for_the_first_ranking_together_waits_for_one(
    tmp_path: Path, market: Path, events: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(tmp_path, market)
    assert host.wait_taken(send(host, events.slice(0, 500)), 60) is not None
    real, made = host.findings.for_ranking, []
    asking = threading.Semaphore(0)

    class Lock:
        """Tells who has come to it before it lets them in one by one."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            asking.release()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def for_ranking() -> pa.Table:
        made.append(threading.get_ident())
        return real()

    monkeypatch.setattr(host.findings, "for_ranking", for_ranking)
    monkeypatch.setattr(host, "_ranking_lock", Lock())
    rankings: list[questions.Ranking] = []
    askers = [threading.Thread(target=lambda: rankings.append(host.ranking())) for _ in range(4)]
    with host._ranking_lock:  # all of them find that there is none yet
        for asker in askers:
            asker.start()
        for _ in range(1 + len(askers)):
            assert asking.acquire(timeout=30)
    for asker in askers:
        asker.join(30)
    assert len(made) == 1
    assert len(rankings) == 4
    assert all(ranking is rankings[0] for ranking in rankings)
    assert host.refresh_ranking() is not rankings[0]
    assert len(made) == 2
    host.close()
