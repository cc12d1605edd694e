"""Load on a real service: ``trace-engine serve`` on this machine, senders beside it.

    python benchmarks/service_load.py                 (a few minutes)
    python benchmarks/service_load.py --full          (10 minutes a format, 20 M codes)

Starts the service on a free port of 127.0.0.1 with a temporary folder and measures, against the
aims of the project:

1. events a second, sustained: senders send as fast as they are answered, and the service may keep
   few events waiting, so that what is acknowledged is what the engine takes. Arrow, then NDJSON;
   memory over time meanwhile; processor time of the service for each event.
2. time of a request of 500 events while half of the aimed load runs: from when it was due, so that
   a service that falls behind cannot hide it.
3. time of ``GET /v1/codes/{code}`` with many codes in the state: alone, and 20 a second beside
   requests of 500 events.

Times of requests are those of the host wherever other machines on it take this one's processors:
such a measurement is told and made again, up to ``--tries`` times in all, and the last one counts.

The market stands still (see service_market.py); what it does not sell stays the same. Exit 1 if an
aim is missed; ``--seconds`` and ``--codes`` smaller than ``--full`` measure less than the aims ask.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import multiprocessing as mp
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from service_market import FIRST_DAY, Market, arrow_body
from service_senders import Sender, flood, pace, processes

START_SECONDS = 180.0
AIMS = {"arrow": 100_000.0, "ndjson": 30_000.0}
AIM_REQUEST_MS = 25.0
AIM_CODE_MS = 10.0
EVENT_BYTES = 200  # on the disk: log of events, checkpoints, journal
LOOK_UPS = 20.0  # of codes a second, beside requests
ASKED = 3000  # look-ups one after the other
SMALL = 500  # events of a request whose time is measured
DISTURBED = 0.02  # of a processor, taken by other machines while requests are timed
FLAT = 0.05  # growth of memory in the second half that still counts as flat
Times = npt.NDArray[np.float64]
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Service:
    """The process measured. It is stopped, and its folder removed, at the end."""

    def __init__(self, waiting_rows: int, close_after_days: int, folder: Path | None) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="trace-engine-load-", dir=folder))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACE_ENGINE_")}
        if cache := os.environ.get("TRACE_ENGINE_CACHE_DIR"):
            environment["TRACE_ENGINE_CACHE_DIR"] = cache
        environment |= {
            "TRACE_ENGINE_MOST_WAITING_ROWS": str(waiting_rows),
            "TRACE_ENGINE_ACCESS_LOG": "false",
            "TRACE_ENGINE_HASH_KEY": "the key of a benchmark: 32 bytes",
            # Packs of this market are sold within days: half a year of sold ones in memory, as by
            # default, would be more than ten minutes at this speed can show to be flat.
            "TRACE_ENGINE_CLOSE_AFTER_DAYS": str(close_after_days),
        }
        self.log = (self.data / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trace_engine", "serve", "--data", str(self.data / "data"),
             "--port", "0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment,
        )  # fmt: skip
        self.port = self._port()
        self.seen = psutil.Process(self.process.pid)

    def _port(self) -> int:
        assert self.process.stdout is not None
        deadline = threading.Timer(START_SECONDS, self.process.kill)
        deadline.start()
        try:
            for line in self.process.stdout:
                if found := _URL.search(line):
                    threading.Thread(target=self.process.stdout.read, daemon=True).start()
                    return int(found[1])
        finally:
            deadline.cancel()
        raise RuntimeError((self.data / "log").read_text()[-2000:])

    def ask(self, path: str) -> dict[str, Any]:
        """Return what the service answers at an address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def close_days(self, through: dt.date) -> None:
        """Have days judged, and wait for it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        order = json.dumps({"close_through": str(through)})
        connection.request("POST", "/v1/watermark", order, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer[:500]!r}")
        while self.ask("/v1/status")["taken_offset"] < json.loads(answer)["offset"]:
            time.sleep(0.1)

    def until_taken(self, seconds: float = 600.0) -> None:
        """Wait until the engine has taken what was sent."""
        deadline = time.monotonic() + seconds
        while self.ask("/v1/status")["waiting_rows"]:
            if time.monotonic() > deadline:
                raise TimeoutError("the engine does not keep up")
            time.sleep(0.1)

    def processor_seconds(self) -> float:
        """Return what the service has used so far, of all processors."""
        used = self.seen.cpu_times()
        return float(used.user + used.system)

    def close(self) -> None:
        """Stop the process and remove its folder."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)


