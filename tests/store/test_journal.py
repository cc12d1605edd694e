from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from trace_engine.store import journal_upkeep
from trace_engine.store.journal import (
    ADVANCE,
    EVENTS,
    MOST_PAYLOAD_BYTES,
    Appended,
    BatchConflict,
    Journal,
    JournalError,
    JournalFull,
    JournalUnwritable,
)

SECONDS = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path)
    # What it tidies at the start would wait for a test that holds the file.
    until(lambda: opened._housekeeping.pause() > 0)
    yield opened
    opened.close()


class Holding:
    """Holds the write lock of the file, so that what is appended meanwhile waits in the queue."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.connection.execute("ROLLBACK")
        self.connection.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads do on their own, and nobody tells."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_records_come_back_in_order(journal: Journal) -> None:
    assert journal.last_offset == 0
    assert journal.read(0) == []
    before = time.time_ns() // 1000
    assert journal.append(b"one", rows=3).result() == Appended(1, repeated=False)
    journal.append(b"2026-01-01", kind=ADVANCE, received_at=77).result()
    journal.append(bytearray(b"three"), rows=1, batch_id="b", digest=b"\x01").result()
    first, second, third = journal.read(0)
    assert (first.offset, first.kind, first.rows, first.batch_id) == (1, EVENTS, 3, None)
    assert before <= first.received_at <= time.time_ns() // 1000
    assert (second.kind, second.received_at, second.payload) == (ADVANCE, 77, b"2026-01-01")
    assert (third.offset, third.batch_id, third.payload) == (3, "b", b"three")
    assert journal.read(2) == [third]
    assert journal.read(3) == journal.read(99) == []
    assert (journal.first_offset, journal.last_offset) == (1, 3)


def test_read_stops_after_about_the_bytes_asked_for(journal: Journal) -> None:
    for future in [journal.append(bytes(1000)) for _ in range(10)]:
        future.result()
    assert [record.offset for record in journal.read(0, 2500)] == [1, 2, 3]
    assert [record.offset for record in journal.read(4, 1)] == [5]


def test_a_batch_is_stored_once(journal: Journal) -> None:
    first = journal.append(b"body", batch_id="b").result()
    assert journal.append(b"body", batch_id="b").result() == Appended(first.offset, repeated=True)
    assert journal.append(b"other", batch_id="c").result().offset == 2
    with pytest.raises(BatchConflict, match="batch 'b' was stored at offset 1 with another"):
        journal.append(b"changed", batch_id="b").result()
    assert (journal.last_offset, journal.waiting_bytes) == (2, 9)


def test_a_batch_is_stored_once_within_one_commit(path: Path, journal: Journal) -> None:
    with Holding(path):
        futures = [journal.append(b"x")]  # taken by the writer, who waits for the lock
        futures += [journal.append(b"y", batch_id="b", digest="d") for _ in range(3)]
        conflict = journal.append(b"y", batch_id="b", digest="e")
    results = [future.result(SECONDS) for future in futures]
    assert [result.offset for result in results] == [1, 2, 2, 2]
    assert [result.repeated for result in results] == [False, False, True, True]
    with pytest.raises(BatchConflict):
        conflict.result(SECONDS)


def test_everything_survives_closing(path: Path, journal: Journal) -> None:
    identity = journal.identity
    for part in (b"a", b"b", b"c"):
        journal.append(part, rows=2, batch_id=part.decode()).result()
    assert journal.trim(1) == 1
    journal.close()
    again = Journal(path)
    try:
        assert again.identity == identity
        assert (again.first_offset, again.last_offset) == (2, 3)
        assert [record.payload for record in again.read(1)] == [b"b", b"c"]
        # All that is there waits until the loop says from where it goes on.
        assert (again.waiting_rows, again.waiting_bytes) == (4, 2)
        again.taken(2)
        assert again.waiting_rows == 2
        # The batch of the trimmed record is still known.
        assert again.append(b"a", batch_id="a").result() == Appended(1, repeated=True)
        assert again.append(b"d").result().offset == 4
    finally:
        again.close()


def test_offsets_go_on_after_all_was_trimmed(path: Path, journal: Journal) -> None:
    journal.append(b"a").result()
    assert journal.trim(1) == 1
    until(lambda: journal._housekeeping.pause() > 0)
    journal.close()
    again = Journal(path)
    try:
        assert (again.first_offset, again.last_offset) == (2, 1)
        assert again.append(b"b").result().offset == 2
    finally:
        again.close()


def test_trimmed_records_are_not_skipped_silently(journal: Journal) -> None:
    for _ in range(3):
        journal.append(b"a").result()
    assert journal.trim(2) == 2
    assert journal.trim(2) == journal.trim(1) == 0
    assert [record.offset for record in journal.read(2)] == [3]
    with pytest.raises(JournalError, match="records up to 2 were forgotten, asked for what is af"):
        journal.read(1)
    with pytest.raises(ValueError, match="cannot forget up to 9"):
        journal.trim(9)


def test_wait_returns_when_a_record_is_durable(journal: Journal) -> None:
    assert not journal.wait(0, 0.01)
    seen = []
    waiting = threading.Thread(target=lambda: seen.append(journal.wait(0, SECONDS)))
    waiting.start()
    journal.append(b"a")
    waiting.join()
    assert seen == [True]
    assert journal.read(0)[0].payload == b"a"


def test_wait_ends_when_the_journal_closes(path: Path) -> None:
    journal = Journal(path)
    seen = []
    waiting = threading.Thread(target=lambda: seen.append(journal.wait(0, SECONDS)))
    waiting.start()
    journal.close()
    waiting.join()
    assert seen == [False]
    with pytest.raises(JournalError, match="closed"):
        journal.append(b"a")


def test_too_much_waiting_is_refused(path: Path) -> None:
    journal = Journal(path, most_waiting_bytes=100, most_waiting_rows=10)
    try:
        journal.append(bytes(90), rows=1).result()
        with pytest.raises(JournalFull) as refused:
            journal.append(bytes(20), rows=1)
        assert 0 < refused.value.retry_after <= 60
        with pytest.raises(JournalFull):
            journal.append(b"", rows=10)
        assert journal.last_offset == 1
        journal.taken(1)
        assert journal.append(bytes(20), rows=10).result().offset == 2
        # A repeated batch takes no room once it is recognised.
        journal.taken(2)
        for _ in range(5):
            journal.append(bytes(40), rows=5, batch_id="b").result()
        assert (journal.waiting_bytes, journal.waiting_rows) == (40, 5)
    finally:
        journal.close()


def test_a_cancelled_record_leaves_nothing(path: Path, journal: Journal) -> None:
    with Holding(path):
        first = journal.append(b"a")
        until(first.running)
        second, third = journal.append(b"bb", rows=7), journal.append(b"c")
        assert second.cancel()
    assert (first.result(SECONDS).offset, third.result(SECONDS).offset) == (1, 2)
    with pytest.raises(CancelledError):
        second.result()
    assert [record.payload for record in journal.read(0)] == [b"a", b"c"]
    assert (journal.waiting_bytes, journal.waiting_rows) == (2, 0)


def test_close_stores_what_was_let_in(path: Path) -> None:
    journal = Journal(path)
    futures = [journal.append(b"a%d" % k) for k in range(500)]
    journal.close()
    assert sorted(future.result(0).offset for future in futures) == list(range(1, 501))
    journal.close()


def test_large_payloads(journal: Journal) -> None:
    large = os.urandom(1 << 20) * 64
    assert len(large) == MOST_PAYLOAD_BYTES
    journal.append(large).result()
    assert journal.read(0, 1)[0].payload == large
    with pytest.raises(ValueError, match="at most"):
        journal.append(large + b"x")


def test_many_threads_get_offsets_without_holes(journal: Journal) -> None:
    given: list[tuple[int, bytes]] = []

    def send(thread: int) -> None:
        for k in range(100):
            payload = b"%d:%d" % (thread, k)
            given.append((journal.append(payload).result().offset, payload))

    threads = [threading.Thread(target=send, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    seen: list[tuple[int, bytes]] = []
    while len(seen) < 800:
        assert journal.wait(len(seen), SECONDS)
        seen += [(record.offset, record.payload) for record in journal.read(len(seen), 200)]
    for thread in threads:
        thread.join()
    assert seen == sorted(given)
    assert [offset for offset, _ in seen] == list(range(1, 801))


def test_only_one_process_may_have_it(path: Path, journal: Journal) -> None:
    with pytest.raises(JournalError, match="in use by another process"):
        Journal(path)
    other = subprocess.run(
        [sys.executable, "-c", f"""
