"""Clues against exposure, month by month, from the definition of ``clue_concentration``."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict

from tests.reference.events import DAY
from tests.reference.history import History, RawHit
from trace_engine.detectors.base import Family
from trace_engine.detectors.registry import detector_classes

EPOCH = dt.date(1970, 1, 1)


def month_of(day: int) -> tuple[int, int]:
    date = EPOCH + dt.timedelta(days=day)
    return date.year, date.month


def last_day_of(month: tuple[int, int]) -> int:
    year, number = month
    after = dt.date(year + number // 12, number % 12 + 1, 1)
    return (after - EPOCH).days - 1


def lower_bound(clues: int, expected: float, alpha: float) -> float:
    """Return the 5 % point of Gamma(alpha + clues, alpha + expected), after Wilson and Hilferty."""
    shape, rate = alpha + clues, alpha + expected
    root = 1 - 1 / (9 * shape) - 1.6448536269514722 / (3 * math.sqrt(shape))
    return shape / rate * max(root, 0.0) ** 3


def clue_concentration(history: History) -> list[RawHit]:
    from tests.reference.detectors import REFERENCE

    p = history.p("clue_concentration")
    world = history.world
    classes = detector_classes()
    events: dict[tuple[int, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    by_id = {row.event.event_id: row.event for row in history}
    for row in history:
        if row.event.giver:
            events[month_of(row.event.day)][row.event.giver] += 1
    # The latest scan of each (enterprise, detector, day).
    clues: dict[tuple[str, str, int], tuple[int, int, str]] = {}
    for name, function in REFERENCE.items():
        if name == "clue_concentration" or classes[name].family != Family.SUSPECTED_VIOLATION:
            continue
        for raw in function(history):
            event = by_id[raw.event_id]
            if raw.subject is None or raw.time != event.time:
                continue
            key = (raw.subject, name, event.day)
            clues[key] = max(clues.get(key, (0, 0, "")), (event.time, event.key, event.event_id))
    hits = []
    for month, given in sorted(events.items()):
        if last_day_of(month) + 3 > history.last_day:
            continue
        of_month = {key: latest for key, latest in clues.items() if month_of(key[2]) == month}
        count: dict[str, int] = defaultdict(int)
        for subject, _, _ in of_month:
            count[subject] += 1
        for kind in {world.kind(subject) for subject in count}:
            peers = [party for party in given if world.kind(party) == kind]
            total = sum(count[party] for party in peers)
            if len(peers) < p.peers or total == 0:
                continue
            traded = sum(given[party] for party in peers)
            expected = {
                party: given[party] * (total - count[party]) / (traded - given[party])
                for party in peers
            }
            square = sum((count[party] - expected[party]) ** 2 - expected[party] for party in peers)
            spread = square / sum(value**2 for value in expected.values())
            alpha = min(max(1 / spread, 0.1), 100.0) if spread > 0 else 100.0
            for party in peers:
                if count[party] < p.clues:
                    continue
                if lower_bound(count[party], expected[party], alpha) < p.ratio:
                    continue
                newest = max(latest for key, latest in of_month.items() if key[0] == party)
                hits.append(
                    RawHit(
                        "clue_concentration",
                        newest[2],
                        float(count[party]),
                        party,
                        None,
                        last_day_of(month) * DAY,
                    )
                )
    return hits


DETECTORS = {"clue_concentration": clue_concentration}