def stolen_seconds() -> float:
    """Return for how long, of all processors, other machines had what this one asked for."""
    times = psutil.cpu_times()
    return float(getattr(times, "steal", 0.0))


@dataclass
class Report:
    """What is printed, and whether every aim was met."""

    met: bool = True
    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print and keep a line."""
        print(text, flush=True)
        self.lines.append(text)

    def aim(self, what: str, found: float, aim: float, unit: str, *, most: bool) -> None:
        """Print a figure beside its aim."""
        good = found <= aim if most else found >= aim
        self.met &= good
        sign = "<=" if most else ">="
        self.say(f"{what:<58} {found:>12,.1f} {unit:<8} aim {sign} {aim:,.0f}: "
                 f"{'met' if good else 'MISSED'}")  # fmt: skip


class LookUps:
    """Look-ups of codes at random: one after the other, or ``rate`` a second."""

    def __init__(
        self, port: int, market: Market, codes: int, seconds: float, rate: float | None = None
    ) -> None:
        self.port = port
        self.seconds = seconds
        self.rate = rate
        asked = ASKED if rate is None else int(seconds * rate)
        dice = random.Random(7)
        numbers = np.array([(1 << 37) + dice.randrange(codes) for _ in range(asked)])
        self.texts: list[str] = market.codes(numbers).to_pylist()
        pace = "" if rate is None else f", {rate:.0f} a second"
        self.what = f"GET /v1/codes p99, {codes:,} codes in the state{pace}"

    def __call__(self) -> Times:
        """Ask, and return what each took in ms."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        took: list[float] = []
        start = time.monotonic()
        for number, text in enumerate(self.texts):
            if self.rate is not None:
                time.sleep(max(0.0, start + number / self.rate - time.monotonic()))
            began = time.perf_counter()
            connection.request("GET", f"/v1/codes/{text}")
            response = connection.getresponse()
            response.read()
            took.append((time.perf_counter() - began) * 1e3)
            if response.status != 200:
                raise RuntimeError(f"GET /v1/codes/{text}: {response.status}")
            if time.monotonic() > start + self.seconds:
                break
        connection.close()
        return np.array(took)


