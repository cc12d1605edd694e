"""A few kills in every run of the tests; ``make chaos`` makes 200."""

from __future__ import annotations

from pathlib import Path

from tests.service.chaos import Chaos, check, market


def test_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    events, expected = market(tmp_path / "market", 8000, 3)
    chaos = Chaos(tmp_path, events, tmp_path / "market" / "registry", kills=4, seed=3)
    report = check(chaos, expected)
    assert report.kills == 4
    assert report.acknowledged_rows == events.num_rows
