"""What the state of an engine is made of: arrays by name and a few plain values, and back.

Records (lines of codes, edges, waiting hops) are kept as plain bytes: their layout is part of
``checkpoint.FORMAT``. Tables and words are kept as Arrow streams, events still held back as columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.attributes import FIRST
from trace_engine.core.codetable import LINE
from trace_engine.core.movements import WAITING
from trace_engine.detectors.base import Hits
from trace_engine.events.batch import (
    COLUMN_TYPES,
    INTERNERS,
    OPTIONAL_COLUMNS,
    STRING_COLUMNS,
    EventBatch,
    Interner,
    Vocabulary,
)
from trace_engine.graph.multigraph import EDGE
from trace_engine.store.arrays import Array
from trace_engine.store.eventlog import taken

if TYPE_CHECKING:
    from trace_engine.engine import Engine

Arrays = dict[str, Array]
Bytes = npt.NDArray[np.uint8]

PIECE_ROWS = 250_000  # small batches that are held back are kept together, up to so many rows

_HIT_COLUMNS = (
    "seq", "observed", "threshold", "severity", "subject", "counterparty", "time", "region",
    "amount", "group", "history_since", "related",
)  # fmt: skip


class UnfitError(Exception):
    """A state that does not belong to this registry."""


def collect(engine: Engine) -> tuple[Arrays, dict[str, Any]]:
    """Return the state but for the log: arrays (some are the engine's own) and plain values."""
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
    arrays["voided"] = np.sort(np.fromiter(engine.voided, np.int64, len(engine.voided)))
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
    for i, (_, hits) in enumerate(engine.kept_hits):
        arrays |= {f"hits.{i}.{column}": array for column, array in _of_hits(hits)}
    for name in INTERNERS:
        words = pa.array(getattr(engine.vocabulary, name).values, pa.string())
        arrays[f"words.{name}"] = _stream(pa.table({"word": words}))
    pieces = _joined(engine.buffer.pieces)
    for i, piece in enumerate(pieces):
        arrays |= {f"piece{i}.{column}": array for column, array in _of_piece(piece)}
    arrays["rejects"] = _stream(engine.reject_table)
    if not engine.keep_hits:  # else they are made of the hits
        arrays["findings"] = _stream(engine.findings)
    values: dict[str, Any] = {
        "counts": engine.counts,
        "data_begin": engine.data_begin,
        "clock_day": engine.clock_day,
        "judged": engine.coverage.judged,
        "skipped": engine.coverage.skipped,
        "files": engine.files,
        "states": plain,
        "kept_rows": {name: len(kept) for name, kept in engine.kept_rows.items()},
        "kept_hits": [name for name, _ in engine.kept_hits],
        "pieces": len(pieces),
        "closing": [] if engine.closing is None else engine.closing.marks,
    }
    return arrays, values


def places(engine: Engine, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Return memory of a fresh engine that large arrays of these shapes are read into."""
    prepared: Arrays = {}
    for k, shard in enumerate(engine.shards.shards):
        lines, nodes = shard.table.room(shapes[f"shard{k}.lines"][0], shapes[f"shard{k}.nodes"][0])
        prepared[f"shard{k}.lines"] = _bytes(lines)
        prepared[f"shard{k}.nodes"] = nodes
        prepared[f"shard{k}.firsts"] = _bytes(shard.firsts.room(shapes[f"shard{k}.firsts"][0]))
    return prepared


def restore(engine: Engine, arrays: Arrays, values: dict[str, Any]) -> None:
    """Fill a fresh engine with what :func:`collect` returned, read to where :func:`places` said."""

    def below(prefix: str) -> Arrays:
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    _restore_words(engine, arrays)
    engine.shards.packages.restore(below("packages."))
    shards = engine.shards.shards
    engine.run_all(lambda k: shards[k].table.refilled(), range(len(shards)))
    for k, shard in enumerate(shards):
        shard.shipments.replace(_records(arrays[f"shard{k}.shipments"], WAITING))
        shard.receipts.replace(_records(arrays[f"shard{k}.receipts"], WAITING))
    engine.identity.replace(arrays["identity.keys"], arrays["identity.days"])
    engine.exposure.totals = arrays["exposure"]
    engine.multigraph.restore(_records(arrays["edges"], EDGE))
    engine.voided.update(arrays["voided"].tolist())
    for name, state in engine.states.items():
        state.update(values["states"][name])
        state.update(below(f"state.{name}."))
    of_rows, of_hits = _numbered(arrays, "rows."), _numbered(arrays, "hits.")
    for name, count in values["kept_rows"].items():
        engine.kept_rows[name] += [of_rows.get(f"{name}.{i}", {}) for i in range(count)]
    for i, name in enumerate(values["kept_hits"]):
        engine.kept_hits.append((name, _hits(of_hits[str(i)])))
    engine.counts.update(values["counts"])
    engine.data_begin = values["data_begin"]
    engine.clock_day = values["clock_day"]
    engine.coverage.judged.update(values["judged"])
    engine.coverage.skipped.update(values["skipped"])
    engine.files = list(values["files"])
    if engine.closing is not None:
        engine.closing.marks = [
            (int(day), int(events)) for day, events in values.get("closing", [])
        ]
    for i in range(values["pieces"]):
        engine.buffer.add(_piece(below(f"piece{i}.")))
    rejects = _table(arrays["rejects"])
    if rejects.num_rows:
        engine.rejects = [rejects]
    if "findings" in arrays:
        findings = _table(arrays["findings"])
        if findings.num_rows:
            engine.built_findings = [findings]


def word_arrays() -> list[str]:
    """Return the names of the arrays that hold words."""
    return [f"words.{name}" for name in INTERNERS]


def vocabulary_of(arrays: Arrays) -> Vocabulary:
    """Return a vocabulary of the words of a state, numbered as there."""
    vocabulary = Vocabulary()
    for name in INTERNERS:
        getattr(vocabulary, name).ids(_table(arrays[f"words.{name}"])["word"].to_pylist())
    return vocabulary


def _restore_words(engine: Engine, arrays: Arrays) -> None:
    for name in INTERNERS:
        words = _table(arrays[f"words.{name}"])["word"].to_pylist()
        interner: Interner = getattr(engine.vocabulary, name)
        for word in words:
            interner.id(word)
        # An engine with other reference data knows words of it beside those of the state.
        if interner.values[: len(words)] != words:
            raise UnfitError(f"{name} were numbered otherwise: made with another registry")
    engine.view.refresh()


def _numbered(arrays: Arrays, prefix: str) -> dict[str, Arrays]:
    """Return the arrays named ``<prefix><owner>.<number>.<column>`` by owner and number."""
    found: dict[str, Arrays] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            parts = name[len(prefix) :].split(".")
            at = next(i for i, part in enumerate(parts) if part.isdigit()) + 1
            found.setdefault(".".join(parts[:at]), {})[".".join(parts[at:])] = array
    return found


def _bytes(records: npt.NDArray[Any]) -> Bytes:
    """Return records as plain bytes, shape (n, size), without copying."""
    size = records.dtype.itemsize
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), size)


def _records(data: Bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(data).reshape(-1).view(dtype)


def _stream(table: pa.Table) -> Bytes:
    """Return a table as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def _table(data: Bytes) -> pa.Table:
    """Return the table of :func:`_stream`, whose memory it shares."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def _of_hits(hits: Hits) -> Iterator[tuple[str, Array]]:
    for column in _HIT_COLUMNS:
        given = getattr(hits, column)
        if given is not None:
            yield column, np.asarray(given)
    for column, extra in hits.extra.items():
        array = np.asarray(extra)
        yield f"extra.{column}", array.astype(str) if array.dtype == object else array


def _hits(arrays: Arrays) -> Hits:
    columns: dict[str, Any] = {column: arrays.get(column) for column in _HIT_COLUMNS}
    prefix = "extra."
    extra = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    return Hits(**columns, extra=extra)


def _joined(pieces: list[EventBatch]) -> list[EventBatch]:
    """Join small batches that follow one another: order of time within days is made when taken."""
    joined: list[EventBatch] = []
    some: list[EventBatch] = []

    def close() -> None:
        if some:
            joined.append(EventBatch.concat(some))
            some.clear()

    for piece in pieces:
        if some and (
            sum(map(len, some)) + len(piece) > PIECE_ROWS
            or (piece.origin is None) != (some[0].origin is None)
        ):
            close()
        some.append(piece)
    close()
    return joined


def _of_piece(batch: EventBatch) -> Iterator[tuple[str, Array]]:
    for name in COLUMN_TYPES:
        yield name, getattr(batch, name)
    for name, column in batch.optional.items():
        yield f"optional.{name}", column
    if batch.origin is not None:
        yield "origin", batch.origin
    strings = batch.strings.select(STRING_COLUMNS)
    if batch.string_rows is not None:
        strings = taken(strings, batch.string_rows)
    yield "strings", _stream(strings)


def _piece(arrays: Arrays) -> EventBatch:
    return EventBatch(
        **{name: arrays[name] for name in COLUMN_TYPES},
        strings=_table(arrays["strings"]),
        origin=arrays.get("origin"),
        optional={
            name: arrays[f"optional.{name}"]
            for name in OPTIONAL_COLUMNS
            if f"optional.{name}" in arrays
        },
    )


assert (LINE.itemsize, FIRST.itemsize, WAITING.itemsize) == (64, 12, 16)
