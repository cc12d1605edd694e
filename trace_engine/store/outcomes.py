"""Results of inspections, as they are reported back; the ranking learns from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import select

from trace_engine.store.audit import without_nul
from trace_engine.store.database import Database, draw_numbers, insert_many, lock_counter
from trace_engine.store.moments import from_micros
from trace_engine.store.tables import OUTCOME

COUNTER_NAME = "outcome"
_IDS_AT_ONCE = 10_000


class OutcomeConflict(Exception):  # noqa: N818 - says what is the case
    """An outcome of this id is stored, with another content; nothing was added.

    ``outcome_ids`` names all of them.
    """

    def __init__(self, outcome_ids: list[str]) -> None:
        super().__init__(f"stored before with another content: {', '.join(outcome_ids[:10])}")
        self.outcome_ids = outcome_ids


class OutcomeStore:
    """The outcomes of a database. Thread-safe.

    An outcome is a mapping that JSON can hold (dates and times become ISO text) with an
    ``outcome_id`` and, for most uses, the columns of the registry's table ``inspections``. Read
    back it also has ``number`` and ``stored_at`` (aware, UTC).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Store outcomes, all or none, and return the ids of those that are new.

        Idempotent by ``outcome_id``. Raises :class:`OutcomeConflict` where one is known with
        another content, in the store or among ``outcomes``.
        """
        texts: dict[str, str] = {}
        subjects: dict[str, str | None] = {}
        conflicts: list[str] = []
        for outcome in outcomes:
            outcome_id = str(outcome["outcome_id"])
            text = _encode(outcome)
            if texts.setdefault(outcome_id, text) != text:
                conflicts.append(outcome_id)
            subject = outcome.get("enterprise_id")
            subjects[outcome_id] = None if subject is None else without_nul(str(subject))
        with self._database.write() as connection:
            lock_counter(connection, COUNTER_NAME)
            known: dict[str, str] = {}
            ids = list(texts)
            for begin in range(0, len(ids), _IDS_AT_ONCE):
                query = select(OUTCOME.c.outcome_id, OUTCOME.c.document).where(
                    OUTCOME.c.outcome_id.in_(ids[begin : begin + _IDS_AT_ONCE])
                )
                known.update((row.outcome_id, row.document) for row in connection.execute(query))
            conflicts += [key for key, text in known.items() if text != texts[key]]
            if conflicts:
                raise OutcomeConflict(sorted(set(conflicts)))
            new = [outcome_id for outcome_id in texts if outcome_id not in known]
            numbers = draw_numbers(connection, COUNTER_NAME, len(new))
            now = self._database.now()
            insert_many(
                connection,
                OUTCOME,
                [
                    (number, outcome_id, subjects[outcome_id], now, texts[outcome_id])
                    for number, outcome_id in zip(numbers, new, strict=True)
                ],
            )
        return new

    def page(
        self, after: int | None, limit: int, *, enterprise_id: str | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return up to ``limit`` outcomes, newest first, and the number to go on after.

        The number is None at the end. ``enterprise_id``: of this enterprise only.
        """
        query = select(OUTCOME)
        if enterprise_id is not None:
            query = query.where(OUTCOME.c.enterprise_id == enterprise_id)
        if after is not None:
            query = query.where(OUTCOME.c.number < after)
        with self._database.read() as connection:
            found = connection.execute(
                query.order_by(OUTCOME.c.number.desc()).limit(limit + 1)
            ).all()
        rows = [_outcome(row) for row in found]
        return (rows, None) if len(rows) <= limit else (rows[:limit], rows[limit - 1]["number"])

    def all(self) -> list[dict[str, Any]]:
        """Return all outcomes, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(OUTCOME).order_by(OUTCOME.c.number)).all()
        return [_outcome(row) for row in rows]


def _encode(outcome: Mapping[str, Any]) -> str:
    # Sorted, so that the same outcome is the same text.
    return msgspec.json.encode(dict(outcome), enc_hook=_plain, order="sorted").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise TypeError(f"an outcome cannot hold a {type(value).__name__}")


def _outcome(row: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(row.document)
    return document | {"number": row.number, "stored_at": from_micros(row.stored_at)}
