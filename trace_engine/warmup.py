"""Compile the kernels before the first run needs them."""

from __future__ import annotations

import tempfile
from pathlib import Path

EVENTS = 5000  # enough to reach every kernel


def compile_kernels(events: int = EVENTS) -> None:
    """Score a small synthetic market, which needs every kernel, and throw the result away."""
    from trace_engine.scoring import score
    from trace_engine.simulate import simulate

    with tempfile.TemporaryDirectory(prefix="trace-engine-warmup-") as folder:
        out = Path(folder)
        simulate(events, 0, out)
        score(str(out / "events"), registry=str(out / "registry"))
