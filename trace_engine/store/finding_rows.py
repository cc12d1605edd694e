"""Findings between Arrow, the rows and documents of the database, and each other.

A document is the whole finding as one JSON object with the columns of
:data:`trace_engine.events.findings.FINDINGS`: ``event_time`` in ISO 8601 of Asia/Shanghai,
``evidence`` as an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.events.findings import FINDINGS, MAXIMUM_CODES

Document = dict[str, Any]

_LISTS = ("codes", "event_ids")
# Evidence stays the text it is until somebody asks for it.
_Stored = msgspec.defstruct(
    "_Stored",
    [(name, msgspec.Raw if name == "evidence" else Any) for name in FINDINGS.names],
)
_DECODER = msgspec.json.Decoder(_Stored)
_ENCODER = msgspec.json.Encoder()


def documents_of(findings: pa.Table) -> list[Document]:
    """Return the rows of a table of schema ``FINDINGS`` as documents.

    ``severity``, a 32-bit float, becomes the shortest decimal that stands for it; evidence stays
    JSON text, as :class:`msgspec.Raw`.
    """
    columns: list[Sequence[Any]] = []
    for name in FINDINGS.names:
        column = findings.column(name).combine_chunks()
        if name == "severity":
            columns.append(_shortest(column))
            continue
        values = _text_without_nul(column).to_pylist()
        if name == "event_time":
            values = [None if value is None else value.isoformat() for value in values]
        elif pa.types.is_floating(column.type):
            values = [value if value == value else None for value in values]  # NaN is no value
        elif name == "evidence":
            values = [msgspec.Raw(value.encode()) if value else None for value in values]
        columns.append(values)
    names = FINDINGS.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _shortest(column: pa.Array) -> list[float | None]:
    values = column.to_numpy(zero_copy_only=False).astype(np.float32)
    found: list[float] = values.astype("U32").astype(np.float64).tolist()
    return [value if value == value else None for value in found]


def _text_without_nul(column: pa.Array) -> pa.Array:
    """Return a column whose text PostgreSQL can keep: it has no NUL."""
    if pa.types.is_string(column.type):
        return pc.replace_substring(column, "\0", "\N{REPLACEMENT CHARACTER}")
    if pa.types.is_list(column.type):
        column = column.fill_null([]) if column.null_count else column
        texts = column.flatten()
        if pc.any(pc.match_substring(texts, "\0")).as_py():
            clean = pc.replace_substring(texts, "\0", "\N{REPLACEMENT CHARACTER}")
            lengths = pc.list_value_length(column).to_numpy()
            ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
            return pa.ListArray.from_arrays(pa.array(ends), clean)
    return column


def times_of(findings: pa.Table) -> list[int | None]:
    """Return the event times of a table of schema ``FINDINGS`` in µs UTC."""
    times: list[int | None] = findings.column("event_time").cast(pa.int64()).to_pylist()
    return times


def encode(document: Document) -> str:
    """Return a document as JSON text. Numbers that are not finite become null."""
    return _ENCODER.encode(document).decode()


def decode(text: str) -> Document:
    """Return a document from JSON text; its evidence is JSON text again, or None."""
    stored = _DECODER.decode(text)
    document = msgspec.structs.asdict(stored)
    evidence = document["evidence"]
    document["evidence"] = None if bytes(evidence) == b"null" else bytes(evidence).decode()
    return document


def to_table(documents: Iterable[Document]) -> pa.Table:
    """Return documents as decoded (:func:`decode`) as a table of schema ``FINDINGS``."""
    rows = []
    for document in documents:
        time = document["event_time"]
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        rows.append(document | {"event_time": moment})
    return pa.Table.from_pylist(rows, schema=FINDINGS)


def merge(known: Document, more: Document, offset: int) -> Document:
    """Return a finding to which more of the same cause came later, with the record at ``offset``.

    Ids of events and codes are united, counts and amounts added, the higher severity and value
    kept. What the later part said of itself becomes an entry of ``later`` in the evidence: the
    sentences of the finding stay those of its first part.
    """
    merged = dict(known)
    for name in _LISTS:
        merged[name] = list(dict.fromkeys((*(known[name] or ()), *(more[name] or ()))))
    merged["codes"] = merged["codes"][:MAXIMUM_CODES]
    for name in ("code_count", "amount"):
        merged[name] = _either(known[name], more[name], lambda a, b: a + b)
    for name in ("severity", "observed"):
        merged[name] = _either(known[name], more[name], max)
    evidence = _object(known["evidence"])
    entry = {
        "offset": offset,
        **{
            name: more[name]
            for name in (
                "event_time", "event_ids", "code_count", "amount", "observed", "severity",
                "explanation_zh", "explanation_en",
            )
        },
    }  # fmt: skip
    later = evidence.get("later")
    evidence["later"] = [*(later if isinstance(later, list) else ()), entry]
    merged["evidence"] = msgspec.Raw(_ENCODER.encode(evidence))
    return merged


def _either(first: Any, second: Any, both: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return both(first, second)


def _object(evidence: str | msgspec.Raw | None) -> dict[str, Any]:
    if evidence is None:
        return {}
    found = msgspec.json.decode(evidence)
    return found if isinstance(found, dict) else {"first": found}
