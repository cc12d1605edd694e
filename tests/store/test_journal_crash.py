"""A process that appends is killed at random moments: what it was told is on disk is on disk."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from pathlib import Path

from trace_engine.store.journal import Journal

ROUNDS = 6

_CHILD = """
import hashlib, os, random, sys, threading
from trace_engine.store.journal import Journal
journal = Journal(sys.argv[1])
journal.taken(journal.last_offset)
lock = threading.Lock()
def send(seed):
    draw = random.Random(seed)
    while True:
        payload = draw.randbytes(draw.choice((10, 2_000, 60_000, 400_000)))
        batch = draw.randbytes(8).hex() if draw.random() < 0.5 else None
        offset = journal.append(payload, rows=1, batch_id=batch).result().offset
        digest = hashlib.sha256(payload).hexdigest()
        with lock:
            os.write(1, f"{offset} {batch} {digest}\\n".encode())
            journal.taken(offset)
            if offset % 50 == 0 and sys.argv[3] == "trim":
                journal.trim(offset - 40)
for k in range(4):
    threading.Thread(target=send, args=(f"{sys.argv[2]} {k}",)).start()
"""


def _run_and_kill(path: Path, seed: int, acknowledgements: int, mode: str) -> list[list[str]]:
    """Return what the child was told, up to the moment of its death."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, path, str(seed), mode], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
    finally:
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
    whole = (b"".join(lines) + rest).splitlines(keepends=True)
    return [line.decode().split() for line in whole if line.endswith(b"\n")]


def test_killed_at_random_moments_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    draw = random.Random(4)
    told: dict[int, tuple[str, str]] = {}
    for seed in range(ROUNDS):
        for offset, batch, digest in _run_and_kill(path, seed, draw.randrange(1, 120), "keep"):
            assert int(offset) not in told
            told[int(offset)] = (batch, digest)
    assert len(told) > 100
    journal = Journal(path)
    try:
        found: dict[int, tuple[str, str]] = {}
        while records := journal.read(len(found)):
            for record in records:
                digest = hashlib.sha256(record.payload).hexdigest()
                found[record.offset] = (str(record.batch_id), digest)
        assert list(found) == list(range(1, journal.last_offset + 1))
        assert {offset: found[offset] for offset in told} == told
        # Ids of batches are on disk with their records, also of those nobody was told of.
        for offset, (batch, digest) in found.items():
            if batch != "None":
                again = journal.append(b"", batch_id=batch, digest=digest).result()
                assert (again.offset, again.repeated) == (offset, True)
    finally:
        journal.close()


def test_killed_while_trimming(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    draw = random.Random(5)
    told: dict[int, str] = {}
    for seed in range(4):
        for offset, _, digest in _run_and_kill(path, seed, draw.randrange(60, 200), "trim"):
            assert int(offset) not in told
            told[int(offset)] = digest
    journal = Journal(path)
    try:
        assert journal.last_offset >= max(told)
        after = journal.first_offset - 1
        assert after > 0
        while records := journal.read(after):
            for record in records:
                assert record.offset == after + 1
                after = record.offset
                if after in told:
                    assert hashlib.sha256(record.payload).hexdigest() == told[after]
        assert after == journal.last_offset
    finally:
        journal.close()
