"""The audit log: who saw and changed what. Rows are added and, after years, deleted; never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from trace_engine.store.database import Database, draw_numbers, insert_many
from trace_engine.store.moments import from_micros, to_micros
from trace_engine.store.tables import AUDIT, indexed

COUNTER_NAME = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilters:
    """What notes to list; what is None does not restrict. ``until`` is not included."""

    key_id: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditLog:
    """The audit log of a database. Thread-safe.

    A note has ``at`` (aware), ``key_id``, ``name``, ``address``, ``request_id``, ``action``,
    ``subject`` and ``details`` (a mapping that JSON can hold); read back it also has ``number``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, notes: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write notes in one transaction and return their numbers."""
        if not notes:
            return []
        texts = ("key_id", "name", "address", "request_id", "action", "subject")
        with self._database.write() as connection:
            numbers = draw_numbers(connection, COUNTER_NAME, len(notes))
            rows = [
                (
                    number,
                    to_micros(note["at"]),
                    *(indexed(without_nul(str(note.get(name) or ""))) for name in texts),
                    msgspec.json.encode(note.get("details") or {}, enc_hook=str).decode(),
                )
                for number, note in zip(numbers, notes, strict=True)
            ]
            insert_many(connection, AUDIT, rows)
        return list(numbers)

    def page(
        self, filters: AuditFilters, after: int | None, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return up to ``limit`` notes, newest first, and the number to go on after, None at the end."""
        query = select(AUDIT)
        for name in ("key_id", "action", "subject"):
            value = getattr(filters, name)
            if value is not None:
                query = query.where(AUDIT.c[name] == value)
        if filters.since is not None:
            query = query.where(AUDIT.c.at >= to_micros(filters.since))
        if filters.until is not None:
            query = query.where(AUDIT.c.at < to_micros(filters.until))
        if after is not None:
            query = query.where(AUDIT.c.number < after)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(AUDIT.c.number.desc()).limit(limit + 1)).all()
        rows = [
            {**row._mapping, "at": from_micros(row.at), "details": msgspec.json.decode(row.details)}
            for row in found
        ]
        return (rows, None) if len(rows) <= limit else (rows[:limit], rows[limit - 1]["number"])


def without_nul(text: str) -> str:
    """Return text that PostgreSQL can keep."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
