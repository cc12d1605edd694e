"""Recall, false alarms and ranking on simulated markets of many sizes and seeds.

For each size and seed a market is simulated, scored with every detector and compared with what was
planted. One line a market: recall of all planted cases and of the worst detector, suspected
violations that touch no planted code per 100 000 events, look-alikes hit, precision of the top k
sellers (k = guilty), data-quality findings as a share of events, and seconds of scoring. The exit
code is 1 when a market misses an aim; what was missed is listed below its line.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECALL, FALSE_PER_100K, PRECISION = 0.98, 1.0, 0.9
HEADER = (
    f"{'events':>10}{'seed':>6}{'cases':>7}{'recall':>8}  {'worst detector':<29}{'false/100k':>11}"
    f"{'twins hit':>11}{'k':>5}{'prec@k':>8}{'DQ %':>7}{'s':>7}"
)


@dataclass(frozen=True, slots=True)
class Quality:
    """What one market gave: events accepted, its seed, seconds of scoring, and the evaluation."""

    events: int
    seed: int
    seconds: float
    report: dict[str, Any]

    @property
    def worst(self) -> tuple[str, float]:
        """Return the detector of the lowest recall, and that recall."""
        detectors = self.report["schemes"]["by_detector"]
        name = min(detectors, key=lambda key: (detectors[key]["recall"], key))
        return name, float(detectors[name]["recall"])

    @property
    def misses(self) -> list[str]:
        """Return the aims this market misses, one line each, with examples."""
        report, lines = self.report, []
        for name, entry in report["schemes"]["by_detector"].items():
            if entry["recall"] < RECALL:
                missed = ", ".join(entry["missed"])
                lines.append(f"{name}: {entry['found']} of {entry['planted']} found; not: {missed}")
        if report["false_alarms"]["per_100k_events"] > FALSE_PER_100K:
            for name, entry in report["false_alarms"]["by_detector"].items():
                lines.append(f"{name}: {entry['count']} false, e.g. {', '.join(entry['examples'])}")
        for kind, entry in report["benign"]["by_kind"].items():
            if entry["hit"]:
                fell = ", ".join(entry["by_detector"])
                lines.append(f"look-alike {kind}: {entry['hit']} of {entry['planted']} by {fell}")
        ranking = report["ranking"]
        if ranking["precision_at_k"] < PRECISION:
            lines.append(f"innocent in the top k: {', '.join(ranking['innocent_in_top_k'])}")
        return lines

    def line(self) -> str:
        """Return the market's line of the table."""
        report = self.report
        name, recall = self.worst
        family = report["load"]["by_family"].get("data_quality", {"per_10k_events": 0.0})
        return (
            f"{self.events:10,}{self.seed:6}{report['schemes']['planted']:7}"
            f"{report['schemes']['recall']:8.4f}  {name + f' {recall:.3f}':<29}"
            f"{report['false_alarms']['per_100k_events']:11.2f}"
            f"{report['benign']['hit']:5}/{report['benign']['planted']:<5}"
            f"{report['ranking']['k']:5}{report['ranking']['precision_at_k']:8.3f}"
            f"{family['per_10k_events'] / 100:7.2f}{self.seconds:7.1f}"
        )


def measure(events: int, seed: int) -> Quality:
    """Simulate a market of about ``events`` rows, score it and compare it with its truth."""
    import trace_engine
    from trace_engine.ranking import evaluate
    from trace_engine.simulate import simulate

    with tempfile.TemporaryDirectory(prefix="trace-engine-quality-") as name:
        market = Path(name)
        simulate(events, seed, market)
        began = time.perf_counter()
        result = trace_engine.score(str(market / "events"), registry=market / "registry")
        seconds = time.perf_counter() - began
        accepted = result.counts["events"]
        report = evaluate(result.findings, result.sellers, market / "truth", events=accepted)
    return Quality(accepted, seed, seconds, report)


def main() -> int:
    """Measure each size and seed; return 1 when a market misses an aim."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--events", type=int, nargs="+", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    arguments = parser.parse_args()
    print(
        f"aims: recall of every detector >= {RECALL}, false alarms <= {FALSE_PER_100K:g} per "
        f"100 000 events, no look-alike hit, precision of the top k >= {PRECISION}\n\n{HEADER}"
    )
    missed = markets = 0
    for events in arguments.events:
        for seed in arguments.seeds:
            quality = measure(events, seed)
            print(quality.line(), *(f"    {line}" for line in quality.misses), sep="\n", flush=True)
            markets += 1
            missed += bool(quality.misses)
    print(f"\n{markets - missed} of {markets} markets meet every aim")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
