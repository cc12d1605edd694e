"""Cost of an event and peak memory as the dump grows: 10, 30 and 100 million events.

Each size is scored with every detector in a process of its own (median of ``--repeat``), beside a
bare read of its columns. The aims: an event of the largest dump costs at most 1.2 times one of the
smallest; memory grows with the live codes (the state) and with nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from make_events import make_events
from score_vs_sql import WARM_UP_EVENTS, data_folder, run

GROWTH = 1.2


def main() -> int:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--events", type=int, nargs="+", default=[10_000_000, 30_000_000, 100_000_000]
    )
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    warm_up = data_folder() / "warm-up"
    make_events(WARM_UP_EVENTS, 1, warm_up)
    run("engine", warm_up)
    costs: list[float] = []
    sizes: list[tuple[int, int]] = []  # live codes, peak bytes
    print(
        f"{'events':>13}{'codes':>12}{'read s':>9}{'score s':>9}{'ns/event':>10}"
        f"{'x read':>8}{'peak MB':>9}{'B/code':>8}"
    )
    for events in sorted(arguments.events):
        data = data_folder() / f"events-{events}-{arguments.seed}"
        made = make_events(events, arguments.seed, data)
        rows, codes = made.rows, made.codes
        run("read", data)
        reads = [run("read", data)["seconds"] for _ in range(arguments.repeat)]
        scores = [run("engine", data) for _ in range(arguments.repeat)]
        read = statistics.median(reads)
        score = statistics.median(report["seconds"] for report in scores)
        peak = max(report["peak_bytes"] for report in scores)
        costs.append(score / rows)
        sizes.append((codes, peak))
        print(
            f"{rows:13,}{codes:12,}{read:9.2f}{score:9.2f}{score / rows * 1e9:10.1f}"
            f"{score / read:8.2f}{peak / 1e6:9.0f}{max(0.0, peak - 500e6) / codes:8.1f}"
        )
    growth = costs[-1] / costs[0]
    verdict = "met" if growth <= GROWTH else "MISSED"
    print(f"\ncost of an event, largest to smallest: {growth:.2f}x (aim <= {GROWTH}x: {verdict})")
    if len(sizes) > 1 and sizes[-1][0] > sizes[0][0]:
        grown = (sizes[-1][1] - sizes[0][1]) / (sizes[-1][0] - sizes[0][0])
        print(f"memory that each further live code takes: {grown:.1f} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
