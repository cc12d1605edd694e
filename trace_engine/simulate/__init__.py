"""A synthetic market with planted schemes and benign noise (see ``docs/simulator.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_engine.simulate.run import Summary, simulate

__all__ = ["Summary", "simulate"]


def __getattr__(name: str) -> Any:
    """Load numpy and pyarrow only when something is asked for."""
    if name in __all__:
        from trace_engine.simulate import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
