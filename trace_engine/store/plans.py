"""Sampling plans that were made: what was drawn must stay known, or its estimate means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import insert, select

from trace_engine.store.database import Database, draw_numbers
from trace_engine.store.moments import from_micros
from trace_engine.store.tables import PLAN

COUNTER_NAME = "plan"


class PlanStore:
    """The plans of a database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, plan_id: str, document: Mapping[str, Any], made_by: str = "") -> int:
        """Store a plan (a mapping that JSON can hold) and return its number.

        Raises ``sqlalchemy.exc.IntegrityError`` if the id is taken.
        """
        text = msgspec.json.encode(dict(document)).decode()
        with self._database.write() as connection:
            numbers = draw_numbers(connection, COUNTER_NAME, 1)
            row = {
                "number": numbers[0],
                "plan_id": plan_id,
                "made_at": self._database.now(),
                "made_by": made_by,
                "document": text,
            }
            connection.execute(insert(PLAN), row)
        return numbers[0]

    def get(self, plan_id: str) -> dict[str, Any] | None:
        """Return ``number``, ``plan_id``, ``made_at`` (aware), ``made_by`` and ``document``."""
        with self._database.read() as connection:
            row = connection.execute(select(PLAN).where(PLAN.c.plan_id == plan_id)).first()
        if row is None:
            return None
        return _heading(row) | {"document": msgspec.json.decode(row.document)}

    def page(self, after: int | None, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return up to ``limit`` plans without documents, newest first, and where to go on."""
        query = select(PLAN.c.number, PLAN.c.plan_id, PLAN.c.made_at, PLAN.c.made_by)
        if after is not None:
            query = query.where(PLAN.c.number < after)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(PLAN.c.number.desc()).limit(limit + 1)).all()
        rows = [_heading(row) for row in found]
        return (rows, None) if len(rows) <= limit else (rows[:limit], rows[limit - 1]["number"])


def _heading(row: Any) -> dict[str, Any]:
    return {
        "number": row.number,
        "plan_id": row.plan_id,
        "made_at": from_micros(row.made_at),
        "made_by": row.made_by,
    }
