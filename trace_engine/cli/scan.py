"""The whole path of one code, looked up in the input files that a manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_engine.cli.bilingual import say
from trace_engine.cli.errors import one_line
from trace_engine.cli.progress import Progress


def events_of_code(folder: Path, code: str) -> list[dict[str, Any]] | None:
    """Return all accepted events of ``code``, in order of time, as ``evidence["path"]`` has them.

    None where an input file is gone or cannot be read any more (a line on standard error says so):
    an incomplete path must not be taken for the whole one. Repeated rows count once.
    """
    from trace_engine.readers import InputError
    from trace_engine.reports import manifest

    record = manifest.read(folder)
    paths = [str(entry["path"]) for entry in record["head"]["inputs"]]
    with Progress() as progress:
        gone = [path for path in paths if not Path(path).is_file()]
        if gone or not paths:
            progress.note(
                say(
                    f"输入文件已不在（{(gone or ['-'])[0]}），只显示线索中的路径",
                    f"input files are gone ({(gone or ['-'])[0]}): showing the finding's path only",
                )
            )
            return None
        try:
            return _scan(paths, code, record["run"], progress)
        except InputError as error:
            progress.note(one_line(str(error)))
            return None


def _scan(
    paths: list[str], code: str, run: Mapping[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    """Read all inputs, keep the rows of one code, and let an engine put them in order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from trace_engine.engine import Engine
    from trace_engine.events.raw import RawBatch
    from trace_engine.events.values import as_text
    from trace_engine.evidence.paths import path_events
    from trace_engine.policy import Policy
    from trace_engine.readers import open_events

    engine = Engine(_registry(run), Policy.load(), lateness_days=None)
    rows = 0
    source = open_events(paths, format=str(run.get("format") or "auto"))
    for raw in source.batches():
        rows += len(raw)
        progress("scan", rows, None)
        if "code" not in raw.batch.schema.names:
            continue
        text = as_text(raw.batch.column("code"), "code").cast(pa.string())
        # However a GS1 code is written, its serial number stands in it as it is.
        mask = pc.fill_null(pc.match_substring(text, code.rpartition(")")[2]), False)
        if pc.any(mask).as_py():
            picked = RawBatch(raw.batch.filter(mask), raw.path, raw.first_row)
            batch = engine.encoder.encode(picked).batch
            key = engine.vocabulary.code_key(code)
            if key is not None:
                engine.process(batch.take(np.flatnonzero(batch.code == np.uint64(key))))
    engine.finish()
    if not len(engine.log):
        return []
    everything = np.arange(len(engine.log), dtype=np.int64)
    last = np.setdiff1d(everything, engine.log.column("previous", everything))
    _, ordered = engine.log.paths(last[-1:], None)
    return path_events(ordered, engine.log, engine.vocabulary, engine.view)


def _registry(run: Mapping[str, Any]) -> Any:
    """Return the registry that the run used; an empty one where it is gone."""
    from trace_engine.registry import Registry, RegistryError

    try:
        return Registry.load(run.get("registry") or None)
    except RegistryError:
        return Registry()
