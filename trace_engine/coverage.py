"""What each detector judged and what it could not: silence never means clean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_engine.detectors.base import Detector, Verdict


class Coverage:
    """Counts by detector, added up over slices."""

    def __init__(self, detectors: Mapping[str, Detector[Any]]) -> None:
        self._needs = {name: list(d.needs) for name, d in detectors.items()}
        self.judged: dict[str, int] = dict.fromkeys(detectors, 0)
        self.skipped: dict[str, dict[str, int]] = {name: {} for name in detectors}

    def add(self, detector_id: str, verdict: Verdict) -> None:
        """Add the counts of one verdict."""
        self.judged[detector_id] += int(verdict.judged)
        skipped = self.skipped[detector_id]
        for reason, count in verdict.skipped.items():
            if count:
                skipped[reason] = skipped.get(reason, 0) + int(count)

    def merge(self, judged: Mapping[str, int], skipped: Mapping[str, Mapping[str, int]]) -> None:
        """Add the counts of another engine."""
        for name in self.judged:
            self.add(name, Verdict(None, judged.get(name, 0), dict(skipped.get(name, {}))))

    def table(self) -> dict[str, dict[str, Any]]:
        """Return ``coverage.json``: judged, skipped by reason, and a status, by detector."""
        out: dict[str, dict[str, Any]] = {}
        for name in sorted(self.judged):
            judged, skipped = self.judged[name], dict(sorted(self.skipped[name].items()))
            if judged == 0 and skipped:
                status = "not evaluated: needs " + ", ".join(self._needs[name] or ["such events"])
            elif judged == 0:
                status = "no event to judge"
            else:
                status = "evaluated in part" if skipped else "evaluated"
            out[name] = {
                "judged": judged,
                "skipped": skipped,
                "status": status,
                "needs": self._needs[name],
            }
        return out