from trace_engine.store.journal import Journal, JournalError
try:
    Journal({str(path)!r})
except JournalError as error:
    print(error)
"""],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.splitlines() == [
        f"{path}: the journal is in use by another process (process id {os.getpid()})"
    ]
    journal.append(b"a").result()
    journal.close()
    Journal(path).close()


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"no database at all, but long enough to have a header" * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(text)
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(JournalError, match="is a database, but no journal"):
        Journal(other)
    newer = tmp_path / "newer"
    Journal(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(JournalError, match="journal of format 2, expected 1"):
        Journal(newer)


def test_a_hole_is_noticed(path: Path) -> None:
    journal = Journal(path)
    for _ in range(3):
        journal.append(b"a").result()
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM record WHERE number = 2")
    connection.close()
    with pytest.raises(JournalError, match="record 2 is missing"):
        Journal(path)
    with pytest.raises(JournalError, match="record 2 is missing"):  # and the lock was let go
        Journal(path)


def test_the_file_is_its_owners_alone(path: Path, journal: Journal) -> None:
    journal.append(b"a").result()
    files = list(path.parent.iterdir())
    assert len(files) == 4  # itself, its lock, its WAL and the index of that
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 4


def test_a_full_disk_fails_only_what_did_not_fit(path: Path, journal: Journal) -> None:
    journal.append(b"a", batch_id="a").result()
    pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
    journal._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    refused = journal.append(bytes(1 << 20), rows=5, batch_id="b")
    with pytest.raises(JournalUnwritable, match="full; nothing was stored") as error:
        refused.result(SECONDS)
    assert not error.value.permanent
    assert journal.failure is None
    assert (journal.waiting_bytes, journal.waiting_rows) == (1, 0)
    assert journal.append(b"c").result().offset == 2
    journal._writer.execute("PRAGMA max_page_count = 100000")
    assert journal.append(bytes(1 << 20), batch_id="b").result() == Appended(3, repeated=False)
    assert [len(record.payload) for record in journal.read(0)] == [1, 1, 1 << 20]


def test_what_cannot_become_a_row_fails_alone(journal: Journal) -> None:
    """Whoever appended it hears of it, and the writer goes on."""
    refused = journal.append(b"a", rows=3, batch_id="no \ud800 text")
    with pytest.raises(JournalUnwritable, match="nothing was stored") as error:
        refused.result(SECONDS)
    assert not error.value.permanent
    assert (journal.waiting_bytes, journal.waiting_rows) == (0, 0)
    assert journal.append(b"b").result(SECONDS).offset == 1


def test_a_file_held_by_another_is_written_later(path: Path, journal: Journal) -> None:
    journal._writer.execute("PRAGMA busy_timeout = 10")
    with Holding(path):
        refused = journal.append(b"a")
        with pytest.raises(JournalUnwritable, match="locked") as error:
            refused.result(SECONDS)
    assert not error.value.permanent
    assert journal.append(b"a").result(SECONDS).offset == 1


_LIMITED = """
import resource, signal, sys
from trace_engine.store.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1])
journal.append(b"first").result()
queued = []
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for size in (2 << 20, 10):
    try:
        print(journal.append(bytes(size)).result())
    except JournalError as error:
        print(type(error).__name__, error.permanent)
