"""Rows that were not taken, kept so that whoever sent them can be told."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import select

from trace_engine.store.audit import without_nul
from trace_engine.store.database import Database, draw_numbers, insert_many, lock_counter
from trace_engine.store.moments import from_micros
from trace_engine.store.tables import REJECT

COUNTER_NAME = "reject"
DOOR, ENGINE = "door", "engine"
# What only the engine can tell, as it takes the events before to know; all else the door found.
FOUND_JUDGING = frozenset({"event_id_conflict"})


class RejectStore:
    """The rejects of a database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rejects: pa.Table, offset: int) -> list[int]:
        """Store the rejects (schema ``REJECTS``) of the record at ``offset``; return their numbers.

        Their source is told by the reason: ``door`` for rows that cannot be used, ``engine`` for
        what was found while judging (:data:`FOUND_JUDGING`). Idempotent: what was stored of this
        offset stays, and nothing is added. So all of one offset must come in one call.
        """
        if not rejects.num_rows:
            return []
        with self._database.write() as connection:
            lock_counter(connection, COUNTER_NAME)
            known = select(REJECT.c.number).where(REJECT.c.record_offset == offset)
            if connection.execute(known.limit(1)).first() is not None:
                return []
            numbers = draw_numbers(connection, COUNTER_NAME, rejects.num_rows)
            now = self._database.now()
            rows = [
                (
                    number,
                    offset,
                    ENGINE if row["reason"] in FOUND_JUDGING else DOOR,
                    _text(row["file"]),
                    row["row"],
                    _text(row["column"]),
                    _text(row["reason"]),
                    _text(row["detail"]),
                    _text(row["raw"]),
                    now,
                )
                for number, row in zip(numbers, rejects.to_pylist(), strict=True)
            ]
            insert_many(connection, REJECT, rows)
        return list(numbers)

    def page(
        self,
        after: int | None,
        limit: int,
        *,
        offset: int | None = None,
        reason: str | None = None,
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return up to ``limit`` rejects, newest first, and the number to go on after, None at the end.

        ``offset``: of this record only; ``reason``: with this machine name only.
        """
        query = select(REJECT)
        if offset is not None:
            query = query.where(REJECT.c.record_offset == offset)
        if reason is not None:
            query = query.where(REJECT.c.reason == reason)
        if after is not None:
            query = query.where(REJECT.c.number < after)
        with self._database.read() as connection:
            found = connection.execute(
                query.order_by(REJECT.c.number.desc()).limit(limit + 1)
            ).all()
        rows = [
            {
                "number": row.number,
                "offset": row.record_offset,
                "source": row.source,
                "file": row.file,
                "row": row.row_number,
                "column": row.column_name,
                "reason": row.reason,
                "detail": row.detail,
                "raw": row.raw,
                "stored_at": from_micros(row.stored_at),
            }
            for row in found
        ]
        return (rows, None) if len(rows) <= limit else (rows[:limit], rows[limit - 1]["number"])


def _text(value: str | None) -> str | None:
    return None if value is None else without_nul(value)
