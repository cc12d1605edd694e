"""A small market as messages, and what batch scoring finds in it."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.scoring import score
from trace_engine.simulate import simulate

Row = dict[str, Any]


class Market:
    """Events of a simulated market in order of time, and their scoring."""

    def __init__(self, folder: Path, events: int, seed: int = 7) -> None:
        self.folder = folder
        simulate(events, seed, folder)
        parts = [pq.read_table(path) for path in sorted((folder / "events").glob("*.parquet"))]
        table = pa.concat_tables(parts).sort_by("event_time")
        self.rows: list[Row] = [_said(row) for row in table.to_pylist()]

    @property
    def registry(self) -> Path:
        return self.folder / "registry"

    def messages(self, partitions: int = 1) -> list[tuple[bytes, int]]:
        """Return (value, partition) of each event; a code is always in the same partition."""
        return [(msgspec.json.encode(row), self.partition(row, partitions)) for row in self.rows]

    @staticmethod
    def partition(row: Row, partitions: int) -> int:
        return zlib.crc32(row["code"].encode()) % partitions

    @cached_property
    def findings(self) -> dict[str, Row]:
        return self.scored(self.rows, f"first-{len(self.rows)}")

    def first(self, rows: int) -> Market:
        """Return a market of the first events of this one."""
        part = copy.copy(self)
        part.rows = self.rows[:rows]
        return part

    def scored(self, rows: Sequence[Row], name: str) -> dict[str, Row]:
        """Return what batch scoring finds in ``rows``, by id."""
        path = self.folder / f"{name}.ndjson"
        path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows))
        found = score(path, self.registry).findings.to_pylist()
        return {row["finding_id"]: plain(row) for row in found}


def _said(row: Row) -> Row:
    kept = {}
    for name, value in row.items():
        if value is None:
            continue
        kept[name] = value.isoformat() if hasattr(value, "isoformat") else value
    return json.loads(msgspec.json.encode(kept))  # type: ignore[no-any-return]


def plain(row: Row) -> Row:
    """Return a finding as its message says it, without what only a stream says."""
    said: Row = json.loads(msgspec.json.encode(row))
    said.pop("late", None)
    return said
