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
    import pyarrow as pa
    import pyarrow.compute as pc

    from trace_engine.events.batch import EventBatch, Vocabulary
    from trace_engine.events.encode import Encoder
    from trace_engine.events.raw import RawBatch
    from trace_engine.events.values import as_text
    from trace_engine.readers import open_events

    vocabulary = Vocabulary()
    encoder = Encoder(vocabulary)
    found: list[EventBatch] = []
    rows = 0
    source = open_events(paths, format=str(run.get("format") or "auto"))
    for raw in source.batches():
        rows += len(raw)
        progress("scan", rows, None)
        if "code" not in raw.batch.schema.names:
            continue
        text = as_text(raw.batch.column("code"), "code").cast(pa.string())
        mask = pc.fill_null(pc.match_substring(text, code), False)
        if not pc.any(mask).as_py():
            continue
        picked = RawBatch(raw.batch.filter(mask), raw.path, raw.first_row)
        batch = encoder.encode(picked).batch
        key = vocabulary.code_key(code)
        if key is not None and len(batch):
            found.append(batch.take((batch.code == key).nonzero()[0]))
    return _path(found, vocabulary, _names(run)) if found else []


def _names(run: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return name and registered region of enterprises, from the registry the run used."""
    from trace_engine.registry import Registry, RegistryError

    try:
        table = Registry.load(run.get("registry") or None).table("enterprises")
    except RegistryError:
        return {}
    if table is None:
        return {}
    columns = [
        table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows
        for name in ("enterprise_id", "name", "region")
    ]
    return {i: (name or "", region or "") for i, name, region in zip(*columns, strict=True) if i}


def _path(
    found: list[Any], vocabulary: Any, names: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    import numpy as np

    from trace_engine.events.batch import DATE_ONLY, EventBatch
    from trace_engine.events.kinds import INFO, EventKind
    from trace_engine.registry.regions import load_regions

    batch = EventBatch.concat(found)
    order = np.lexsort((batch.event_key, batch.time))
    _, first = np.unique(batch.event_key[order], return_index=True)
    batch = batch.take(order[np.sort(first)].astype(np.int64))
    regions = load_regions()
    path: list[dict[str, Any]] = []
    strings = batch.strings.select(["event_id", "bill_code"]).to_pylist()
    for i, text in enumerate(strings):
        info = INFO[EventKind(int(batch.kind[i]))]
        event: dict[str, Any] = {
            "event_id": text["event_id"],
            "bill_code": text["bill_code"],
            "time": str(np.datetime64(int(batch.time[i]), "us").astype("datetime64[s]")),
            "date_only": bool(batch.flags[i] & DATE_ONLY),
            "kind": info.name,
            "kind_zh": info.title_zh,
            "actor": vocabulary.parties.text(int(batch.actor[i])),
            "price": None if batch.price[i] < 0 else int(batch.price[i]) / 100,
        }
        for side in ("source", "target"):
            party = vocabulary.parties.text(int(getattr(batch, side)[i]))
            name, registered = names.get(party, ("", ""))
            stated = int(getattr(batch, f"{side}_region")[i])
            event[side] = party or None
            event[f"{side}_name"] = name or None
            event[f"{side}_region"] = registered or (regions.code(stated) if stated >= 0 else None)
        path.append(event)
    return path