print(journal.failure is not None, len(journal.read(0)), journal.last_offset)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.close()
journal = Journal(sys.argv[1])
print([len(record.payload) for record in journal.read(0)], journal.append(b"again").result().offset)
journal.close()
"""


def test_an_error_of_the_disk_stops_the_journal_until_it_is_opened_anew(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "JournalUnwritable True",
        "JournalUnwritable True",
        "True 1 1",
        "[5] 2",
    ], done.stderr


def test_trimming_gives_space_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_upkeep, "SPACE_CHECK_SECONDS", 0.05)
    journal = Journal(path, spare_bytes=1 << 20)
    try:
        for _ in range(40):
            journal.append(os.urandom(1 << 20)).result()
        assert journal.trim(39) == 39
        until(lambda: path.stat().st_size < 8 << 20)
        journal.append(b"a").result()
        assert [len(record.payload) for record in journal.read(39)] == [1 << 20, 1]
    finally:
        journal.close()


def test_old_ids_of_batches_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, batch_days=1.0)
    for k in range(3):
        journal.append(b"a", batch_id=f"b{k}").result()
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE batch SET seen_at = seen_at - 90000 WHERE batch_id != 'b2'")
    connection.close()
    journal = Journal(path, batch_days=1.0)
    try:
        until(lambda: journal._housekeeping.pause() > 0)
        assert journal.append(b"a", batch_id="b2").result().repeated
        assert not journal.append(b"other", batch_id="b0").result().repeated
    finally:
        journal.close()


def test_the_wal_begins_anew_under_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_upkeep, "LONG_WAL_BYTES", 2 << 20)
    monkeypatch.setattr(journal_upkeep, "LONG_WAL_SECONDS", 0.0)
    monkeypatch.setattr(journal_upkeep, "CHECKPOINT_BYTES", 1 << 20)
    journal = Journal(path)
    wal = path.with_name("journal.sqlite-wal")
    try:
        payload = os.urandom(64 << 10)
        pending = [journal.append(payload) for _ in range(4)]
        for _ in range(600):  # 38 MiB, never a pause
            pending.append(journal.append(payload))
            pending.pop(0).result()
        assert wal.stat().st_size < 24 << 20
    finally:
        journal.close()