class Load:
    """The measurements, one after the other, on one service."""

    def __init__(self, service: Service, options: argparse.Namespace, report: Report) -> None:
        self.service = service
        self.options = options
        self.report = report
        self.context = mp.get_context("spawn")
        self.next: dict[int, int] = {}
        self.rows = options.rows

    def market(self, sender: int, rows: int) -> Market:
        """Return the market as one sender tells it."""
        return Market(sender, self.options.senders, rows, self.options.day_events)

    def fill(self, codes: int) -> None:
        """Put codes into the state: one purchase each."""
        began, sender = time.monotonic(), Sender(self.service.port, "arrow")
        market = self.market(60, self.rows)
        for first in range(0, codes, 50_000):
            sender.send(arrow_body(market.purchases(first, min(50_000, codes - first))))
        self.service.until_taken()
        # Judged, so that they are in the engine's state and not among what waits for its day.
        self.service.close_days(dt.date(1970, 1, 1) + dt.timedelta(days=FIRST_DAY - 1))
        seconds = time.monotonic() - began
        self.report.say(f"filled with {codes:,} codes in {seconds:.0f} s")

    def sustained(self, form: str, seconds: float) -> None:
        """Measure events a second, and memory meanwhile."""
        options, service = self.options, self.service
        out: Queue[Any] = self.context.Queue()
        until = time.time() + seconds + 2.0
        markets = [self.market(k, self.rows) for k in range(options.senders)]
        before, busy = service.ask("/v1/status"), service.processor_seconds()
        began = time.monotonic()
        arguments = [
            (service.port, form, m, self.next.get(m.sender, 0), until, out) for m in markets
        ]
        memory: list[tuple[float, int]] = []
        with processes(self.context, flood, arguments) as started:
            while any(process.is_alive() for process in started) and out.qsize() < len(started):
                memory.append((time.monotonic() - began, service.seen.memory_info().rss))
                time.sleep(min(5.0, seconds / 20))
            told = [out.get(timeout=60) for _ in started]
        service.until_taken()
        took = time.monotonic() - began
        after, used = service.ask("/v1/status"), service.processor_seconds() - busy
        for sender, number, _ in told:
            self.next[sender] = number
        events = after["counts"]["rows"] - before["counts"]["rows"]
        say = self.report.say
        self.report.aim(
            f"{form}: events/s sustained over {took:.0f} s (taken by the engine)",
            events / took, AIMS[form], "events/s", most=False,
        )  # fmt: skip
        say(f"    {events:,} events, {used / events * 1e6:.2f} µs of the service's processors each; "
            f"told to wait {sum(refused for *_, refused in told)} times")  # fmt: skip
        days = (str(before["closed_through"]), str(after["closed_through"]))
        say(f"    days closed {days[0]} to {days[1]}; {after['pending_events']:,} events of open "
            f"days; {after['findings']:,} findings; {after['live_codes']:,} codes in the state")  # fmt: skip
        new = [after[name] - before[name] for name in ("live_codes", "archived_codes")]
        self.memory(memory, *new)

    def memory(self, samples: list[tuple[float, int]], new_codes: int, archived: int) -> None:
        """Say how memory went, second half against the middle."""
        if len(samples) < 8:
            return
        shown = samples[:: max(1, len(samples) // 10)]
        self.report.say("    RSS, MiB: " + "  ".join(f"{t:.0f}s {m >> 20:,}" for t, m in shown))
        half = samples[len(samples) // 2 :]
        quarter = len(half) // 2
        first = float(np.median([m for _, m in half[:quarter]]))
        last = float(np.median([m for _, m in half[quarter:]]))
        grown = last / first - 1
        word = "flat" if grown <= FLAT else "GROWING"
        self.report.say(f"    memory {word}: {grown:+.1%} from the third quarter to the fourth; "
                        f"{new_codes:,} codes more in the state, {archived:,} more "
                        "in the archive, each with 10 to 13 bytes of index in memory")  # fmt: skip

    def requests(self, form: str, seconds: float, look_ups: LookUps | None = None) -> None:
        """Time requests of ``SMALL`` events at half of the aimed load, and look-ups beside them."""
        rate = AIMS[form] / 2 / SMALL
        what = f"{form}: p99 of {SMALL}-event requests at {rate * SMALL:,.0f} events/s"
        beside: list[Times] = []

        def measure() -> Times:
            beside.clear()
            return self._paced(form, seconds, rate, look_ups, beside)

        self._timed(what, AIM_REQUEST_MS, measure)
        if look_ups is not None and beside:
            self._judge(f"{look_ups.what} beside it", AIM_CODE_MS, beside[0])

    def codes(self, look_ups: LookUps) -> None:
        """Time look-ups of codes with nothing else running."""
        self._timed(f"{look_ups.what}, nothing else running", AIM_CODE_MS, look_ups)

    def _timed(self, what: str, aim: float, measure: Callable[[], Times]) -> None:
        """Measure until other machines leave this one alone, or as often as may be."""
        for left in reversed(range(self.options.tries)):
            stolen, began = stolen_seconds(), time.monotonic()
            took = measure()
            share = (stolen_seconds() - stolen) / (time.monotonic() - began)
            said = f"; other machines on this host took {share:.1%} of a processor"
            if share <= DISTURBED or not left:
                self._judge(what, aim, took, said)
                return
            p50, p99 = np.percentile(took, [50, 99])
            self.report.say(f"    made again, disturbed: p99 {p99:.1f} ms, p50 {p50:.1f} ms{said}")

    def _judge(self, what: str, aim: float, took: Times, said: str = "") -> None:
        p50, p99, worst = np.percentile(took, [50, 99, 100])
        self.report.aim(what, float(p99), aim, "ms", most=True)
        self.report.say(
            f"    {len(took):,} requests; p50 {p50:.1f} ms, longest {worst:.0f} ms{said}"
        )

    def _paced(
        self,
        form: str,
        seconds: float,
        rate: float,
        look_ups: LookUps | None,
        beside: list[Times],
    ) -> Times:
        """Return what requests took that were due at fixed times, in ms."""
        service, options = self.service, self.options
        out: Queue[Any] = self.context.Queue()
        market = Market(options.senders, options.senders + 1, SMALL, options.day_events)
        # Where the others are: its windows are shorter, its days the same.
        now = max(self.next.values(), default=0) * self.rows * options.senders
        first = int(now / (SMALL * (options.senders + 1))) + 1
        arguments = [(service.port, form, market, first, seconds, rate, out)]
        with processes(self.context, pace, arguments):
            out.get(timeout=600)
            if look_ups is not None:
                time.sleep(2.0)
                beside.append(look_ups())
            took = np.array(out.get(timeout=seconds + 120)) * 1e3
        service.until_taken()
        done = (first + len(took)) * SMALL * (options.senders + 1)
        for sender in range(options.senders):
            self.next[sender] = max(
                self.next.get(sender, 0), int(done / (self.rows * options.senders))
            )
        return took


def needed_bytes(codes: int, seconds: float, forms: list[str]) -> float:
    """Return what the service may write, were it to take events at three times the aimed rates."""
    events = 2 * codes + 3 * seconds * sum(AIMS[form] for form in forms)
    return EVENT_BYTES * events + 2e9


def main() -> int:
    """Measure, print, and return 0 if every aim was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="600 s and 20 million codes")
    parser.add_argument("--seconds", type=float, help="of each sustained load (default 60)")
    parser.add_argument("--latency-seconds", type=float, default=30.0)
    parser.add_argument("--codes", type=int, help="codes in the state (default 1000000)")
    parser.add_argument("--rows", type=int, default=20_000, help="events of a large request")
    parser.add_argument("--senders", type=int, default=2, help="sending processes")
    parser.add_argument("--day-events", type=int, default=300_000, help="of a simulated day")
    parser.add_argument("--waiting-rows", type=int, default=1_000_000, help="before 429")
    parser.add_argument("--close-after-days", type=int, default=30, help="a code leaves memory")
    parser.add_argument("--only", choices=("arrow", "ndjson"), help="one format")
    parser.add_argument("--tries", type=int, default=3, help="of what the host disturbs")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    seconds = options.seconds or (600.0 if options.full else 60.0)
    codes = (
        options.codes if options.codes is not None else (20_000_000 if options.full else 1_000_000)
    )
    forms = [options.only] if options.only else ["arrow", "ndjson"]
    needed = needed_bytes(codes, seconds, forms)
    if shutil.disk_usage(options.folder or tempfile.gettempdir()).free < needed:
        print(f"needs {needed / 1e9:.0f} GB on the disk: name another with --folder")
        return 2
    report = Report()
    service = Service(options.waiting_rows, options.close_after_days, options.folder)
    try:
        load = Load(service, options, report)
        market = load.market(0, options.rows)
        report.say(f"{os.cpu_count()} processors; {options.senders} senders of {options.rows:,} "
                   f"events a request; {options.day_events:,} events a simulated day, "
                   f"{market.live_codes():,} packs unsold once the market is full")  # fmt: skip
        timed = options.latency_seconds
        many = load.market(60, options.rows)
        if codes:
            load.fill(codes)
            load.codes(LookUps(service.port, many, codes, timed))
        for form in forms:
            load.sustained(form, seconds)
        for form in forms:
            load.requests(form, timed)
        if codes:
            look_ups = LookUps(service.port, many, codes, timed - 3.0, LOOK_UPS)
            load.requests(forms[-1], timed, look_ups)
    except BaseException:
        print((service.data / "log").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        service.close()
    report.say("every aim met" if report.met else "an aim was missed")
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
