"""Findings in the database: added once, grown by what comes late, listed by what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from trace_engine.events.findings import FINDINGS
from trace_engine.store.database import (
    Database,
    draw_numbers,
    insert_many,
    last_number,
    lock_counter,
)
from trace_engine.store.finding_columns import RankingColumns
from trace_engine.store.finding_query import FindingFilters, conditions_of, numbers_of_page
from trace_engine.store.finding_rows import (
    Document,
    decode,
    documents_of,
    encode,
    merge,
    times_of,
    to_table,
)
from trace_engine.store.moments import from_micros
from trace_engine.store.tables import FINDING, FINDING_CODE, FINDING_DOCUMENT, MOST_INDEXED, indexed

__all__ = ["FindingFilters", "FindingStore"]

COUNTER_NAME = "finding"
# Parameters of one statement: SQLite takes 32 766, PostgreSQL 65 535.
_IDS_AT_ONCE = 10_000
_ROWS_AT_ONCE = 5_000


class _Raised(NamedTuple):
    """A finding to be stored: its document, the time of its event in µs UTC, whether late."""

    document: Document
    time: int | None
    late: bool


class FindingStore:
    """The findings of a database. Thread-safe.

    A row is a dict with the columns of ``FINDINGS`` (``event_time`` an aware time, ``evidence``
    JSON text) and ``number``, ``late``, ``revision``, ``offset`` (of the record of the journal it
    last came from) and ``stored_at`` (aware, UTC).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._columns = RankingColumns(database)

    def add(self, findings: pa.Table, offset: int, late: Sequence[bool]) -> list[int]:
        """Store what the record at ``offset`` raised; return the numbers of new or changed rows.

        ``findings`` has schema ``FINDINGS``. Idempotent: a finding known from this offset or a
        later one is a replay and ignored, so all findings of one record must come in one call. One
        known from an earlier record grows (:func:`trace_engine.store.finding_rows.merge`) and gets
        a new number, higher than all there are.
        """
        rows: dict[str, _Raised] = {}
        for document, time, is_late in zip(
            documents_of(findings), times_of(findings), late, strict=True
        ):
            finding_id = document["finding_id"]
            if (first := rows.get(finding_id)) is not None:
                document, time = merge(first.document, document, offset), first.time
                is_late = first.late or is_late
            rows[finding_id] = _Raised(document, time, bool(is_late))
        if not rows:
            return []
        with self._database.write() as connection:
            # Before looking at what is known: nobody else may add the same findings meanwhile.
            lock_counter(connection, COUNTER_NAME)
            known = _known(connection, list(rows))
            wanted = [
                finding_id
                for finding_id in rows
                if finding_id not in known or known[finding_id].last_offset < offset
            ]
            numbers = draw_numbers(connection, COUNTER_NAME, len(wanted))
            now = self._database.now()
            new = []
            for number, finding_id in zip(numbers, wanted, strict=True):
                if finding_id in known:
                    _grow(connection, known[finding_id], rows[finding_id], offset, number, now)
                else:
                    new.append((number, rows[finding_id]))
            _insert(connection, new, offset, now)
        return list(numbers)

    def page(
        self,
        filters: FindingFilters,
        after: int | None,
        limit: int,
        order: Literal["newest", "oldest"] = "newest",
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return up to ``limit`` rows by number, and the number to go on after, None at the end.

        ``after`` is the number the last page gave, None for the first page.
        """
        newest = order == "newest"
        with self._database.read() as connection:
            numbers = numbers_of_page(connection, filters, after, limit + 1, newest=newest)
            page = numbers[:limit]
            if not page:
                return [], None
            rows = connection.execute(_SELECT.where(FINDING.c.number.in_(page))).all()
        rows = sorted(rows, key=lambda row: row.number, reverse=newest)
        return [_public(row) for row in rows], page[-1] if len(numbers) > limit else None

    def get(self, finding_id: str) -> dict[str, Any] | None:
        """Return one finding, None if there is none of this id."""
        with self._database.read() as connection:
            row = connection.execute(_SELECT.where(FINDING.c.finding_id == finding_id)).first()
        return None if row is None else _public(row)

    def after(self, number: int, limit: int) -> list[dict[str, Any]]:
        """Return up to ``limit`` rows with higher numbers, in their order."""
        return self.page(FindingFilters(), number, limit, order="oldest")[0]

    def last_number(self) -> int:
        """Return the highest number given so far; 0 before the first finding."""
        with self._database.read() as connection:
            return last_number(connection, COUNTER_NAME)

    def count(self) -> int:
        """Return how many findings there are."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(FINDING)).scalar_one()

    def new_since(self, number: int) -> tuple[int, int]:
        """Return how many findings were first stored after ``number`` was given, and the last number.

        Costs what was stored since, not what there is. Findings that grew since are not new.
        """
        # The inner id of a finding is the first number it had (see _row).
        query = select(
            func.count().filter(FINDING.c.id > number), func.max(FINDING.c.number)
        ).where(FINDING.c.number > number)
        with self._database.read() as connection:
            new, last = connection.execute(query).one()
        return new, number if last is None else last

    def for_ranking(self) -> pa.Table:
        """Return the columns that :func:`trace_engine.ranking.rank` reads, of all findings."""
        return self._columns.table()

    def table(
        self,
        filters: FindingFilters,
        subjects: Sequence[str] | None = None,
        columns: Sequence[str] = tuple(FINDINGS.names),
    ) -> pa.Table:
        """Return findings (schema ``FINDINGS``) by number; of ``subjects`` only, if given.

        ``columns``: those alone are kept, in their order.
        """
        tables = [to_table(rows).select(columns) for rows in self._parts(filters, subjects)]
        return pa.concat_tables(tables) if tables else FINDINGS.empty_table().select(columns)

    def _parts(
        self, filters: FindingFilters, subjects: Sequence[str] | None
    ) -> Iterator[list[dict[str, Any]]]:
        query = conditions_of(_SELECT, filters)
        if subjects is not None:
            query = query.where(FINDING.c.subject_id.in_([indexed(one) for one in subjects]))
        query = query.order_by(FINDING.c.number).limit(_ROWS_AT_ONCE)
        after = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(FINDING.c.number > after)).all()
            if rows:
                yield [_public(row) for row in rows]
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = rows[-1].number


