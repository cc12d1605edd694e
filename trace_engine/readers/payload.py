"""Events on their way through a journal: what is stored so that the same can be encoded again.

A payload holds the accepted rows of one delivery as Arrow IPC (canonical columns, see
``events.masking``: no numbers of persons) and, behind them, its rejects as they were reported.
Rejected rows themselves are not kept: what is wrong with them is said in the rejects, masked.
Encoding a payload again gives the same events, rejects and row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.batch import DAY, OPTIONAL_COLUMNS, EventBatch
from trace_engine.events.encode import Encoded, Encoder
from trace_engine.events.findings import REJECTS
from trace_engine.events.masking import masked
from trace_engine.events.raw import RawBatch
from trace_engine.events.texts import TextColumn

VERSION = b"1"
ROW = "#row"  # 1-based number of each row in its delivery, where they do not simply follow
_VERSION, _ROWS_IN, _REGIONS, _PATH = b"version", b"rows_in", b"unknown_regions", b"path"
_LAST_DAY = b"last_day"  # of its events, days since 1970-01-01; not there without events
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_AS_IS = pa.ipc.IpcWriteOptions(use_threads=False)
# Packing costs half a microsecond an event, several times what writing the bytes it saves does. It
# is for what would be too large for one record, and for rejects, which repeat themselves.
_LARGE_EVENTS, _LARGE_REJECTS = 8 << 20, 1 << 14  # bytes


class PayloadError(Exception):
    """A payload cannot be read: it is damaged, or of another version."""


@dataclass(slots=True)
class Stored:
    """What a payload holds. ``rejects`` follows the schema ``REJECTS``."""

    raw: RawBatch
    rejects: pa.Table
    rows_in: int
    unknown_regions: int


def admit(raw: RawBatch, rejects: pa.Table, encoder: Encoder) -> tuple[Encoded, bytes]:
    """Mask and encode the rows of one delivery; return what became of them and their payload.

    ``rejects``: rows that could not even be read. All rejects come back in order of their rows, and
    nothing of what comes back refers to the memory of ``raw``. Raises ``InputError`` where a column
    is missing or of a type that can never be right.
    """
    texts: dict[str, TextColumn] = {}
    batch = masked(raw.batch, encoder.pseudonyms, texts)
    raw = RawBatch(batch, raw.path, raw.first_row, raw.rows, texts)
    encoded = encoder.encode(raw)
    events = encoded.batch
    accepted = raw.batch
    if encoded.rejects.num_rows:
        kept = np.ones(len(raw), np.bool_)
        refused = encoded.rejects["row"].to_numpy()
        kept[np.searchsorted(raw.row_numbers(), refused)] = False
        accepted = accepted.filter(pa.array(kept))
        _drop_unstated(events)
    if rejects.num_rows:
        both = pa.concat_tables([rejects, encoded.rejects])
        encoded.rejects = both.take(pa.array(np.argsort(both["row"].to_numpy(), kind="stable")))
        encoded.rows_in += rejects.num_rows
    payload = _write(accepted, raw.path, events.origin, encoded)
    events.strings = _detached(events.strings)
    return encoded, payload


def replay(payload: bytes, encoder: Encoder) -> Encoded:
    """Encode a payload again. Raises :class:`PayloadError` if it cannot be read.

    A row that was accepted when it was stored and is refused now, as after an upgrade with stricter
    rules, joins the rejects.
    """
    stored = read_payload(payload)
    encoded = encoder.encode(stored.raw)
    rejects = [stored.rejects, encoded.rejects] if encoded.rejects.num_rows else [stored.rejects]
    return Encoded(encoded.batch, pa.concat_tables(rejects), stored.rows_in, stored.unknown_regions)


def last_day(payload: bytes) -> int | None:
    """Return the last day of the events of a payload, in days since 1970-01-01; None without any.

    Raises :class:`PayloadError` if it cannot be read.
    """
    try:
        found = (pa.ipc.read_schema(pa.BufferReader(payload)).metadata or {}).get(_LAST_DAY)
    except (pa.ArrowException, OSError) as error:
        raise PayloadError(f"payload of {len(payload)} bytes is damaged: {error}") from error
    return None if found is None else int(found)


def read_payload(payload: bytes) -> Stored:
    """Return what a payload holds; raises :class:`PayloadError` if it cannot be read."""
    source = pa.BufferReader(payload)
    try:
        with pa.ipc.open_stream(source) as reader:
            meta = reader.schema.metadata or {}
            if meta.get(_VERSION) != VERSION:
                raise PayloadError(
                    f"payload of version {meta.get(_VERSION)!r}; expected {VERSION!r}"
                )
            batch = reader.read_next_batch()
            _end(reader)
        with pa.ipc.open_stream(source) as reader:
            rejects = reader.read_all()
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise PayloadError(f"payload of {len(payload)} bytes is damaged: {error}") from error
    rows = None
    if ROW in batch.schema.names:
        rows = batch.column(ROW).to_numpy().astype(np.int64)
        batch = batch.drop_columns([ROW])
    batch = batch.replace_schema_metadata(None)
    raw = RawBatch(batch, meta[_PATH].decode(), 1, rows)
    return Stored(raw, rejects, int(meta[_ROWS_IN]), int(meta[_REGIONS]))


def _end(reader: pa.RecordBatchReader) -> None:
    """Read the mark at the end of a stream, so that the next one begins there."""
    for _ in reader:
        raise PayloadError("payload holds more than one batch")


def _write(
    batch: pa.RecordBatch, path: str, rows: npt.NDArray[np.int64] | None, encoded: Encoded
) -> bytes:
    if rows is not None and len(rows) and not (rows[0] == 1 and rows[-1] == len(rows)):
        batch = batch.append_column(ROW, pa.array(rows.astype(np.int32)))
    meta = {
        _VERSION: VERSION,
        _ROWS_IN: b"%d" % encoded.rows_in,
        _REGIONS: b"%d" % encoded.unknown_regions,
        _PATH: path.encode(),
    }
    if len(encoded.batch):
        meta[_LAST_DAY] = b"%d" % (int(encoded.batch.time.max()) // DAY)
    batch = batch.replace_schema_metadata(meta)
    # nbytes walks through the columns, which takes as long as writing a small batch.
    large = batch.get_total_buffer_size() >= _LARGE_EVENTS
    options = _PACKED if large else _AS_IS
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    _write_rejects(sink, encoded.rejects)
    return bytes(sink.getvalue().to_pybytes())


def _write_rejects(sink: pa.NativeFile, rejects: pa.Table) -> None:
    if rejects.num_rows == 0:
        sink.write(_no_rejects())
        return
    rejects = rejects.combine_chunks()
    options = _PACKED if rejects.nbytes >= _LARGE_REJECTS else _AS_IS
    with pa.ipc.new_stream(sink, REJECTS, options=options) as writer:
        writer.write_table(rejects)


@cache
def _no_rejects() -> bytes:
    """Return the stream that most payloads end with."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, REJECTS, options=_AS_IS) as writer:
        writer.write_table(REJECTS.empty_table())
    return bytes(sink.getvalue().to_pybytes())


def _drop_unstated(events: EventBatch) -> None:
    """Drop optional columns that only refused rows stated, as if those had never been there."""
    for name in list(events.optional):
        if not (events.optional[name] != OPTIONAL_COLUMNS[name].missing).any():
            del events.optional[name]


def _detached(strings: pa.Table) -> pa.Table:
    """Return a copy of ``strings``, so that a request's whole body is not kept for four columns."""
    batch = strings.combine_chunks().to_batches()
    if not batch:
        return strings
    copied = pa.ipc.read_record_batch(batch[0].serialize(), strings.schema)
    return pa.Table.from_batches([copied])
