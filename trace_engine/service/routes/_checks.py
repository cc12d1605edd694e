"""What the type of a value cannot say: names that nothing has, and days that are not yet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from trace_engine.service.problems import MOST_ERRORS, Problem
from trace_engine.service.routes._found import error_at
from trace_engine.service.routes._shapes import SHANGHAI
from trace_engine.store.finding_ids import known_findings
from trace_engine.store.findings_table import FindingFilters

if TYPE_CHECKING:
    from trace_engine.service.host import EngineHost

TOLERANCE = dt.timedelta(days=1)  # of clocks that differ


def check_detectors(host: EngineHost, names: Iterable[str] | None, where: str) -> None:
    """Answer 422 where a filter names a detector that there is not.

    One that left the catalogue stays known as long as findings of it are kept. Asks the database
    about names alone that are not in the catalogue.
    """
    if not names:
        return
    catalogue = _catalogue()
    unknown = [name for name in names if name not in catalogue and not _has_findings(host, name)]
    if unknown:
        errors = [_no_detector(name, catalogue, where) for name in unknown[:MOST_ERRORS]]
        raise unusable(errors)


@cache
def _catalogue() -> frozenset[str]:
    from trace_engine.detectors.registry import detector_classes

    return frozenset(detector_classes())


def _has_findings(host: EngineHost, detector: str) -> bool:
    return bool(host.findings.page(FindingFilters(detector=(detector,)), None, 1)[0])


def _no_detector(name: str, catalogue: Collection[str], where: str) -> dict[str, str]:
    near = get_close_matches(name, catalogue, n=1)
    return error_at(
        where,
        f"no detector is called {name}"
        + (f"; is {near[0]} meant?" if near else "; GET /v1/detectors names all"),
        f"没有名为 {name} 的检测规则"
        + (f"，是否指 {near[0]}？" if near else "，目录见 GET /v1/detectors"),
    )


def last_day(host: EngineHost) -> dt.date:
    """Return the last day that something done may bear.

    Today in Asia/Shanghai, or the latest day of the data where that is later (simulated data), and
    one day for clocks that differ.
    """
    today = dt.datetime.now(SHANGHAI).date()
    return max(today, host.status().watermark or today) + TOLERANCE


def too_late(where: str, limit: dt.date) -> dict[str, str]:
    """Return the error of a day after ``limit``."""
    return error_at(
        where, f"is in the future: expected {limit} at the latest", f"日期在未来，应不晚于 {limit}"
    )


def unknown_findings(host: EngineHost, named: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return an error for each (place, finding id) whose finding does not exist."""
    known = known_findings(host.database, (finding_id for _, finding_id in named))
    return [
        error_at(where, f"there is no finding {finding_id}", f"没有线索 {finding_id}")
        for where, finding_id in named
        if finding_id not in known
    ]


def unusable(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Return the 422 that tells ``errors``, the first of them in its detail too."""
    first, more = errors[0], len(errors) - 1
    return Problem(
        422,
        "invalid",
        detail=f"{first['where']}: {first['what']}" + (f" (and {more} more)" if more else ""),
        detail_zh=f"{first['where']}：{first['what_zh']}" + (f"（另有 {more} 项）" if more else ""),
        errors=list(errors[:MOST_ERRORS]),
    )
