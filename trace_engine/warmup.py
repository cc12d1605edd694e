"""Compile the kernels before the first run needs them."""

from __future__ import annotations

import tempfile
from pathlib import Path

EVENTS = 5000  # enough to reach every kernel


def compile_kernels(events: int = EVENTS) -> None:
    """Score a small synthetic market as files and as records, and throw the results away.

    The first needs every kernel of batch scoring, the second those of the door, of codes that are
    archived and come back, and of questions about a code.
    """
    from trace_engine.scoring import score
    from trace_engine.simulate import simulate

    with tempfile.TemporaryDirectory(prefix="trace-engine-warmup-") as folder:
        out = Path(folder)
        simulate(events, 0, out)
        score(str(out / "events"), registry=str(out / "registry"))
        _take_records(out)


def _take_records(out: Path) -> None:
    from trace_engine.engine import Engine
    from trace_engine.events.findings import REJECTS
    from trace_engine.readers import open_events
    from trace_engine.readers.payload import admit
    from trace_engine.registry import Registry
    from trace_engine.tracing.live import find_code, trace_live

    engine = Engine(
        Registry.load(out / "registry"),
        lateness_days=0,
        keep_hits=False,
        hits_at_once=0,
        hash_key=b"nobody is in a synthetic market",
        close_after_days=1,
    )
    asked = ""
    for unit in open_events(str(out / "events")).units:
        for raw in unit.batches():
            encoded, _ = admit(raw, REJECTS.empty_table(), engine.encoder)
            asked = asked or str(raw.batch.column("code")[0].as_py())
            engine.process(encoded.batch)
    engine.finish()
    found = find_code(engine, asked)
    if found is not None:
        trace_live(engine, *found)
