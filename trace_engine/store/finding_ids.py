"""Which ids are those of findings."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from trace_engine.store.database import Database
from trace_engine.store.tables import FINDING

_IDS_AT_ONCE = 10_000  # parameters of one statement: SQLite takes 32 766


def known_findings(database: Database, finding_ids: Iterable[str]) -> set[str]:
    """Return those of ``finding_ids`` that are stored, without reading the findings."""
    wanted = sorted(set(finding_ids))
    known: set[str] = set()
    with database.read() as connection:
        for begin in range(0, len(wanted), _IDS_AT_ONCE):
            part = wanted[begin : begin + _IDS_AT_ONCE]
            query = select(FINDING.c.finding_id).where(FINDING.c.finding_id.in_(part))
            known.update(connection.execute(query).scalars())
    return known
