"""The whole state of an engine on disk: arrays, tables and a manifest with their checksums.

No pickle anywhere: arrays are read with ``allow_pickle=False``, tables are Arrow files, the rest is
JSON. A folder is written under another name first and then renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine import __version__
from trace_engine.core.attributes import FIRST
from trace_engine.core.codetable import LINE
from trace_engine.core.eventlog import LOG_COLUMNS, LOG_OPTIONAL, MemoryChunk
from trace_engine.core.movements import WAITING
from trace_engine.detectors.base import Hits
from trace_engine.events.batch import INTERNERS, STRING_COLUMNS, Interner
from trace_engine.graph.multigraph import EDGE
from trace_engine.store.eventlog import read_ipc, write_ipc
from trace_engine.store.spill import batch_table, table_batch

if TYPE_CHECKING:
    from trace_engine.engine import Engine

FORMAT = 3
MANIFEST = "state.json"
_HIT_COLUMNS = (
    "seq", "observed", "threshold", "severity", "subject", "counterparty", "time", "region",
    "amount", "group", "history_since", "related",
)  # fmt: skip

Arrays = dict[str, npt.NDArray[Any]]


class CheckpointError(Exception):
    """A state that cannot be used: one line that says why."""


def check_state_folder(folder: str | os.PathLike[str]) -> None:
    """Raise :class:`CheckpointError` unless a state may be written to ``folder``."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: is a file, expected a folder")
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise CheckpointError(f"{target}: is not empty and holds no saved state")


