"""trace-engine: find suspicious drug sellers in traceability scans.

The public names are imported on first use, so that ``import trace_engine`` and the
command line's help stay fast (neither numpy nor numba is loaded by this module).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Engine", "Policy", "Registry", "Result", "__version__", "score"]

if TYPE_CHECKING:
    from trace_engine.engine import Engine
    from trace_engine.policy import Policy
    from trace_engine.registry import Registry
    from trace_engine.scoring import Result, score

_HOMES = {
    "Engine": "trace_engine.engine",
    "Policy": "trace_engine.policy",
    "Registry": "trace_engine.registry",
    "Result": "trace_engine.scoring",
    "score": "trace_engine.scoring",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
