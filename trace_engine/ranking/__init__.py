"""Which sellers to look at first, and why: score, tiers, and evaluation against planted truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["RankingParameters", "evaluate", "format_report", "rank"]

if TYPE_CHECKING:
    from trace_engine.ranking.evaluation import evaluate
    from trace_engine.ranking.ordering import rank
    from trace_engine.ranking.parameters import RankingParameters
    from trace_engine.ranking.report import format_report

_HOMES = {
    "RankingParameters": "trace_engine.ranking.parameters",
    "evaluate": "trace_engine.ranking.evaluation",
    "format_report": "trace_engine.ranking.report",
    "rank": "trace_engine.ranking.ordering",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, so that importing this stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
