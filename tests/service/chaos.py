"""Kill the service at random moments under load, and hold what comes out to an undisturbed run.

    python -m tests.service.chaos --kills 200        (make chaos)

A sender posts batches in order, each under an id of its own, and sends a batch again until it is
acknowledged; now and then it sends one again that was acknowledged long ago, or some rows of long
ago without any id, which the service cannot know from new ones but by what is in them. A killer
sends SIGKILL while the service starts, replays, takes batches, closes days or saves its state. At
the end every acknowledged row must have been counted once, and the findings must equal those of
batch scoring.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.scoring import Result, score
from trace_engine.simulate import simulate
from trace_engine.store.database import Database
from trace_engine.store.findings_table import FindingFilters, FindingStore

START_SECONDS = 180.0
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


class Service:
    """A ``trace-engine serve`` process that is started again after each kill."""

    def __init__(self, data: Path, registry: Path, checkpoint_seconds: float = 1.0) -> None:
        self.data = data
        self.command = [
            sys.executable, "-m", "trace_engine", "serve", "--data", str(data),
            "--registry", str(registry), "--port", "0",
        ]  # fmt: skip
        self.environment = dict(
            os.environ,
            TRACE_ENGINE_CHECKPOINT_SECONDS=str(checkpoint_seconds),
            TRACE_ENGINE_FUTURE_DAYS="36500",
            TRACE_ENGINE_RATE_PER_ADDRESS="100000/second",
            TRACE_ENGINE_ACCESS_LOG="false",
        )
        self.log = data.with_suffix(".log")
        self.process: subprocess.Popen[str] | None = None
        self.url: str | None = None
        self.spawned = threading.Event()

    def start(self) -> None:
        """Start a process; :meth:`wait_url` says where it listens."""
        self.url = None
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.spawned.set()

    def wait_url(self) -> str | None:
        """Read the address from standard output; None if the process ended before."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := _URL.search(line):
                self.url = found.group()
                return self.url
        return None

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.url = None

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@dataclass
class Report:
    """What happened."""

    kills: int = 0
    by_moment: dict[str, int] = field(default_factory=dict)
    acknowledged_rows: int = 0
    resent: int = 0
    stray_rows: int = 0  # sent again without the id of a batch, and acknowledged
    unanswered_rows: int = 0  # so sent, and a kill kept the answer back
    seconds: float = 0.0


