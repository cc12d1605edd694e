"""What each detector judged and skipped, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_engine.reports.words import SKIP_REASONS, word


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """What one detector judged."""

    id: str
    title: str
    status: str
    css: str
    judged: int
    skipped: int
    why: str


def coverage_rows(
    coverage: Mapping[str, Mapping[str, Any]], titles: Mapping[str, tuple[str, str]], lang: str
) -> list[CoverageRow]:
    """Return what each detector judged; those that could not judge come first."""
    english = lang == "en"
    rows = []
    for name, entry in coverage.items():
        skipped = {str(k): int(v) for k, v in (entry.get("skipped") or {}).items() if v}
        judged, total = int(entry.get("judged") or 0), sum(skipped.values())
        if not judged:
            status, css = ("not evaluated" if english else "未评估"), "no"
        elif total:
            status, css = ("in part" if english else "部分评估"), ""
        else:
            status, css = ("full" if english else "完整"), "ok"
        reasons = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        why = _why(reasons, entry.get("needs") or (), judged, lang)
        title = titles.get(name, (name, name))[english]
        rows.append(CoverageRow(name, title, status, css, judged, total, why))
    rank = {"no": 0, "": 1, "ok": 2}
    return sorted(rows, key=lambda row: (rank[row.css], row.id))


def registry_problems(registry: Any, lang: str) -> list[str]:
    """Return the entries of the registry (None: there is none) that are wrong or doubtful, one line each.

    They stop nothing: what cannot be used is left out, and what rests on it is not judged.
    """
    problems = registry.problems if registry is not None else []
    return [str(problem) if lang == "en" else problem.zh for problem in problems]


def _why(reasons: list[tuple[str, int]], needs: Sequence[str], judged: int, lang: str) -> str:
    """Return why events were skipped; for a detector that judged none, also what it needs."""
    english = lang == "en"
    text = ("; " if english else "；").join(
        f"{word(SKIP_REASONS, reason, lang)} {count:,}" for reason, count in reasons
    )
    if judged:
        return text
    if not text:
        return "no event concerns it" if english else "没有相关事件"
    if needs:
        text += (" (needs " if english else "（需要 ") + ", ".join(needs)
        text += ")" if english else "）"
    return text
