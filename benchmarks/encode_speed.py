"""How long one event takes at the door: read from Parquet, encode, and the two together.

Usage: python benchmarks/encode_speed.py EVENTS... (files or folders; see make_events.py)
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from pathlib import Path

from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.raw import RawBatch
from trace_engine.readers import open_events


def main() -> None:
    """Measure and print; the first pass compiles and fills caches and is shown apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows held in memory")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    arguments = parser.parse_args()
    began = time.process_time()
    batches: list[RawBatch] = []
    rows = 0
    for raw in open_events(arguments.inputs).batches():
        batches.append(raw)
        rows += len(raw)
        if rows >= arguments.rows:
            break
    reading = time.process_time() - began
    columns = batches[0].batch.num_columns
    print(f"{rows} rows, {columns} columns")
    print(f"{'read':>22} {reading * 1e9 / rows:7.1f} ns/event")
    encoder = Encoder(Vocabulary(), key=b"benchmark")
    best = None
    for attempt in range(arguments.repeat):
        began = time.process_time()  # of this process: other work on the machine does not count
        accepted = sum(len(encoder.encode(raw).batch) for raw in batches)
        took = time.process_time() - began
        label = "first pass" if attempt == 0 else "encode"
        print(f"{label:>22} {took * 1e9 / rows:7.1f} ns/event")
        best = took if best is None else min(best, took)
    print(f"{'best':>22} {(best or 0) * 1e9 / rows:7.1f} ns/event, {accepted} accepted")
    if arguments.profile:
        profile = cProfile.Profile()
        profile.enable()
        for raw in batches:
            encoder.encode(raw)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