class Chaos:
    """One run: ``kills`` kills spread over the batches of a market."""

    def __init__(
        self, folder: Path, events: pa.Table, registry: Path, kills: int, seed: int
    ) -> None:
        self.random = random.Random(seed)
        self.service = Service(folder / "service", registry)
        self.events = events
        self.batches = self._cut(events, kills)
        self.kills = kills
        self.report = Report()
        self._done = threading.Event()

    def _cut(self, events: pa.Table, kills: int) -> list[bytes]:
        """Cut the events into batches of random sizes: some ten for each kill."""
        mean = max(1, events.num_rows // max(10 * kills, 20))
        batches, start = [], 0
        while start < events.num_rows:
            size = self.random.randint(1, 2 * mean)
            batches.append(_stream(events.slice(start, size)))
            start += size
        return batches

    def run(self) -> Report:
        """Send everything while being killed; leave the service running with all of it taken."""
        began = time.monotonic()
        self.service.start()
        killer = threading.Thread(target=self._kill_on, daemon=True)
        sender = threading.Thread(target=self._send_all, daemon=True)
        sender.start()
        killer.start()
        killer.join()
        sender.join()
        self.report.seconds = time.monotonic() - began
        return self.report

    # ---- the killer ----------------------------------------------------------------------------

    def _kill_on(self) -> None:
        for _ in range(self.kills):
            moment = self.random.choices(("start", "replay", "load", "checkpoint"), (1, 2, 5, 2))[0]
            self._await(moment)
            self.service.kill()
            self.report.kills += 1
            self.report.by_moment[moment] = self.report.by_moment.get(moment, 0) + 1
            self.service.start()
        self._done.set()

    def _await(self, moment: str) -> None:
        if moment == "start":
            time.sleep(self.random.uniform(0, 3))
            return
        url = self.service.wait_url()
        if url is None:
            raise AssertionError(
                f"the service did not start: {self.service.log.read_text()[-3000:]}"
            )
        if moment == "replay":
            time.sleep(self.random.uniform(0, 0.2))
            return
        end = time.monotonic() + self.random.uniform(0.1, 2.5)
        folder = self.service.data / "checkpoints"
        seen = set(folder.iterdir()) if folder.exists() else set()
        while time.monotonic() < end:
            time.sleep(0.002)
            if moment == "checkpoint" and folder.exists() and set(folder.iterdir()) - seen:
                return  # one is being written

    # ---- the sender ----------------------------------------------------------------------------

    def _send_all(self) -> None:
        """Send every batch in order; the last tenth waits for the last kill."""
        acknowledged: list[int] = []
        for number in range(len(self.batches)):
            if number > len(self.batches) * (self.report.kills + 1) / (self.kills + 1):
                self._idle(acknowledged)
            self._send(number)
            acknowledged.append(number)
            if self.random.random() < 0.05:
                self._send(self.random.choice(acknowledged), again=True)
            if self.random.random() < 0.05:
                self._send_stray()
        self._done.wait()

    def _idle(self, acknowledged: list[int]) -> None:
        """Keep the service busy with batches it knows until the next kill."""
        kills = self.report.kills
        while self.report.kills == kills and not self._done.is_set():
            self._send(self.random.choice(acknowledged), again=True)

    def _send_stray(self) -> None:
        """Send some rows again without an id, once; killed meanwhile, they may count or not."""
        url, most = self.service.url, self.report.acknowledged_rows
        start = self.random.randrange(most)
        rows = self.events.slice(start, min(self.random.randint(1, 300), most - start))
        if url is None:
            return
        try:
            answer = httpx.post(
                f"{url}/v1/events", params={"wait": 0}, content=_stream(rows), headers=ARROW
            )
        except httpx.HTTPError:
            self.report.unanswered_rows += rows.num_rows
            return
        if answer.status_code == 200:
            self.report.stray_rows += answer.json()["rows"]

    def _send(self, number: int, *, again: bool = False) -> None:
        known = False
        while True:
            url = self.service.url
            if url is None:
                if self._done.is_set() and self.service.wait_url() is None:
                    raise AssertionError("the service ended")
                time.sleep(0.01)
                known = True  # it may have been stored before the kill
                continue
            try:
                answer = httpx.post(
                    f"{url}/v1/events",
                    params={"wait": 0},
                    content=self.batches[number],
                    headers={**ARROW, "idempotency-key": f"batch-{number}"},
                    timeout=30,
                )
            except httpx.HTTPError:
                known = True
                continue
            if answer.status_code in (429, 503):
                time.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert said["repeated"] or not again, "an acknowledged batch was lost"
            assert known or again or not said["repeated"], "a batch was counted before it was sent"
            if again:
                self.report.resent += 1
            else:
                self.report.acknowledged_rows += said["rows"]
            return

    # ---- afterwards ----------------------------------------------------------------------------

    def finish(self) -> tuple[pa.Table, dict[str, int]]:
        """Close every day, stop orderly; return all findings as stored, and the counts."""
        url = self.service.url or self.service.wait_url()
        assert url is not None
        with httpx.Client(base_url=url, timeout=120) as client:
            deadline = time.monotonic() + START_SECONDS
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            latest = self._taken(client)["watermark"]
            answer = client.post("/v1/watermark", json={"close_through": latest})
            assert answer.is_success, answer.text
            counts: dict[str, int] = self._taken(client)["counts"]
        assert self.service.stop() == 0
        database = Database.open(f"sqlite:///{self.service.data / 'trace-engine.sqlite3'}")
        try:
            return FindingStore(database).table(FindingFilters()), counts
        finally:
            database.close()

    def _taken(self, client: httpx.Client) -> dict[str, Any]:
        while True:
            status: dict[str, Any] = client.get("/v1/status").json()
            if status["taken_offset"] == status["last_offset"]:
                return status
            time.sleep(0.02)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def market(folder: Path, events: int, seed: int) -> tuple[pa.Table, Result]:
    """Simulate a market; return its events by time and what batch scoring finds."""
    simulate(events, seed, folder)
    table = pa.concat_tables([pq.read_table(p) for p in sorted((folder / "events").iterdir())])
    result = score(str(folder / "events"), registry=str(folder / "registry"))
    return table.sort_by("event_time"), result


def check(chaos: Chaos, expected: Result) -> Report:
    """Run ``chaos`` and hold its outcome to batch scoring."""
    report = chaos.run()
    findings, counts = chaos.finish()
    rows = expected.counts["rows"]
    assert report.acknowledged_rows == rows, (report.acknowledged_rows, rows)
    assert {name: counts[name] for name in ("events", "rejects")} == {
        name: expected.counts[name] for name in ("events", "rejects")
    }
    strays = counts["rows"] - rows
    assert report.stray_rows <= strays <= report.stray_rows + report.unanswered_rows
    assert counts["duplicates"] - expected.counts["duplicates"] == strays
    assert counts["late"] <= strays
    ours, theirs = (
        table.sort_by("finding_id").combine_chunks() for table in (findings, expected.findings)
    )
    assert ours["finding_id"].equals(theirs["finding_id"])
    assert ours.equals(theirs), difference(ours, theirs)
    return report


def difference(ours: pa.Table, theirs: pa.Table) -> str:
    """Say in which columns findings of the same ids differ, with the first case of each."""
    lines = []
    for name in theirs.schema.names:
        pairs = zip(ours[name].to_pylist(), theirs[name].to_pylist(), strict=True)
        wrong = [(row, pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]]
        if wrong:
            row, (found, expected) = wrong[0]
            detector = theirs["detector"][row].as_py()
            lines.append(f"{name}: {len(wrong)} differ, first ({detector}): {found} != {expected}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trace-engine-chaos-") as name:
        folder = Path(name)
        events, expected = market(folder / "market", given.events, given.seed)
        chaos = Chaos(folder, events, folder / "market" / "registry", given.kills, given.seed)
        report = check(chaos, expected)
    print(
        f"{report.kills} kills ({report.by_moment}), {report.acknowledged_rows} rows acknowledged, "
        f"{report.resent} batches and {report.stray_rows} stray rows sent again: "
        f"nothing lost, nothing counted twice, {expected.findings.num_rows} findings equal batch "
        f"scoring ({report.seconds:.0f} s)"
    )


if __name__ == "__main__":
    main()