_SELECT = select(
    FINDING.c.number,
    FINDING.c.late,
    FINDING.c.revision,
    FINDING.c.last_offset,
    FINDING.c.stored_at,
    FINDING_DOCUMENT.c.document,
).join_from(FINDING, FINDING_DOCUMENT, FINDING_DOCUMENT.c.id == FINDING.c.id)


def _public(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """Return a row of ``_SELECT`` as callers see it."""
    document = decode(row.document)
    time = document["event_time"]
    document["event_time"] = None if time is None else datetime.fromisoformat(time)
    document["number"] = row.number
    document["late"] = row.late
    document["revision"] = row.revision
    document["offset"] = row.last_offset
    document["stored_at"] = from_micros(row.stored_at)
    return document


def _known(connection: Connection, ids: list[str]) -> dict[str, Any]:
    """Return the rows of those of ``ids`` that are stored."""
    known = {}
    for begin in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[begin : begin + _IDS_AT_ONCE]
        query = select(
            FINDING.c.finding_id, FINDING.c.id, FINDING.c.late, FINDING.c.last_offset
        ).where(FINDING.c.finding_id.in_(part))
        for row in connection.execute(query):
            known[row.finding_id] = row
    return known


def _insert(connection: Connection, new: list[tuple[int, _Raised]], offset: int, now: int) -> None:
    insert_many(connection, FINDING, [_row(number, raised, offset, now) for number, raised in new])
    insert_many(
        connection, FINDING_DOCUMENT, [(number, encode(raised.document)) for number, raised in new]
    )
    # In the order of the index: codes of one request are near each other.
    codes = [(code, number) for number, raised in new for code in _codes(raised.document)]
    codes.sort()
    insert_many(connection, FINDING_CODE, codes)


def _codes(document: Document) -> list[str]:
    """Return all codes of a finding as they are indexed, each once."""
    codes = dict.fromkeys(code[:MOST_INDEXED] for code in document["codes"] or ())
    if document["code"]:
        codes.setdefault(document["code"][:MOST_INDEXED])
    return list(codes)


def _row(number: int, raised: _Raised, offset: int, now: int) -> tuple[Any, ...]:
    """Return a new row of ``FINDING``; its inner id is its first number."""
    document = raised.document
    region = indexed(document["region"])
    return (
        number,
        number,
        document["finding_id"],
        document["detector"],
        document["family"],
        document["severity"],
        raised.time,
        indexed(document["subject_id"]),
        document["subject_type"],
        indexed(document["drug_id"]),
        indexed(document["batch_no"]),
        region,
        region[:2] if region else None,
        region[:4] if region else None,
        indexed(document["jurisdiction"]),
        document["code_count"],
        document["amount"],
        raised.late,
        0,  # revision
        offset,
        offset,
        now,
    )


def _grow(
    connection: Connection, known: Any, more: _Raised, offset: int, number: int, now: int
) -> None:
    text = connection.execute(
        select(FINDING_DOCUMENT.c.document).where(FINDING_DOCUMENT.c.id == known.id)
    ).scalar_one()
    document = decode(text)
    before = set(_codes(document))
    document = merge(document, more.document, offset)
    connection.execute(
        update(FINDING)
        .where(FINDING.c.id == known.id)
        .values(
            number=number,
            severity=document["severity"],
            code_count=document["code_count"],
            amount=document["amount"],
            late=bool(known.late or more.late),
            revision=FINDING.c.revision + 1,
            last_offset=offset,
            stored_at=now,
        )
    )
    connection.execute(
        update(FINDING_DOCUMENT)
        .where(FINDING_DOCUMENT.c.id == known.id)
        .values(document=encode(document))
    )
    added = [{"code": code, "id": known.id} for code in _codes(document) if code not in before]
    if added:
        connection.execute(insert(FINDING_CODE), added)


def delete_findings(connection: Connection, ids: Sequence[int]) -> None:
    """Delete findings by their inner ids, with documents and codes."""
    documents = connection.execute(
        select(FINDING_DOCUMENT.c.id, FINDING_DOCUMENT.c.document).where(
            FINDING_DOCUMENT.c.id.in_(ids)
        )
    ).all()
    for key, text in documents:
        codes = _codes(decode(text))
        for begin in range(0, len(codes), _IDS_AT_ONCE):
            connection.execute(
                delete(FINDING_CODE).where(
                    FINDING_CODE.c.id == key,
                    FINDING_CODE.c.code.in_(codes[begin : begin + _IDS_AT_ONCE]),
                )
            )
    connection.execute(delete(FINDING).where(FINDING.c.id.in_(ids)))