def save_engine(
    engine: Engine,
    folder: str | os.PathLike[str],
    reference: Mapping[str, str | None] | None = None,
) -> None:
    """Write the state of ``engine`` to ``folder``, replacing a state that is there.

    ``reference`` says where registry and policy lie (:func:`read_reference`). Raises
    :class:`CheckpointError` if ``folder`` holds something else.
    """
    check_state_folder(folder)
    target = Path(folder)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays, values = _collect(engine)
    named: dict[str, Any] = arrays  # (numpy 2.0 has no allow_pickle here; reading refuses pickles)
    np.savez(partial / "arrays.npz", **named)
    tables = _tables(engine)
    for name, table in tables.items():
        write_ipc(partial / f"{name}.arrow", table)
    files = sorted(p.name for p in partial.iterdir())
    manifest = {
        "format": FORMAT,
        "code_version": __version__,
        "policy_version": engine.policy.version,
        "registry": engine.registry.content_hash,
        "reference": dict(reference or {}),
        "values": values,
        "files": {name: _digest(partial / name) for name in files},
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def read_reference(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """Return where the registry and the policy of a saved state lay, as far as that was said."""
    named: dict[str, str | None] = _manifest(Path(folder)).get("reference", {})
    return named


def _manifest(source: Path) -> dict[str, Any]:
    """Return the manifest of a saved state, checked for its format."""
    try:
        manifest = json.loads((source / MANIFEST).read_text())
    except OSError as error:
        raise CheckpointError(f"{source}: no saved state ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{source / MANIFEST}: damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise CheckpointError(f"{source}: state of format {found}, expected {FORMAT}")
    return manifest


def load_engine(engine: Engine, folder: str | os.PathLike[str]) -> None:
    """Fill a fresh ``engine`` with the state in ``folder``. See ``Engine.load``."""
    source = Path(folder)
    manifest = _manifest(source)
    if manifest["policy_version"] != engine.policy.version:
        raise CheckpointError(
            f"{source}: made with policy {manifest['policy_version']!r}, found "
            f"{engine.policy.version!r}"
        )
    if manifest["registry"] != engine.registry.content_hash:
        raise CheckpointError(f"{source}: made with another registry")
    for name, digest in manifest["files"].items():
        path = source / name
        if not path.is_file() or _digest(path) != digest:
            raise CheckpointError(f"{path}: missing or damaged")
    with np.load(source / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    _restore(engine, arrays, manifest["values"])
    _restore_tables(engine, source, manifest["values"])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _collect(engine: Engine) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    for name, entries in engine.shards.packages.entries().items():
        arrays[f"packages.{name}"] = entries
    for k, shard in enumerate(engine.shards.shards):
        used, nodes = int(shard.table.used[0]), int(shard.table.used[1])
        arrays[f"shard{k}.lines"] = _bytes(shard.table.lines[:used])
        arrays[f"shard{k}.firsts"] = _bytes(shard.firsts.records[: shard.firsts.used])
        arrays[f"shard{k}.nodes"] = shard.table.nodes[:nodes]
        arrays[f"shard{k}.shipments"] = _bytes(shard.shipments.waiting())
        arrays[f"shard{k}.receipts"] = _bytes(shard.receipts.waiting())
    arrays["identity.keys"], arrays["identity.days"] = engine.identity.entries()
    arrays["exposure"] = engine.exposure.totals
    engine.supply_edges()  # folds what is old
    arrays["edges"] = _bytes(engine.multigraph.sorted())
    plain: dict[str, dict[str, Any]] = {}
    for name, state in engine.states.items():
        plain[name] = {}
        for key, value in state.items():
            if isinstance(value, np.ndarray):
                arrays[f"state.{name}.{key}"] = value
            else:
                plain[name][key] = value
    for name, kept in engine.kept_rows.items():
        for i, rows in enumerate(kept):
            for column, numbers in rows.items():
                arrays[f"rows.{name}.{i}.{column}"] = numbers
    hits = []
    for i, (name, some) in enumerate(engine.kept_hits):
        hits.append(name)
        for column in _HIT_COLUMNS:
            given = getattr(some, column)
            if given is not None:
                arrays[f"hits.{i}.{column}"] = np.asarray(given)
        for column, extra in some.extra.items():
            array = np.asarray(extra)
            arrays[f"hits.{i}.extra.{column}"] = (
                array.astype(str) if array.dtype == object else array
            )
    values: dict[str, Any] = {
        "counts": engine.counts,
        "data_begin": engine.data_begin,
        "clock_day": engine.clock_day,
        "voided": sorted(engine.voided),
        "judged": engine.coverage.judged,
        "skipped": engine.coverage.skipped,
        "files": engine.files,
        "states": plain,
        "kept_rows": {name: len(kept) for name, kept in engine.kept_rows.items()},
        "kept_hits": hits,
        "chunks": len(engine.log.chunks),
        "pieces": len(engine.buffer.pieces),
    }
    return arrays, values


def _bytes(records: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return records as plain bytes, shape (n, size): their layout is part of FORMAT."""
    size = records.dtype.itemsize
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), size)


def _records(data: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(data).reshape(-1).view(dtype)


def _tables(engine: Engine) -> dict[str, pa.Table]:
    tables: dict[str, pa.Table] = {}
    for name in INTERNERS:
        words = getattr(engine.vocabulary, name).values
        tables[f"words-{name}"] = pa.table({"word": pa.array(words, pa.string())})
    for i, chunk in enumerate(engine.log.chunks):
        columns: dict[str, Any] = {n: pa.array(c) for n, c in engine.log.every_column(i).items()}
        every = np.arange(len(chunk))
        columns |= {
            n: pa.array(c, pa.string()) for n, c in chunk.texts(STRING_COLUMNS, every).items()
        }
        tables[f"log-{i}"] = pa.table(columns)
    for i, piece in enumerate(engine.buffer.pieces):
        tables[f"piece-{i}"] = batch_table(piece)
    tables["rejects"] = engine.reject_table
    tables["findings"] = (
        pa.concat_tables(engine.built_findings)
        if engine.built_findings
        else (engine.findings.slice(0, 0))
    )
    return tables


def _restore(engine: Engine, arrays: Arrays, values: dict[str, Any]) -> None:
    prefix = "packages."
    engine.shards.packages.restore(
        {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    )
    for k, shard in enumerate(engine.shards.shards):
        lines = _records(arrays[f"shard{k}.lines"], LINE)
        nodes = arrays[f"shard{k}.nodes"]
        shard.table.restore(lines, nodes)
        shard.firsts.restore(_records(arrays[f"shard{k}.firsts"], FIRST))
        shard.shipments.replace(_records(arrays[f"shard{k}.shipments"], WAITING))
        shard.receipts.replace(_records(arrays[f"shard{k}.receipts"], WAITING))
    engine.identity.replace(arrays["identity.keys"], arrays["identity.days"])
    engine.exposure.totals = arrays["exposure"]
    engine.multigraph.restore(_records(arrays["edges"], EDGE))
    for name, state in engine.states.items():
        state.update(values["states"][name])
        prefix = f"state.{name}."
        state.update({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
    for name, count in values["kept_rows"].items():
        for i in range(count):
            prefix = f"rows.{name}.{i}."
            engine.kept_rows[name].append(
                {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            )
    for i, name in enumerate(values["kept_hits"]):
        columns = {c: arrays.get(f"hits.{i}.{c}") for c in _HIT_COLUMNS}
        prefix = f"hits.{i}.extra."
        extra = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
        engine.kept_hits.append((name, Hits(**columns, extra=extra)))  # type: ignore[arg-type]
    engine.counts.update(values["counts"])
    engine.data_begin = values["data_begin"]
    engine.clock_day = values["clock_day"]
    engine.voided.update(values["voided"])
    engine.coverage.judged.update(values["judged"])
    engine.coverage.skipped.update(values["skipped"])
    engine.files = list(values["files"])


def _restore_tables(engine: Engine, folder: Path, values: dict[str, Any]) -> None:
    for name in INTERNERS:
        words = read_ipc(folder / f"words-{name}.arrow")["word"].to_pylist()
        interner: Interner = getattr(engine.vocabulary, name)
        for word in words:
            interner.id(word)
        if interner.values != words:
            raise CheckpointError(f"{folder}: words-{name} does not fit the registry")
    engine.view.refresh()
    for i in range(values["chunks"]):
        table = read_ipc(folder / f"log-{i}.arrow").combine_chunks()
        held = [n for n in (*LOG_COLUMNS, *LOG_OPTIONAL) if n in table.schema.names]
        columns = {n: np.array(table[n].to_numpy()) for n in held}
        engine.log.add_chunk(MemoryChunk(columns, None, table.select(STRING_COLUMNS)))
    for i in range(values["pieces"]):
        engine.buffer.add(table_batch(read_ipc(folder / f"piece-{i}.arrow")))
    rejects = read_ipc(folder / "rejects.arrow")
    if rejects.num_rows:
        engine.rejects = [rejects]
    findings = read_ipc(folder / "findings.arrow")
    if findings.num_rows:
        engine.built_findings = [findings]
