"""Retention: what is older than the policy says is deleted, in small steps.

Traceability data and the records of supervision are kept for at least five years
(``docs/store.md``); a shorter time is refused, whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, delete, select

from trace_engine.store.database import Database
from trace_engine.store.findings_table import delete_findings
from trace_engine.store.moments import to_micros
from trace_engine.store.tables import AUDIT, DELIVERY, FINDING, OUTCOME, PLAN, REJECT
from trace_engine.store.webhooks import WAITING

LEAST_YEARS = 5
STEP_ROWS = 500
# What was sent out is a copy of what stands in the findings.
DELIVERY_DAYS = 90


def apply_retention(
    database: Database, years: int, now: datetime, *, step_rows: int = STEP_ROWS
) -> dict[str, int]:
    """Delete what was stored more than ``years`` before ``now``; return rows deleted by table.

    A finding counts from when it last changed. Deliveries that are done go after
    ``DELIVERY_DAYS``. Each step is a transaction of its own, so that others can write in between,
    and a crash loses at most the rest of the work. Raises ``ValueError`` for less than five years.
    """
    if years < LEAST_YEARS:
        raise ValueError(f"records are kept for at least {LEAST_YEARS} years, not {years}")
    before = to_micros(years_before(now, years))
    deleted = {FINDING.name: _repeat(database, lambda c: _findings(c, before, step_rows))}
    for table, time in (
        (REJECT, "stored_at"), (OUTCOME, "stored_at"), (PLAN, "made_at"), (AUDIT, "at"),
    ):  # fmt: skip
        deleted[table.name] = _repeat(database, _oldest(table, time, before, step_rows))
    done = to_micros(now - timedelta(days=DELIVERY_DAYS))
    deleted[DELIVERY.name] = _repeat(database, lambda c: _deliveries(c, done, step_rows))
    return deleted


def years_before(moment: datetime, years: int) -> datetime:
    """Return the same day and time ``years`` earlier; 29 February may become the 28th."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)


def _repeat(database: Database, step: Callable[[Connection], int]) -> int:
    total = 0
    while True:
        with database.write() as connection:
            count = step(connection)
        if not count:
            return total
        total += count


def _findings(connection: Connection, before: int, step_rows: int) -> int:
    # Numbers rise with the time of storing, so the oldest stand first and no index is needed.
    rows = connection.execute(
        select(FINDING.c.id, FINDING.c.stored_at).order_by(FINDING.c.number).limit(step_rows)
    ).all()
    ids = [row.id for row in rows if row.stored_at < before]
    if ids:
        delete_findings(connection, ids)
    return len(ids)


def _oldest(table: Table, time: str, before: int, step_rows: int) -> Callable[[Connection], int]:
    def step(connection: Connection) -> int:
        rows = connection.execute(
            select(table.c.number, table.c[time]).order_by(table.c.number).limit(step_rows)
        ).all()
        numbers = [number for number, at in rows if at < before]
        if numbers:
            connection.execute(delete(table).where(table.c.number.in_(numbers)))
        return len(numbers)

    return step


def _deliveries(connection: Connection, before: int, step_rows: int) -> int:
    numbers = (
        connection.execute(
            select(DELIVERY.c.number)
            .where(DELIVERY.c.state != WAITING, DELIVERY.c.done_at < before)
            .limit(step_rows)
        )
        .scalars()
        .all()
    )
    if numbers:
        connection.execute(delete(DELIVERY).where(DELIVERY.c.number.in_(numbers)))
    return len(numbers)
