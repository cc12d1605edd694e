"""What to sample next: a plan for a budget, and the estimate that its random arm allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["SAMPLING_PLAN", "Prevalence", "SamplingParameters", "estimate_prevalence", "plan"]

if TYPE_CHECKING:
    from trace_engine.sampling.parameters import SamplingParameters
    from trace_engine.sampling.planning import SAMPLING_PLAN, plan
    from trace_engine.sampling.prevalence import Prevalence, estimate_prevalence

_HOMES = {
    "SAMPLING_PLAN": "trace_engine.sampling.planning",
    "Prevalence": "trace_engine.sampling.prevalence",
    "SamplingParameters": "trace_engine.sampling.parameters",
    "estimate_prevalence": "trace_engine.sampling.prevalence",
    "plan": "trace_engine.sampling.planning",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, so that importing this stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
