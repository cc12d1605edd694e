"""Blocks of JSON lines to record batches: columns at once, or line by line where lines differ."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pa_json

from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import RejectList, raw_text
from trace_engine.events.schema import BY_NAME, HeaderMatch, match_headers
from trace_engine.readers.lines import Block

# May come as numbers, truth values or text: their type is left to the parser. All others are read
# as text, so that nothing in them is taken for a date or loses digits.
_LOOSE = frozenset(
    {"event_type", "pack_level", "quantity", "unit_price", "split_sale", "gift", "receivable"}
    | {"temperature"}
)

MOST_BRACKETS = 500  # opened in one line, be it side by side or inside each other


class JsonBlocks:
    """Parses the blocks of one file. Objects may lack keys and may add new ones at any line."""

    def __init__(
        self, path: str, headers: dict[str, str], rejects: RejectList, pseudonyms: Pseudonyms
    ) -> None:
        self._path = path
        self._headers = dict(headers)
        self._rejects = rejects
        self._pseudonyms = pseudonyms

    def parse(self, block: Block) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
        """Return the rows of a block and their numbers."""
        plain = _all_objects(block) and not _too_deep(block)
        table = self._at_once(block) if plain else None
        if table is None:
            return self._line_by_line(block)
        arrays, names = [], []
        for name, key in self._headers.items():
            chunked = table.column(key)
            arrays.append(chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0))
            names.append(name)
        return pa.RecordBatch.from_arrays(arrays, names), block.rows

    def _at_once(self, block: Block) -> pa.Table | None:
        """Parse all lines with one schema; None where they do not fit one."""
        for _ in range(2):
            schema = pa.schema(
                [(k, pa.string()) for name, k in self._headers.items() if name not in _LOOSE]
            )
            try:
                table = pa_json.read_json(
                    pa.BufferReader(block.data),
                    pa_json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
                    pa_json.ParseOptions(explicit_schema=schema),
                )
            except pa.ArrowInvalid:
                return None
            if table.num_rows != len(block):
                return None  # two objects on one line
            if not self._learn(table.schema.names):
                break
        else:
            return None
        for key in self._headers.values():
            if key not in table.schema.names:
                table = table.append_column(key, pa.nulls(table.num_rows))
            elif pa.types.is_nested(table.schema.field(key).type):
                return None
        if any(pa.types.is_timestamp(table.schema.field(k).type) for k in self._headers.values()):
            return None
        return table

    def _learn(self, keys: list[str]) -> bool:
        """Take up keys not seen before that mean a column; returns whether there were any."""
        known = set(self._headers.values())
        new = [key for key in keys if key not in known]
        if not new:
            return False
        match: HeaderMatch = match_headers([*known, *new], self._path)
        grown = len(match.columns) > len(self._headers)
        self._headers = match.columns
        return grown

    def _line_by_line(self, block: Block) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        for line, row, number in zip(
            block.data.split(b"\n"), block.rows.tolist(), block.lines.tolist(), strict=False
        ):
            record, reason, detail = self._record(line)
            if reason:
                raw = raw_text(line[:4000].decode("utf-8", "replace"), self._pseudonyms)
                self._rejects.add(self._path, row, "", reason, f"line {number}: {detail}", raw)
            else:
                records.append(record)
                rows.append(row)
        self._learn(list(dict.fromkeys(key for record in records for key in record)))
        wanted = self._headers
        arrays = [
            pa.array([_text(record.get(key)) for record in records], pa.string())
            for key in wanted.values()
        ]
        return pa.RecordBatch.from_arrays(arrays, list(wanted)), np.array(rows, np.int64)

    def _record(self, line: bytes) -> tuple[dict[str, Any], str, str]:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            return {}, "bad_json", f"expected one JSON object ({error})"
        if not isinstance(record, dict):
            return {}, "bad_json", f"expected a JSON object, found {type(record).__name__}"
        nested = [key for key, value in record.items() if isinstance(value, (dict, list))]
        known = set(self._headers.values()) | set(BY_NAME)
        wrong = [key for key in nested if key in known]
        if wrong:
            return {}, "nested_value", f"{wrong[0]} holds several values, expected one"
        return record, "", ""


def _all_objects(block: Block) -> bool:
    """Whether every line begins with a brace: Arrow's parser crashes on a first line like ``null``."""
    return block.data[:1] == b"{" and block.data.count(b"\n{") + 1 == len(block)


def _too_deep(block: Block) -> bool:
    """Whether a line opens so many brackets that Arrow's parser could run out of stack on it.

    Arrow goes down one call a level and crashes the process; the parser of single lines refuses.
    """
    opened = block.data.count(b"{") + block.data.count(b"[")
    if opened <= len(block) + MOST_BRACKETS:
        return False
    view = np.frombuffer(block.data, np.uint8)
    brackets = np.flatnonzero((view == ord("{")) | (view == ord("[")))
    ends = np.flatnonzero(view == ord("\n"))
    return int(np.bincount(np.searchsorted(ends, brackets)).max()) > MOST_BRACKETS


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
