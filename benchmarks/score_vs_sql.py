"""Score a dump with every detector, beside DuckDB and Polars answering six of the questions.

One run: the bare read of the columns, trace-engine, DuckDB and Polars take turns, each in a process
of its own on two threads; medians of ``--repeat`` turns. Answers are compared row by row. Seconds
are of the work alone: no interpreter start, no imports, kernels compiled and the file in the page
cache, for everybody. Processor seconds stand beside them: on a busy machine they tell more. The
aims are printed beside what was reached, met or not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from make_events import make_events
from peers import QUESTIONS

SQL = ("duckdb", "polars", "polars-streaming")
FASTER_THAN_SQL, OF_BARE_READ, BYTES_A_CODE, FIXED_BYTES = 5.0, 2.5, 100.0, 500e6
WARM_UP_EVENTS = 100_000


def data_folder() -> Path:
    """Return where benchmark data lives: ``TRACE_ENGINE_BENCH_DATA`` or ``bench-data/``."""
    chosen = os.environ.get("TRACE_ENGINE_BENCH_DATA")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[1] / "bench-data"


def run(peer: str, data: Path) -> dict[str, Any]:
    """Run one peer in a process of its own and return its report."""
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), peer, str(data)]
    command.append(str(data / "answers" / peer))
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{peer} failed:\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _rows(path: Path, columns: list[str]) -> list[tuple[Any, ...]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path).select(columns)
    return sorted(set(zip(*(table[name].to_pylist() for name in columns), strict=True)))


def compare(data: Path, peers: list[str]) -> dict[str, int]:
    """Compare all answers row by row; return rows by question. Any difference ends the run.

    Where our finding says less than SQL was asked for (quotas: our findings name the buyer and
    the first excess, not each day), the columns both have are compared.
    """
    import pyarrow.parquet as pq

    counts = {}
    for question in QUESTIONS:
        paths = {peer: data / "answers" / peer / f"{question}.parquet" for peer in peers}
        names = [pq.read_schema(path).names for path in paths.values()]
        common = [name for name in names[0] if all(name in other for other in names)]
        answers = {peer: _rows(path, common) for peer, path in paths.items()}
        first, *others = peers
        for other in others:
            if answers[first] != answers[other]:
                only = sorted(set(answers[first]) ^ set(answers[other]))
                raise SystemExit(
                    f"{question}: {first} ({len(answers[first])} rows) and {other} "
                    f"({len(answers[other])} rows) differ in {len(only)} rows, e.g. {only[:3]}"
                )
        counts[question] = len(answers[first])
    return counts


def _verdict(reached: float, aim: float, at_least: bool) -> str:
    met = reached >= aim if at_least else reached <= aim
    return "met" if met else "MISSED"


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[], choices=[*SQL, "engine"])
    arguments = parser.parse_args()

    folder = data_folder()
    data = folder / f"events-{arguments.events}-{arguments.seed}"
    made = make_events(arguments.events, arguments.seed, data)
    rows, codes = made.rows, made.codes
    print(f"{rows:,} events, {codes:,} codes, {made.bytes / 1e6:,.0f} MB of Parquet")

    peers = [peer for peer in ("read", "engine", *SQL) if peer not in arguments.without]
    warm_up = folder / "warm-up"
    make_events(WARM_UP_EVENTS, 1, warm_up)
    for peer in peers:
        run(peer, warm_up)
    reports: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    run("read", data)  # brings the file into the page cache
    for turn in range(arguments.repeat):
        for peer in peers:
            report = run(peer, data)
            reports[peer].append(report)
            print(f"  turn {turn + 1}: {peer} {report['seconds']:.2f} s", file=sys.stderr)

    answering = [peer for peer in peers if peer != "read"]
    counts = compare(data, answering)
    print("answers agree, rows: " + ", ".join(f"{q} {n:,}" for q, n in counts.items()))

    seconds = {p: statistics.median(r["seconds"] for r in rs) for p, rs in reports.items()}
    processor = {p: statistics.median(r["cpu"] for r in rs) for p, rs in reports.items()}
    memory = {p: max(r["peak_bytes"] for r in rs) for p, rs in reports.items()}
    print(f"\n{'':24}{'seconds':>9}{'(all turns)':>24}{'cpu s':>8}{'M events/s':>12}{'peak MB':>9}")
    for peer in peers:
        turns = " ".join(f"{report['seconds']:.2f}" for report in reports[peer])
        version = reports[peer][0].get("version", "")
        print(
            f"{peer + ' ' + version:24}{seconds[peer]:9.2f}{turns:>24}{processor[peer]:8.2f}"
            f"{rows / seconds[peer] / 1e6:12.2f}{memory[peer] / 1e6:9.0f}"
        )
    for peer in answering:
        stages = reports[peer][-1]["stages"]
        shares = ", ".join(f"{name} {spent:.2f}" for name, spent in stages.items())
        print(f"{peer}: seconds by stage: {shares}")

    if "engine" in peers:
        ours = reports["engine"][-1]
        print(
            f"findings: {ours['findings']:,}; state: {ours['state_bytes'] / codes:.1f} bytes a code"
        )
        of_read = seconds["engine"] / seconds["read"]
        a_code = max(0.0, memory["engine"] - FIXED_BYTES) / codes
        rival = min((peer for peer in SQL if peer in peers), key=seconds.__getitem__, default=None)
        print(f"\n{'aim':44}{'reached':>10}")
        if rival is not None:
            ratio = seconds[rival] / seconds["engine"]
            print(
                f"{f'>= {FASTER_THAN_SQL:g} x the faster peer ({rival})':44}{ratio:9.2f}x  "
                + _verdict(ratio, FASTER_THAN_SQL, at_least=True)
            )
        print(
            f"{f'<= {OF_BARE_READ:g} x the bare read':44}{of_read:9.2f}x  "
            + _verdict(of_read, OF_BARE_READ, at_least=False)
        )
        print(
            f"{f'<= {BYTES_A_CODE:g} bytes a live code beyond 500 MB':44}{a_code:9.1f}B  "
            + _verdict(a_code, BYTES_A_CODE, at_least=False)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
